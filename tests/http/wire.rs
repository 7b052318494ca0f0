//! HTTP/1.1 byte by byte: what a socket sees.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use tokio::net::TcpListener;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Scope};

use crate::support::raw::{self, Raw, Wire, exchange};
use crate::support::{self, Count};

/// A server whose answers count its runs.
async fn server() -> (SocketAddr, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let pay = move |body: String| async move {
        let mut headers = HeaderMap::new();
        headers.append("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        headers.append("link", HeaderValue::from_static("<a>"));
        headers.append("link", HeaderValue::from_static("<b>"));
        headers.append("set-cookie", HeaderValue::from_static("session=secret"));
        (StatusCode::CREATED, headers, format!("charge {} for {body}", count.up())).into_response()
    };
    let streamed = || async {
        let body = support::bodies::script([support::bodies::data(b"one "), support::bodies::data(b"two")]);
        axum::body::Body::new(body)
    };
    let app = Router::new()
        .route("/pay", post(pay))
        .route("/nothing", post(|| async { StatusCode::NO_CONTENT }))
        .route("/streamed", post(streamed))
        .layer(IdempotencyLayer::new(MemoryStore::new(), Scope::shared()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (addr, runs)
}

fn with_lines(lines: &[u8], body: &str) -> Vec<u8> {
    let head = format!("POST /pay HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n", body.len());
    [head.as_bytes(), lines, b"\r\n", body.as_bytes()].concat()
}

fn assert_problem(answer: &Raw, name: &str, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some(b"application/problem+json".as_slice()));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["status"], u64::from(status));
    assert!(problem["type"].as_str().unwrap().ends_with(name));
    assert!(answer.header("date").is_some());
}

/// Requirement K19, RFC 9110 §10.1.1: what the head alone decides is decided
/// at once, and the body is never asked for.
#[tokio::test]
async fn expect_continue_with_a_malformed_key_gets_the_final_answer_at_once() {
    let (addr, runs) = server().await;
    let mut wire = Wire::connect(addr).await;
    let head = "POST /pay HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n";
    wire.send(format!("{head}idempotency-key: \"broken\r\n\r\n").as_bytes()).await;
    assert_problem(&wire.response().await, "invalid-key", 400);
    assert_eq!(runs.get(), 0);
}

#[tokio::test]
async fn expect_continue_with_a_valid_key_is_told_to_continue() {
    let (addr, _) = server().await;
    let mut wire = Wire::connect(addr).await;
    let head = "POST /pay HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n";
    wire.send(format!("{head}idempotency-key: k\r\n\r\n").as_bytes()).await;
    assert_eq!(wire.response().await.status, 100);
    wire.send(b"four").await;
    assert_eq!(wire.response().await.body, b"charge 1 for four");
}

/// So is what is too large by its own account.
#[tokio::test]
async fn expect_continue_with_a_length_over_the_limit_gets_the_final_answer_at_once() {
    let (addr, runs) = server().await;
    let mut wire = Wire::connect(addr).await;
    let head = "POST /pay HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 999999999\r\n";
    wire.send(format!("{head}idempotency-key: k\r\n\r\n").as_bytes()).await;
    assert_problem(&wire.response().await, "body-too-large", 413);
    assert_eq!(runs.get(), 0);
}

/// Without a length and without chunks, a request has no body (RFC 9112 §6.3): what
/// follows on the connection is the next request, and none of it is fingerprinted.
#[tokio::test]
async fn a_request_without_a_length_has_no_body() {
    let (addr, runs) = server().await;
    for version in ["1.1", "1.0"] {
        let key = format!("key-{version}");
        let lengthless = format!("POST /pay HTTP/{version}\r\nhost: test\r\nidempotency-key: {key}\r\n\r\n");
        let mut wire = Wire::connect(addr).await;
        wire.send(lengthless.as_bytes()).await;
        let first = wire.response().await;
        assert_eq!((first.status, first.is_replay()), (201, false));
        let retry = exchange(addr, &raw::post("/pay", &key, "")).await;
        assert_eq!((retry.is_replay(), &retry.body), (true, &first.body));
        assert_problem(&exchange(addr, &raw::post("/pay", &key, "x")).await, "key-reused", 422);
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test]
async fn two_key_lines_and_bytes_that_are_no_ascii_are_refused() {
    let (addr, runs) = server().await;
    let lines: [&[u8]; 7] = [
        b"idempotency-key: a\r\nidempotency-key: b\r\n",
        b"idempotency-key: a\r\nIDEMPOTENCY-KEY: a\r\n",
        b"idempotency-key: \"a\r\nidempotency-key: b\"\r\n",
        b"idempotency-key: cl\xc3\xa9\r\n",
        b"idempotency-key: \"\x80\xff\"\r\n",
        b"idempotency-key:\r\n",
        b"idempotency-key: \"k1\", \"k2\"\r\n",
    ];
    for lines in lines {
        assert_problem(&exchange(addr, &with_lines(lines, "x")).await, "invalid-key", 400);
    }
    // hyper itself refuses control characters.
    for line in [b"idempotency-key: a\x00b\r\n".as_slice(), b"idempotency-key: \"a\x7f\"\r\n"] {
        assert_eq!(exchange(addr, &with_lines(line, "x")).await.status, 400);
    }
    assert_eq!(runs.get(), 0);
}

/// Faults I16 and peer bug 42.
#[tokio::test]
async fn a_chunked_body_and_one_of_known_length_are_the_same_request() {
    let (addr, runs) = server().await;
    let head = "POST /pay HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\nidempotency-key: k\r\n\r\n";
    let first = exchange(addr, format!("{head}2\r\nfo\r\n2\r\nur\r\n0\r\n\r\n").as_bytes()).await;
    assert_eq!((first.status, first.is_replay()), (201, false));
    let retry = exchange(addr, &raw::post("/pay", "\"k\"", "four")).await;
    assert_eq!((retry.is_replay(), &retry.body), (true, &first.body));
    let other = exchange(addr, format!("{head}4\r\nfive\r\n0\r\n\r\n").as_bytes()).await;
    assert_problem(&other, "key-reused", 422);
    assert_eq!(runs.get(), 1);
}

/// Faults B2: the upload broke off.
#[tokio::test]
async fn a_connection_that_closes_in_the_body_leaves_nothing_behind() {
    let (addr, runs) = server().await;
    let mut wire = Wire::connect(addr).await;
    wire.send(b"POST /pay HTTP/1.1\r\nhost: test\r\nidempotency-key: k\r\ncontent-length: 100\r\n\r\nhalf").await;
    wire.reset();
    let answer = exchange(addr, &raw::post("/pay", "k", "whole")).await;
    assert_eq!((answer.is_replay(), answer.body.as_slice()), (false, b"charge 1 for whole".as_slice()));
    assert_eq!(runs.get(), 1);
}

/// Faults K3.
#[tokio::test]
async fn http_1_0_gets_a_replay_with_a_length_and_a_close() {
    let (addr, _) = server().await;
    for is_replay in [false, true] {
        let mut wire = Wire::connect(addr).await;
        wire.send(b"POST /pay HTTP/1.0\r\nidempotency-key: k\r\ncontent-length: 4\r\n\r\nfour").await;
        let answer = wire.response().await;
        assert_eq!((answer.is_replay(), answer.body.as_slice()), (is_replay, b"charge 1 for four".as_slice()));
        assert!(answer.header("transfer-encoding").is_none());
        assert!(wire.is_closed().await);
    }
}

/// Faults K5: pipelined, in order, and one run.
#[tokio::test]
async fn pipelined_duplicates_are_answered_in_order() {
    let (addr, runs) = server().await;
    let mut wire = Wire::connect(addr).await;
    let one = raw::post("/pay", "k", "four");
    let other = raw::post("/pay", "k2", "five");
    wire.send(&[one.clone(), one, other].concat()).await;
    let (first, second, third) = (wire.response().await, wire.response().await, wire.response().await);
    assert_eq!((first.is_replay(), second.is_replay(), third.is_replay()), (false, true, false));
    assert_eq!(first.body, second.body);
    assert_eq!(third.body, b"charge 2 for five");
    assert_eq!(runs.get(), 2);
}

/// Peer bugs 48 to 50 and 53, faults K8 and requirement H04.
#[tokio::test]
async fn a_replay_on_a_connection_that_stays_open_is_framed_and_whole() {
    let (addr, _) = server().await;
    let mut wire = Wire::connect(addr).await;
    for path in ["/pay", "/streamed", "/nothing"] {
        let request = raw::post(path, &format!("key-of-{}", &path[1..]), "four");
        wire.send(&request).await;
        let first = wire.response().await;
        wire.send(&request).await;
        let replay = wire.response().await;
        assert!(replay.is_replay() && !first.is_replay(), "{path}");
        assert_eq!((first.status, &first.body), (replay.status, &replay.body), "{path}");
        let no_cookie: Vec<_> = first.stable_headers().into_iter().filter(|(name, _)| name != "set-cookie").collect();
        assert_eq!(no_cookie, replay.stable_headers(), "{path}");
        assert_eq!(replay.headers.iter().filter(|(name, _)| name == "date").count(), 1, "{path}");
        let framings = ["content-length", "transfer-encoding"];
        let framed = replay.headers.iter().filter(|(name, _)| framings.contains(&name.as_str())).count();
        assert_eq!(framed, usize::from(path != "/nothing"), "{path}: {replay:?}");
    }
    // The connection is still in step.
    wire.send(&raw::post("/pay", "last", "four")).await;
    assert_eq!(wire.response().await.status, 201);
}

/// Faults I17: an ambiguous message is refused before it gets to us, and
/// stores nothing.
#[tokio::test]
async fn a_message_with_two_framings_runs_at_most_once() {
    let (addr, runs) = server().await;
    let ambiguous =
        b"POST /pay HTTP/1.1\r\nhost: test\r\nidempotency-key: k\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nfour";
    assert_eq!(exchange(addr, ambiguous).await.status, 400);
    assert_eq!(runs.get(), 0);
}
