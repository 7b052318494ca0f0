//! Requests as clients send them over real connections: whom they name, how long
//! their bodies take, and where an answer sends them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use sockets::{Handler, Message, Part, Protocol, Script, Seen, Server, Stream, exchange, messages};
use url::Url;

fn handler() -> Handler {
    Handler { status: 201, headers: vec![], body: Script::new([Part::Data(10)]) }
}

fn post(target: &str, key: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(target).header("idempotency-key", key).body(body.into()).unwrap()
}

/// Status code, whether it is a replay, and which problem it is.
fn told(seen: &Seen) -> (u16, bool, Option<String>) {
    assert_eq!(seen.reset, None, "{seen:?}");
    let problem = seen.header("content-type") == Some("application/problem+json");
    let problem = problem.then(|| serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap());
    let name = problem.map(|problem| problem["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned());
    (seen.status(), seen.header("idempotent-replayed") == Some("true"), name)
}

fn refused(status: u16, name: &str) -> (u16, bool, Option<String>) {
    (status, false, Some(name.to_owned()))
}

/// In HTTP/2 a request has no `Host`: `:authority` says whom it is for.
#[tokio::test]
async fn two_authorities_share_no_answer_and_both_protocols_name_one_alike() {
    let server = Server::guarded(Protocol::Either, &handler(), |layer| layer).await;
    let mut stream = Stream::connect(server.addr).await;
    let first = stream.exchange(post("http://a.example/", "k", "{}")).await;
    assert_eq!(told(&first), (201, false, None));
    let other = stream.exchange(post("http://b.example/", "k", "{}")).await;
    assert_eq!(told(&other), refused(422, "key-reused"));
    let retry = stream.exchange(post("http://a.example/", "k", "{}")).await;
    assert_eq!((told(&retry), &retry.body), ((201, true, None), &first.body));
    assert_eq!(server.runs(), 1);
    // Over HTTP/1.1 the target counts, if it is absolute, and `Host` if it is not.
    for (target, host, status) in [
        ("http://a.example/", "a.example", 201),
        ("http://a.example/", "b.example", 201),
        ("/", "a.example", 201),
        ("http://b.example/", "a.example", 422),
        ("/", "b.example", 422),
    ] {
        let head = format!("POST {target} HTTP/1.1\r\nhost: {host}\r\nidempotency-key: k\r\ncontent-length: 2\r\n");
        let request = format!("{head}connection: close\r\n\r\n{{}}");
        let seen = messages(&exchange(server.addr, request.as_bytes()).await).remove(0);
        let is_replay = seen.header("idempotent-replayed") == Some("true");
        assert_eq!((seen.status(), is_replay), (status, status == 201), "{target} {host}");
        assert_eq!(seen.body == first.body, is_replay, "{target} {host}");
    }
    assert_eq!(server.runs(), 1);
}

#[tokio::test]
async fn a_slow_upload_over_http_2_is_answered_408_and_the_connection_goes_on() {
    let set = |layer: tower_idempotency::IdempotencyLayer| layer.upload_timeout(Duration::from_millis(200));
    let server = Server::guarded(Protocol::H2, &handler(), set).await;
    let mut stream = Stream::connect(server.addr).await;
    let upload = stream.begin(post("http://test/", "k", "{")).await;
    let seen = upload.stalled().await;
    assert_eq!(told(&seen), refused(408, "body-timeout"));
    assert_eq!(server.runs(), 0);
    // Nothing is stored of it: the key is free, for another body too.
    assert_eq!(told(&stream.exchange(post("http://test/", "k", "[]")).await), (201, false, None));
    assert_eq!(server.runs(), 1);
}

#[tokio::test]
async fn an_upload_over_http_2_that_the_budget_has_no_room_for_is_answered_503() {
    let set = |layer: tower_idempotency::IdempotencyLayer| layer.request_limit(1024).upload_budget(1024);
    let server = Server::guarded(Protocol::H2, &handler(), set).await;
    let mut stream = Stream::connect(server.addr).await;
    // On one connection, so that the server sees the first before the second.
    let first = stream.begin(post("http://test/", "first", vec![b'x'; 1000])).await;
    let second = stream.begin(post("http://test/", "second", vec![b'x'; 1000])).await;
    let seen = second.stalled().await;
    assert_eq!(told(&seen), refused(503, "upload-overload"));
    assert!(seen.header("retry-after").is_some());
    assert_eq!(server.runs(), 0);
    assert_eq!(told(&first.finish(Bytes::from_static(b"xx")).await), (201, false, None));
    // What the first one held is given back.
    let second = stream.begin(post("http://test/", "second", vec![b'x'; 1000])).await;
    assert_eq!(told(&second.finish(Bytes::from_static(b"xx")).await), (201, false, None));
    assert_eq!(server.runs(), 2);
}

/// Clients resolve `Location` against the URL of their request (RFC 9110 §10.2.2),
/// and on the way drop segments of dots, as WHATWG's URL standard has it.
#[tokio::test]
async fn where_a_client_is_sent_is_there_when_its_key_is_dots() {
    let path = |url: &Url| url[url::Position::BeforePath..].to_owned();
    for key in [".", "..", "...", "(.)", "%2e", "a/../b"] {
        // Of its own, so that no other key is found in the place of this one.
        let server = Server::with_status(Protocol::H1, &handler()).await;
        let base = Url::parse(&format!("http://{}/shop/orders?page=2", server.addr)).unwrap();
        let host = server.addr;
        let head = format!("POST {} HTTP/1.1\r\nhost: {host}\r\nidempotency-key: \"{key}\"\r\n", path(&base));
        let more = "prefer: respond-async\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
        let seen = messages(&exchange(server.addr, format!("{head}{more}").as_bytes()).await).remove(0);
        assert_eq!(seen.status(), 202, "{key}");
        let location = seen.header("location").unwrap();
        let place = base.join(location).unwrap();
        assert_eq!(place.origin(), base.origin(), "{key}: {location}");
        let get = format!("GET {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n", path(&place));
        let seen = messages(&exchange(server.addr, get.as_bytes()).await).remove(0);
        assert_eq!(seen.status(), 200, "{key}: {location} is {place}");
        let shown: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!(shown["state"], "queued", "{key}: {shown}");
    }
}

/// Head lines and a body, on a connection of its own over HTTP/1.1.
async fn over_http_1(server: &Server, lines: &str, body: &str) -> Message {
    let request = format!("POST / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{lines}\r\n{body}");
    messages(&exchange(server.addr, request.as_bytes()).await).remove(0)
}

fn is_replay(seen: &Message) -> bool {
    seen.header("idempotent-replayed") == Some("true")
}

/// A field that goes on in a second line (obs-fold, RFC 9112 §5.2) could be read as two keys.
#[tokio::test]
async fn a_key_that_is_folded_into_two_lines_runs_nothing() {
    let server = Server::guarded(Protocol::H1, &handler(), |layer| layer).await;
    for fold in ["a\r\n b", "\r\n a", "\"a\r\n\tb\"", "a\r\n "] {
        let seen = over_http_1(&server, &format!("idempotency-key: {fold}\r\ncontent-length: 2\r\n"), "{}").await;
        assert_eq!((seen.status(), server.runs()), (400, 0), "{fold:?}");
    }
}

#[tokio::test]
async fn a_slow_upload_over_http_1_is_answered_408_and_its_key_is_free() {
    let set = |layer: tower_idempotency::IdempotencyLayer| layer.upload_timeout(Duration::from_millis(200));
    let server = Server::guarded(Protocol::H1, &handler(), set).await;
    for (lines, begun) in [("content-length: 10\r\n", "{"), ("transfer-encoding: chunked\r\n", "1\r\n{\r\n")] {
        let seen = over_http_1(&server, &format!("idempotency-key: k\r\n{lines}"), begun).await;
        assert_eq!((seen.status(), server.runs()), (408, 0), "{lines}");
        assert!(seen.header("retry-after").is_some() && String::from_utf8(seen.body).unwrap().contains("body-timeout"));
    }
    let other = over_http_1(&server, "idempotency-key: k\r\ncontent-length: 2\r\n", "[]").await;
    assert_eq!((other.status(), is_replay(&other), server.runs()), (201, false, 1));
}

/// RFC 9110 §10.1.1: what decides without the body says so before it is sent.
#[tokio::test]
async fn expect_over_http_2_with_a_malformed_key_gets_the_final_answer_before_the_body() {
    let server = Server::guarded(Protocol::H2, &handler(), |layer| layer).await;
    let mut stream = Stream::connect(server.addr).await;
    let expecting = |key: &str| {
        let request = Request::post("http://test/").header("idempotency-key", key).header("expect", "100-continue");
        request.body(Bytes::from_static(b"{")).unwrap()
    };
    let seen = stream.begin(expecting("\"broken")).await.stalled().await;
    assert_eq!(told(&seen), refused(400, "invalid-key"));
    for is_replay in [false, true] {
        let seen = stream.begin(expecting("k")).await.finish(Bytes::from_static(b"}")).await;
        assert_eq!(told(&seen), (201, is_replay, None));
    }
    assert_eq!(server.runs(), 1);
}

/// How a body was framed is no part of the request: by its length, in chunks, in frames, or
/// not at all.
#[tokio::test]
async fn a_body_is_the_same_however_it_is_framed_and_over_either_protocol() {
    let server = Server::guarded(Protocol::Either, &handler(), |layer| layer).await;
    let mut stream = Stream::connect(server.addr).await;
    let keyed = |key: &str, framing: &str| format!("idempotency-key: {key}\r\n{framing}\r\n");
    assert_eq!(told(&stream.exchange(post("http://test/", "k", "{}")).await), (201, false, None));
    let pieces = stream.begin(post("http://test/", "k", "{")).await.finish(Bytes::from_static(b"}")).await;
    assert_eq!(told(&pieces), (201, true, None));
    let mut announced = post("http://test/", "k", "{}");
    announced.headers_mut().insert("content-length", 2.into());
    assert_eq!(told(&stream.exchange(announced).await), (201, true, None));
    let chunked =
        over_http_1(&server, &keyed("k", "transfer-encoding: chunked"), "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n").await;
    assert!(is_replay(&chunked) && is_replay(&over_http_1(&server, &keyed("k", "content-length: 2"), "{}").await));
    assert_eq!(server.runs(), 1);

    // None: no length at all, one of 0, no chunk, no frame of data, an empty one.
    assert!(!is_replay(&over_http_1(&server, "idempotency-key: none\r\n", "").await));
    assert!(is_replay(&over_http_1(&server, &keyed("none", "content-length: 0"), "").await));
    assert!(is_replay(&over_http_1(&server, &keyed("none", "transfer-encoding: chunked"), "0\r\n\r\n").await));
    assert_eq!(told(&stream.exchange(post("http://test/", "none", "")).await), (201, true, None));
    let empty = stream.begin(post("http://test/", "none", "")).await.finish(Bytes::new()).await;
    assert_eq!(told(&empty), (201, true, None));
    assert_eq!(told(&stream.exchange(post("http://test/", "none", "{}")).await), refused(422, "key-reused"));
    assert_eq!(server.runs(), 2);
}

/// Where they count: what came with one protocol is the same over the other.
#[tokio::test]
async fn trailers_of_a_request_are_the_same_over_either_protocol() {
    let server = Server::guarded(Protocol::Either, &handler(), |layer| {
        layer.fingerprint(tower_idempotency::FingerprintRules::new().trailers())
    })
    .await;
    let mut stream = Stream::connect(server.addr).await;
    let chunked = "idempotency-key: k\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n";
    let sums = |sum: u16| HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from(sum))]);
    let first = over_http_1(&server, chunked, "2\r\n{}\r\n0\r\nx-sum: 17\r\n\r\n").await;
    assert_eq!((first.status(), is_replay(&first)), (201, false));
    for (sum, expected) in [(17, (201, true, None)), (18, refused(422, "key-reused"))] {
        let seen = stream.begin(post("http://test/", "k", "{}")).await.end_with(sums(sum)).await;
        assert_eq!(told(&seen), expected);
    }
    let other = over_http_1(&server, chunked, "2\r\n{}\r\n0\r\nx-sum: 18\r\n\r\n").await;
    assert_eq!(other.status(), 422);
    // An intermediary may have dropped them.
    assert_eq!(told(&stream.exchange(post("http://test/", "k", "{}")).await), (201, true, None));
    assert_eq!(server.runs(), 1);
}
