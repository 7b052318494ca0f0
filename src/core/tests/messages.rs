//! Which headers are kept.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::core::{NotRetained, StoredRequest, StoredResponse};

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

fn names(lines: &[(HeaderName, HeaderValue)]) -> Vec<&str> {
    lines.iter().map(|(name, _)| name.as_str()).collect()
}

fn kept_of_response(headers: &HeaderMap) -> StoredResponse {
    StoredResponse::capture(StatusCode::OK, headers, Some(Bytes::new()))
}

fn kept_of_request(headers: &HeaderMap) -> StoredRequest {
    StoredRequest::capture(&Method::POST, &Uri::from_static("/"), headers, Bytes::new())
}

#[test]
fn connection_fields_are_not_kept() {
    for name in [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        let headers = headers(&[(name, "x"), ("content-type", "text/plain")]);
        assert_eq!(names(kept_of_response(&headers).headers()), ["content-type"], "{name}");
        assert_eq!(names(kept_of_request(&headers).headers()), ["content-type"], "{name}");
    }
}

#[test]
fn what_connection_names_is_not_kept_of_a_response() {
    let headers = headers(&[
        ("connection", "close, X-Hop"),
        ("connection", "x-other ,\tx-third"),
        ("x-hop", "1"),
        ("x-other", "1"),
        ("x-third", "1"),
        ("x-hop-by-hop", "1"),
    ]);
    assert_eq!(names(kept_of_response(&headers).headers()), ["x-hop-by-hop"]);
}

/// The handler saw it, so whoever runs the request again has to.
#[test]
fn what_connection_names_is_kept_of_a_request() {
    let headers = headers(&[
        ("connection", "keep-alive, X-User, te, cookie"),
        ("x-user", "ann"),
        ("te", "trailers"),
        ("cookie", "1"),
        ("keep-alive", "5"),
    ]);
    assert_eq!(names(kept_of_request(&headers).headers()), ["x-user"]);
}

#[test]
fn what_belongs_to_one_delivery_is_not_kept() {
    for name in [
        "date",
        "age",
        "set-cookie",
        "authorization",
        "www-authenticate",
        "request-id",
        "x-request-id",
        "x-correlation-id",
        "traceparent",
        "tracestate",
        "server-timing",
        "authentication-info",
        "proxy-authentication-info",
        "idempotent-replayed",
        "idempotency-replay-unavailable",
    ] {
        let headers = headers(&[(name, "x"), ("location", "/payments/17")]);
        assert_eq!(names(kept_of_response(&headers).headers()), ["location"], "{name}");
    }
}

#[test]
fn credentials_of_a_request_are_not_kept() {
    for name in [
        "authorization",
        "cookie",
        "idempotency-key",
        "x-api-key",
        "apikey",
        "x-auth-token",
        "x-csrf-token",
        "x-amz-security-token",
        "x-client-secret",
        "x-password",
        "x-credential",
        "stripe-signature",
        "cookie2",
        "ocp-apim-subscription-key",
        "x-access-key",
        "x-auth-request-user",
        "x-forwarded-authorization",
        "x-forwarded-client-cert",
        "x-functions-key",
        "x-goog-iap-jwt-assertion",
        "x-passwd",
        "x-session-id",
        "x-xsrf",
    ] {
        let headers = headers(&[(name, "x"), ("accept", "*/*")]);
        assert_eq!(names(kept_of_request(&headers).headers()), ["accept"], "{name}");
    }
}

/// Credentials by whole words, of requests and responses alike.
#[test]
fn credentials_are_known_by_whole_words() {
    let credentials = [
        "x-api-key",
        "x-api-keys",
        "api_key",
        "x-otp",
        "x-bearer",
        "x-auth-token",
        "refresh-token",
        "access-token",
        "x-session-token",
        "x-vault-token",
        "private-token",
        "x-rapidapi-key",
        "dpop",
        "x-csrftoken",
        "client-cert-chain",
        "x-amzn-oidc-accesstoken",
        "x-hub-signature-256",
        "set-cookie2",
        "x-amz-server-side-encryption-customer-key",
        "dd-application-key",
        "x-app-key",
        "x-account-key",
        "x-amzn-oidc-data",
    ];
    let others = [
        "x-author-id",
        "x-partition-key",
        "x-concert-id",
        "x-monkey",
        "key",
        "x-sort-key",
        "x-authority",
        "x-certainty",
        "x-secretary",
        "x-tokens-used",
        "x-ratelimit-remaining-tokens",
        "x-token-count",
        "x-obsession",
        "x-signatures-needed",
        "x-passwordless",
        "public-key-pins",
        "x-next-page-token",
        "x-continuation-token",
        "x-amzn-oidc-identity",
    ];
    for (name, kept) in credentials.map(|name| (name, false)).into_iter().chain(others.map(|name| (name, true))) {
        let headers = headers(&[(name, "x")]);
        assert_eq!(!kept_of_request(&headers).headers().is_empty(), kept, "{name} of a request");
        assert_eq!(!kept_of_response(&headers).headers().is_empty(), kept, "{name} of a response");
    }
}

#[test]
fn lines_keep_their_duplicates_order_and_bytes() {
    let mut headers = headers(&[("link", "b"), ("link", "a"), ("link", "b"), ("x-empty", "")]);
    headers.append("x-raw", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    let kept = kept_of_response(&headers);
    let values = |name: &str| -> Vec<&[u8]> {
        kept.headers().iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_bytes()).collect()
    };
    assert_eq!(values("link"), [b"b", b"a", b"b"]);
    assert_eq!(values("x-raw"), [b"caf\xe9"]);
    assert_eq!(values("x-empty"), [b""]);
}

#[test]
fn trailers_are_kept_as_headers_are() {
    let head = headers(&[("trailer", "x-sum"), ("connection", "x-hop"), ("x-kept", "1")]);
    let trailers = headers(&[("x-sum", "1"), ("x-hop", "1"), ("set-cookie", "1"), ("x-sum", "2")]);
    let kept = StoredResponse::capture_with_trailers(StatusCode::OK, &head, Bytes::new(), &trailers);
    assert_eq!(names(kept.trailers()), ["x-sum", "x-sum"]);
    assert_eq!(names(kept.headers()), ["trailer", "x-kept"]);
    let (method, uri) = (Method::POST, Uri::from_static("/"));
    let kept = StoredRequest::capture_with_trailers(&method, &uri, &head, Bytes::new(), &trailers);
    assert_eq!(names(kept.trailers()), ["x-sum", "x-sum", "x-hop"]);
    assert_eq!(names(kept.headers()), ["trailer", "x-kept"]);
}

/// What announces trailers is left out where none are kept.
#[test]
fn a_trailer_field_is_kept_with_its_trailers_only() {
    let head = headers(&[("trailer", "set-cookie"), ("x-kept", "1")]);
    let kept =
        |trailers: HeaderMap| StoredResponse::capture_with_trailers(StatusCode::OK, &head, Bytes::new(), &trailers);
    assert_eq!(names(kept(headers(&[("set-cookie", "1")])).headers()), ["x-kept"]);
    assert_eq!(names(kept(headers(&[("x-sum", "1")])).headers()), ["trailer", "x-kept"]);
}

#[test]
fn a_reason_that_only_a_later_release_knows_is_the_usual_one() {
    for why in [NotRetained::TooLarge, NotRetained::Streamed, NotRetained::Incomplete] {
        assert_eq!(NotRetained::numbered(why.number()), why);
    }
    assert_eq!(NotRetained::numbered(99), NotRetained::TooLarge);
}

#[test]
fn not_retained_is_not_empty() {
    let empty = StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), Some(Bytes::new()));
    let not_retained = StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), None);
    assert_ne!(empty, not_retained);
    assert_eq!((empty.body(), not_retained.body()), (Some(&Bytes::new()), None));
}
