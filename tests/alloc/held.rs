//! What the memory store counts is what it holds.

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::routing::post;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Operation, Scope, StepError};

use crate::measured;
use crate::support::raw::Wire;

type Head = (&'static str, String);

/// So many requests on one connection, and what stays of them: what the store
/// says, and what is allocated still.
fn held(requests: usize, head: impl Fn(usize) -> Head, body: &[u8]) -> (usize, usize) {
    let store = Arc::new(MemoryStore::new().max_bytes(1 << 30));
    let kept = Arc::clone(&store);
    let (expected, info) = measured(async || {
        let layer = IdempotencyLayer::new(kept, Scope::shared()).resumable();
        let app = Router::new().route("/{what}", post(handler)).layer(layer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut wire = Wire::connect(listener.local_addr().unwrap()).await;
        tokio::spawn(async { axum::serve(listener, app).await });
        let mut statuses = Vec::new();
        for n in 0..requests {
            let (target, lines) = head(n);
            let length = body.len();
            let head = format!(
                "POST {target} HTTP/1.1\r\nhost: test\r\nidempotency-key: k{n}\r\n{lines}content-length: {length}\r\n\r\n"
            );
            wire.send(&[head.as_bytes(), body].concat()).await;
            statuses.push(wire.response().await.status);
        }
        statuses.iter().filter(|status| [201, 503].contains(status)).count()
    });
    assert_eq!((expected, store.len()), (requests, requests), "not all of them are kept");
    let said = format!("{store:?}");
    let counted = said.split("bytes: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap().parse().unwrap();
    (counted, usize::try_from(info.bytes_current).unwrap())
}

/// What stays of a request is its answer, or the request with what was done.
async fn handler(target: axum::extract::Path<String>, operation: Operation) -> (StatusCode, HeaderMap, String) {
    let mut headers = HeaderMap::new();
    match &**target {
        "steps" => {
            for n in 0..30 {
                let step = operation.step(format!("step-{n}"), |_| async { Ok::<_, std::io::Error>(17) });
                let _: Result<i32, StepError<_>> = step.await;
            }
        }
        "headers" => {
            for n in 0..30 {
                let name = HeaderName::try_from(format!("x-header-{n}")).unwrap();
                headers.insert(name, HeaderValue::try_from(format!("value-{n}").repeat(3)).unwrap());
            }
            return (StatusCode::CREATED, headers, "paid".to_owned());
        }
        "complete" => return (StatusCode::CREATED, headers, "paid".to_owned()),
        "large" => return (StatusCode::CREATED, headers, "x".repeat(100_000)),
        _ => {}
    }
    (StatusCode::SERVICE_UNAVAILABLE, headers, String::new())
}

#[track_caller]
fn assert_counted(what: &str, (counted, real): (usize, usize)) {
    println!("{what}: counted {} KiB, holds {} KiB", counted >> 10, real >> 10);
    let ratio = real as f64 / counted as f64;
    assert!((1.0 / 1.3..=1.3).contains(&ratio), "{what}: counted {counted}, holds {real}: {ratio:.2}");
}

#[test]
fn the_memory_store_counts_what_it_holds_of_large_headers() {
    let line = format!("x-note: {}\r\n", "n".repeat(4000));
    assert_counted("large headers", held(300, |_| ("/free", line.clone()), b"{}"));
}

#[test]
fn the_memory_store_counts_what_it_holds_of_long_queries() {
    let query: &'static str = format!("/free?note={}", "q".repeat(3000)).leak();
    assert_counted("long queries", held(300, |_| (query, String::new()), b"{}"));
}

#[test]
fn the_memory_store_counts_what_it_holds_of_bodies() {
    assert_counted("bodies", held(100, |_| ("/free", String::new()), &[b'b'; 50_000]));
}

#[test]
fn the_memory_store_counts_what_it_holds_of_many_small_steps() {
    assert_counted("many small steps", held(100, |_| ("/steps", String::new()), b"{}"));
}

#[test]
fn the_memory_store_counts_what_it_holds_of_many_small_records() {
    assert_counted("small records", held(1000, |_| ("/complete", String::new()), b"{}"));
}

#[test]
fn the_memory_store_counts_what_it_holds_of_answers() {
    assert_counted("many headers", held(300, |_| ("/headers", String::new()), b"{}"));
    assert_counted("large answers", held(50, |_| ("/large", String::new()), b"{}"));
}
