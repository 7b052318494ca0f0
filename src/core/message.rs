//! Requests and responses as they are kept, and which headers are.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::{
    AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode, Uri};

/// Up to this many bytes, a body is copied to be kept: it may be a slice of a
/// buffer that is much larger, and would keep all of that.
const COPIED: usize = 16 << 10;

/// A request as it is kept for whoever has to run it again.
///
/// Credentials are left out: `Cookie` and every header whose name speaks of
/// authentication, a session, a token, secret, password, credential, signature,
/// certificate or key. So is the client's `Idempotency-Key` (a record must not
/// give it away), and so are the fields that belong to the connection. The
/// request target and the body are kept as they came.
///
/// What a `Connection` header names is kept: hyper and axum hand it to the
/// handler, so a rerun has to see it too, and no client can choose what it
/// lacks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredRequest {
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl StoredRequest {
    /// Keeps a request, less credentials and connection fields.
    pub fn capture(method: &Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Self {
        let keep = |name: &HeaderName| !is_of_connection(name) && !is_credential(name);
        Self::from_parts(method.clone(), uri.clone(), kept(headers, keep), on_its_own(body))
    }

    pub(super) const fn from_parts(
        method: Method,
        uri: Uri,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Self {
        Self { method, uri, headers, body }
    }

    /// The method.
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// The request target.
    pub const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The kept header lines, in their order.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The body's bytes.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }
}

/// A final answer as it is kept and replayed.
///
/// Header lines keep their order, their duplicates and their bytes. Not kept:
/// fields that belong to the connection (RFC 9110 §7.6.1) or to the framing,
/// `Date`, `Age`, `Set-Cookie`, credentials, and request and trace ids.
/// Trailers are not kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredResponse {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Option<Bytes>,
}

impl StoredResponse {
    /// Keeps an answer; a `body` of `None` says that it was delivered and not
    /// retained.
    pub fn capture(status: StatusCode, headers: &HeaderMap, body: Option<Bytes>) -> Self {
        let body = body.map(on_its_own);
        let named = named_by_connection(headers);
        let keep = |name: &HeaderName| !is_of_connection(name) && !is_of_one_delivery(name) && !named.contains(name);
        Self::from_parts(status, kept(headers, keep), body)
    }

    pub(super) const fn from_parts(
        status: StatusCode,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Option<Bytes>,
    ) -> Self {
        Self { status, headers, body }
    }

    /// The status code.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The kept header lines, in their order.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// The body's bytes, or `None` if the answer was too large or endless and
    /// was therefore not retained.
    pub const fn body(&self) -> Option<&Bytes> {
        self.body.as_ref()
    }
}

fn on_its_own(body: Bytes) -> Bytes {
    if body.len() <= COPIED { Bytes::copy_from_slice(&body) } else { body }
}

fn kept(headers: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> Vec<(HeaderName, HeaderValue)> {
    let mut lines = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        if keep(name) {
            lines.push((name.clone(), value.clone()));
        }
    }
    lines
}

/// A set: the list may be as long as whoever wrote it likes.
fn named_by_connection(headers: &HeaderMap) -> HashSet<HeaderName> {
    let lists = headers.get_all(CONNECTION).iter().filter_map(|list| list.to_str().ok());
    let options = lists.flat_map(|list| list.split(','));
    options.filter_map(|option| HeaderName::from_bytes(option.trim().as_bytes()).ok()).collect()
}

fn is_of_connection(name: &HeaderName) -> bool {
    [CONNECTION, CONTENT_LENGTH, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE]
        .contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

fn is_of_one_delivery(name: &HeaderName) -> bool {
    [DATE, AGE, SET_COOKIE, AUTHORIZATION, WWW_AUTHENTICATE].contains(name)
        || matches!(
            name.as_str(),
            "request-id"
                | "x-request-id"
                | "x-correlation-id"
                | "traceparent"
                | "tracestate"
                | "server-timing"
                | "authentication-info"
                | "proxy-authentication-info"
                | "idempotent-replayed"
        )
}

fn is_credential(name: &HeaderName) -> bool {
    // Rather too many: what is left out can be given again, what is kept can leak.
    const WORDS: [&str; 12] = [
        "auth",
        "cert",
        "cookie",
        "credential",
        "csrf",
        "jwt",
        "passw",
        "secret",
        "session",
        "signature",
        "token",
        "xsrf",
    ];
    // `X-Api-Key`, `Ocp-Apim-Subscription-Key`, and `Idempotency-Key`.
    name.as_str().ends_with("key") || WORDS.iter().any(|word| name.as_str().contains(word))
}
