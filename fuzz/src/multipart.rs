//! Two multipart bodies: type, body, type and body, with record separators between them.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use tower_idempotency::FingerprintRules;

/// What holds of any two bodies.
pub fn check(data: &[u8]) {
    let mut pieces = data.split(|byte| *byte == 0x1e);
    let mut piece = || pieces.next().unwrap_or_default();
    let [one, other] = [(); 2].map(|()| Sent { kind: piece(), body: piece() });
    if let (Some(request), Some(another)) = (one.request(), other.request()) {
        let rules = FingerprintRules::new();
        let same = rules.same(&request, &another);
        assert_eq!(same, rules.same(&another, &request));
        assert!(rules.same(&request, &request) && rules.same(&another, &another));
        for (n, receiver) in RECEIVERS.iter().enumerate() {
            assert!(
                !same || one.as_seen_by(receiver) == other.as_seen_by(receiver),
                "receiver {n} can tell them apart"
            );
        }
        let exact = FingerprintRules::new().exact_content_type();
        assert_eq!(exact.same(&request, &another), (one.kind, one.body) == (other.kind, other.body));
    }
    is_the_same_by_another_boundary([one.body, other.body]);
}

/// A client that sends its form again draws another boundary.
fn is_the_same_by_another_boundary(parts: [&[u8]; 2]) {
    let boundaries = ["------------------------d74496d66958873e", "a b"];
    let is_in = |boundary: &str| parts.iter().any(|part| count(part, boundary.as_bytes()) > 0);
    if boundaries.into_iter().any(is_in) {
        return;
    }
    let [one, other] = boundaries.map(|boundary| {
        let [line, line_end] = [format!("--{boundary}\r\n"), "\r\n".to_owned()];
        let body = [line.as_bytes(), parts[0], line_end.as_bytes(), line.as_bytes(), parts[1]].concat();
        let body = [&body[..], format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
        Sent { kind: format!("Multipart/Form-Data; Boundary=\"{boundary}\"").as_bytes(), body: &body }
            .request()
            .unwrap()
    });
    assert!(FingerprintRules::new().same(&one, &other));
}

struct Sent<'a> {
    kind: &'a [u8],
    body: &'a [u8],
}

/// How one finds the boundary in a type, and how it finds that in a body.
type Receiver = (fn(&str) -> Option<String>, fn(&[u8], &[u8]) -> Vec<Vec<u8>>);

const RECEIVERS: [Receiver; 12] = [
    (first_boundary, strict),
    (first_boundary, by_lines),
    (first_boundary, anywhere),
    (last_boundary, strict),
    (last_boundary, by_lines),
    (last_boundary, anywhere),
    (boundary_anywhere, strict),
    (boundary_anywhere, by_lines),
    (boundary_anywhere, anywhere),
    (extended_boundary, strict),
    (extended_boundary, by_lines),
    (extended_boundary, anywhere),
];

impl Sent<'_> {
    fn request(&self) -> Option<Request<Bytes>> {
        let request = Request::post("/pay").header(CONTENT_TYPE, HeaderValue::from_bytes(self.kind).ok()?);
        request.body(Bytes::copy_from_slice(self.body)).ok()
    }

    /// Its parts, or one, where none are found.
    fn as_seen_by(&self, (boundary, parts): &Receiver) -> Vec<Vec<u8>> {
        let kind = String::from_utf8_lossy(self.kind);
        match boundary(&kind).filter(|boundary| !boundary.is_empty()) {
            Some(boundary) if kind.to_ascii_lowercase().starts_with("multipart/") => {
                parts(self.body, boundary.as_bytes())
            }
            _ => vec![self.body.to_vec()],
        }
    }
}

fn boundaries(kind: &str, name: &str) -> Vec<String> {
    let parameters = kind.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let named = parameters.filter(|(found, _)| found.trim().eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim().trim_matches('"').to_owned()).collect()
}

fn first_boundary(kind: &str) -> Option<String> {
    boundaries(kind, "boundary").into_iter().next()
}

fn last_boundary(kind: &str) -> Option<String> {
    boundaries(kind, "boundary").pop()
}

/// By RFC 2231, where it counts more than the plain one.
fn extended_boundary(kind: &str) -> Option<String> {
    let mut extended = boundaries(kind, "boundary*");
    extended.extend(boundaries(kind, "boundary*0"));
    let Some(value) = extended.first() else { return first_boundary(kind) };
    value.rsplit('\'').next().map(str::to_owned)
}

/// Behind the first equals sign after the word, as PHP does.
fn boundary_anywhere(kind: &str) -> Option<String> {
    let behind = &kind[kind.to_ascii_lowercase().find("boundary")?..];
    let value = behind.split_once('=')?.1;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().map(str::to_owned),
        None => value.split([',', ';']).next().map(str::to_owned),
    }
}

/// Between line breaks, as RFC 2046 has it, up to the last boundary.
fn strict(body: &[u8], boundary: &[u8]) -> Vec<Vec<u8>> {
    let lines = [b"\r\n", body, b"\r\n"].concat();
    split(&lines, &[b"\r\n--", boundary].concat())
}

/// Whatever ends a line, and whatever stands behind the boundary on it.
fn by_lines(body: &[u8], boundary: &[u8]) -> Vec<Vec<u8>> {
    let delimiter = [b"--", boundary].concat();
    let mut parts = vec![Vec::new()];
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.strip_prefix(&delimiter[..]) {
            Some(behind) => parts.push([behind, b"\n"].concat()),
            None => parts.last_mut().unwrap().extend([line, b"\n"].concat()),
        }
    }
    parts
}

/// Wherever it stands.
fn anywhere(body: &[u8], boundary: &[u8]) -> Vec<Vec<u8>> {
    split(body, &[b"--", boundary].concat())
}

fn split(text: &[u8], by: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(by) {
            parts.push(Vec::new());
            at += by.len();
        } else {
            parts.last_mut().unwrap().push(text[at]);
            at += 1;
        }
    }
    parts
}

fn count(text: &[u8], part: &[u8]) -> usize {
    text.windows(part.len()).filter(|window| *window == part).count()
}
