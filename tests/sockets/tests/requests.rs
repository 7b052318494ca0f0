//! Requests as clients send them over real connections: whom they name, how long
//! their bodies take, and where an answer sends them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use sockets::{Handler, Part, Protocol, Script, Seen, Server, Stream, exchange, messages};
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
