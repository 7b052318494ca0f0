//! Values for the cases.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::core::{Change, Claim, Fingerprint, Key, Labels, Mode, Reached, StoredRequest, StoredResponse};

/// The n-th key.
pub(super) fn key(n: u32) -> Key {
    let mut bytes = [0x6b; 32];
    bytes[28..].copy_from_slice(&n.to_be_bytes());
    Key::from_bytes(bytes)
}

/// A claim that may be resumed, with a small request.
pub(super) fn claim(lease: Duration) -> Claim {
    Claim {
        fingerprint: Fingerprint::of([b"POST".as_slice(), b"/payments"]),
        mode: Mode::Resumable,
        lease,
        request: Some(request(b"{\"amount\":1}")),
        labels: Labels::new(),
    }
}

/// A claim without a request.
pub(super) fn bare_claim(lease: Duration) -> Claim {
    Claim { request: None, ..claim(lease) }
}

pub(super) fn request(body: &[u8]) -> Arc<StoredRequest> {
    let uri = Uri::from_static("/payments?dry=0&x=%20");
    Arc::new(StoredRequest::capture(&Method::POST, &uri, &headers(), Bytes::copy_from_slice(body)))
}

pub(super) fn response(status: u16, body: Option<&[u8]>) -> Arc<StoredResponse> {
    let status = StatusCode::from_u16(status).expect("a status");
    Arc::new(StoredResponse::capture(status, &headers(), body.map(Bytes::copy_from_slice)))
}

/// Duplicates in their order, an empty value, bytes that are not UTF-8, and a name that only
/// HTTP/2 has.
pub(super) fn headers() -> HeaderMap {
    let lines: [(&str, &[u8]); 7] = [
        ("content-type", b"application/json"),
        ("link", b"<b>; rel=next"),
        ("link", b"<a>; rel=prev"),
        ("x-empty", b""),
        ("x-latin-1", b"caf\xe9 \xff\x80"),
        ("x-\"quoted\"", b"1"),
        ("link", b"<b>; rel=next"),
    ];
    let value = |bytes| HeaderValue::from_bytes(bytes).expect("a header value");
    lines.into_iter().map(|(name, bytes)| (HeaderName::from_static(name), value(bytes))).collect_multi()
}

trait CollectMulti {
    fn collect_multi(self) -> HeaderMap;
}

impl<I: Iterator<Item = (HeaderName, HeaderValue)>> CollectMulti for I {
    fn collect_multi(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }
}

pub(super) fn begin(step: &str) -> Change {
    Change::Begin { step: step.into() }
}

pub(super) fn save(step: &str, value: &[u8]) -> Change {
    Change::Save { step: step.into(), value: Bytes::copy_from_slice(value) }
}

pub(super) fn complete(body: &[u8], retention: Duration) -> Change {
    Change::Complete { response: response(201, Some(body)), retention, reached: Reached::All }
}

/// Bytes that compress badly and repeat late.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(17);
    (0..len).map(|_| rng.u8(..)).collect()
}
