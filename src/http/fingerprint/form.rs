//! The digest of a request by rules.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};

use super::media_type::MediaType;
use super::pointer::Pointer;
use super::rules::{BodyRule, FingerprintRules};
use super::{member, multipart};
use crate::core::{Fingerprint, spelled};

/// What counts, in its order.
type Components<'a> = Vec<Cow<'a, [u8]>>;

/// With the digest by these rules: `first` has method, path, query, the type as it
/// came and the body, and so has this, each as the rules say.
#[cold]
#[inline(never)]
pub(crate) fn by_rules(
    sent: Fingerprint,
    rules: &FingerprintRules,
    parts: &Parts,
    first: [&[u8]; 4],
    body: &Bytes,
) -> Fingerprint {
    let [method, path, query, line] = first;
    let (kind, body) = content(rules, parts, line, body);
    // By the rules of number 0 this is said by the first digest already.
    if rules.number == 0 && *kind == *line && body.len() == 1 {
        return sent;
    }
    let query = if rules.query { query } else { b"" };
    let mut counts: Components<'_> = vec![method.into(), path.into(), query.into(), kind];
    rules.headers.iter().for_each(|name| header(&mut counts, parts, name));
    counts.extend(body);
    sent.with_rules(rules.number, counts.iter().map(|component| &**component))
}

/// How many lines there are, and the lines.
fn header<'a>(counts: &mut Components<'a>, parts: &'a Parts, name: &HeaderName) {
    let lines: Vec<_> = parts.headers.get_all(name).iter().map(|line| Cow::from(line.as_bytes())).collect();
    counts.push(lines.len().to_string().into_bytes().into());
    counts.extend(lines);
}

/// The type, and the body. A body that is taken apart has a mark before it.
fn content<'a>(
    rules: &FingerprintRules,
    parts: &Parts,
    line: &'a [u8],
    body: &'a Bytes,
) -> (Cow<'a, [u8]>, Components<'a>) {
    let media_type = MediaType::parse(line);
    let spelled = media_type.as_ref().filter(|_| !rules.exact_type);
    let boundary = spelled.and_then(|found| found.boundary);
    let taken_apart = match (&rules.body, &media_type) {
        (BodyRule::Ignored, _) => Some(Vec::new()),
        (BodyRule::Custom(_, custom), _) => Some(marked(b"custom", [custom(parts, body).into()])),
        _ if !is_said_by_one_type(&parts.headers) => None,
        (BodyRule::Json { without, only }, Some(found)) if found.is_json() => json(body, without, only),
        _ => boundary.and_then(|boundary| parts_of(body, boundary)),
    };
    // The boundary of a body that counts byte by byte is part of the line.
    let spelled = spelled.filter(|_| boundary.is_none() || taken_apart.is_some());
    let kind = spelled.map_or_else(|| line.into(), |found| found.text.clone().into_bytes().into());
    (kind, taken_apart.unwrap_or_else(|| vec![body[..].into()]))
}

/// Whether nothing but its one type says how a body is to be read. With a second one, or with
/// a coding, its receiver may find other things in it than are found here.
fn is_said_by_one_type(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CONTENT_ENCODING).iter();
    let mut codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let has_none = codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"));
    has_none && headers.get_all(CONTENT_TYPE).iter().nth(1).is_none()
}

fn parts_of<'a>(body: &'a [u8], boundary: &str) -> Option<Components<'a>> {
    let pieces = multipart::split(body, boundary)?;
    Some(marked(b"multipart", pieces.into_iter().map(Cow::from)))
}

fn marked<'a>(mark: &'static [u8], body: impl IntoIterator<Item = Cow<'a, [u8]>>) -> Components<'a> {
    std::iter::once(mark.into()).chain(body).collect()
}

/// `None` if it is no JSON. Of members that are looked at alone, whether each is there
/// counts too.
fn json(body: &[u8], without: &[Pointer], only: &[Pointer]) -> Option<Components<'static>> {
    let mut spelled = spelled(body)?;
    without.iter().for_each(|pointer| member::leave_out(&mut spelled, pointer));
    if only.is_empty() {
        return Some(marked(b"json", [spelled.into()]));
    }
    let mut counts = marked(b"json", []);
    for pointer in only {
        match member::find(&spelled, pointer) {
            Some(found) => counts.extend([Cow::from(b"1".as_slice()), found.to_vec().into()]),
            None => counts.push(b"0".into()),
        }
    }
    Some(counts)
}
