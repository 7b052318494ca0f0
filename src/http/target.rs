//! What a request is aimed at, and what makes it the same as another one.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST};
use http::request::Parts;
use http::{HeaderMap, Request, Uri};

use crate::core::{Fingerprint, is_grpc, is_of_request};
use crate::engine::content::Content;
use crate::http::extract::original_uri;
use crate::http::fingerprint::form::by_rules;
use crate::http::fingerprint::rules::FingerprintRules;

/// No header line has it, so that it tells two lists apart.
const BETWEEN: &[u8] = b"\0";

/// Method, authority, path and query as they came, how the body is to be read,
/// body, and trailers where they count.
pub(crate) fn fingerprint(parts: &Parts, body: &Content, rules: &FingerprintRules) -> Fingerprint {
    let target = original_uri(parts);
    let lines = Lines::of(&parts.headers);
    let head = [
        parts.method.as_str().as_bytes(),
        target.path().as_bytes(),
        target.query().unwrap_or_default().as_bytes(),
        lines.content_type.unwrap_or_default(),
    ];
    let [method, path, query, kind] = head;
    let mut first = Fingerprint::of([method, path, query, kind, &body.bytes]);
    if rules.says_more(lines.content_type) {
        first = by_rules(first, rules, parts, head, &body.bytes);
    }
    // Most have none.
    if let Some(trailers) = &body.trailers
        && (rules.trailers || lines.content_type.is_some_and(is_grpc))
    {
        first = of_trailers(first, trailers);
    }
    let authority = rules.authority.then(|| authority(target, lines.host));
    if !lines.has_more {
        return first.scheme_2(authority, []);
    }
    let codings = codings(&parts.headers);
    let types = parts.headers.get_all(CONTENT_TYPE).iter().skip(1).map(|line| line.as_bytes());
    let coded = codings.iter().flat_map(|coding| [BETWEEN, coding.as_slice()]);
    first.scheme_2(authority, types.collect::<Vec<_>>().into_iter().chain(coded))
}

impl FingerprintRules {
    /// Whether two requests without trailers are the same by these rules, as a layer that has
    /// them finds.
    pub fn same(&self, one: &Request<Bytes>, other: &Request<Bytes>) -> bool {
        let [one, other] = [one, other].map(|request| {
            let (parts, body) = request.clone().into_parts();
            fingerprint(&parts, &body.into(), self)
        });
        one.matches(&other)
    }
}

/// With the trailers, whatever the order of their names: that of the lines of one
/// name says something, and no other.
fn of_trailers(fingerprint: Fingerprint, trailers: &HeaderMap) -> Fingerprint {
    let mut lines: Vec<_> = trailers.iter().filter(|(name, _)| is_of_request(name)).collect();
    lines.sort_by_key(|(name, _)| name.as_str());
    fingerprint.with_trailers(lines.into_iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
}

/// The header lines that count.
#[derive(Default)]
struct Lines<'a> {
    host: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    /// Further content types, or an encoding: as good as none has any.
    has_more: bool,
}

impl<'a> Lines<'a> {
    /// One walk, which costs less than to look for three of them.
    fn of(headers: &'a HeaderMap) -> Self {
        let mut lines = Self::default();
        for (name, value) in headers {
            if *name == CONTENT_TYPE {
                lines.has_more |= lines.content_type.is_some();
                lines.content_type.get_or_insert(value.as_bytes());
            } else if *name == HOST {
                lines.host.get_or_insert(value.as_bytes());
            } else if *name == CONTENT_ENCODING {
                lines.has_more = true;
            }
        }
        lines
    }
}

/// A list (RFC 9110 §5.6.1), however many lines it came in, whatever the case.
fn codings(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = headers.get_all(CONTENT_ENCODING).iter();
    let lists = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let codings = lists.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty());
    codings.map(<[u8]>::to_ascii_lowercase).collect()
}

/// Whom it is for: what the target names in HTTP/2 (`:authority`) or in absolute
/// form, which counts more than `Host` (RFC 9112 §3.2.2), else `Host`. Without
/// a port that says nothing: none, or that of a scheme.
fn authority<'a>(target: &'a Uri, host: Option<&'a [u8]>) -> &'a [u8] {
    let named = target.authority().map(|authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    let host = named.map_or_else(|| host.unwrap_or_default(), str::as_bytes);
    // Most end with a letter, or with another port.
    if !matches!(host.last(), Some(b'0' | b'3' | b':')) {
        return host;
    }
    let plain = [b":80".as_slice(), b":443", b":"].into_iter().find_map(|port| host.strip_suffix(port));
    plain.unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print_of(parts: &Parts, body: &'static str, by_authority: bool) -> Fingerprint {
        let rules = FingerprintRules { authority: by_authority, ..FingerprintRules::new() };
        fingerprint(parts, &Bytes::from(body).into(), &rules)
    }

    fn parts(target: &str, lines: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::builder().method("POST").uri(target);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// Reckoned elsewhere: SHA-256 over each part behind its length.
    #[test]
    fn the_first_scheme_never_changes() {
        let lines = [("content-type", "application/json"), ("content-type", "x"), ("host", "shop.example")];
        let found = print_of(&parts("/payments?a=1&b", &lines), "{\"amount\":1999}", true);
        assert_eq!(hex(&found), "6022e583fb2cb1e0fc190cc4f3d46cb615df0335b5c89b239becf122758c20b0");
        let mut least = parts("/", &[]);
        least.method = http::Method::PATCH;
        assert_eq!(
            hex(&print_of(&least, "", false)),
            "a72f39c981c883c5887ca64f1e2a30d19ef5377208158fa1fcf6f2473a4c9b0d"
        );
    }

    fn hex(fingerprint: &Fingerprint) -> String {
        fingerprint.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn one_authority_has_one_form() {
        let forms = [
            ("/", "Shop.Example", "shop.example"),
            ("/", "shop.example:80", "shop.example"),
            ("/", "shop.example:443", "shop.example"),
            ("/", "shop.example:", "shop.example"),
            ("/", "shop.example:8080", "shop.example:8080"),
            ("/", "shop.example:8443", "shop.example:8443"),
            ("/", "[2001:DB8::80]", "[2001:db8::80]"),
            ("/", "[::80]:80", "[::80]"),
            ("/", "", ""),
            ("http://user:word@Shop.example:80/", "other", "shop.example"),
            ("https://[::1]:443/", "other", "[::1]"),
        ];
        for (target, host, expected) in forms {
            let parts = parts(target, &[("host", host), ("host", "second")]);
            let found = authority(&parts.uri, Lines::of(&parts.headers).host);
            assert_eq!(String::from_utf8_lossy(found).to_ascii_lowercase(), expected, "{target} {host}");
        }
    }

    #[test]
    fn a_type_is_no_coding() {
        let print = |lines: &[(&'static str, &str)]| print_of(&parts("/", lines), "", true);
        let (a, b) = (("content-type", "a"), ("content-type", "gzip"));
        let prints = [print(&[a]), print(&[a, b]), print(&[a, ("content-encoding", "gzip")]), print(&[a, b, b])];
        for (n, one) in prints.iter().enumerate() {
            for (m, other) in prints.iter().enumerate() {
                assert_eq!(one.matches(other), n == m, "{n} and {m}");
            }
        }
    }
}
