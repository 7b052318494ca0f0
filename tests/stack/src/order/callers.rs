//! Whose request it is, and who sees it: authentication, rate limits, tracing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::http::{Request, Response, StatusCode};
use axum::{BoxError, Router};
use tower::ServiceBuilder;
use tower_http::trace::TraceLayer;
use tower_http::validate_request::ValidateRequestHeaderLayer;
use tracing::Span;

use crate::{Gateway, guard, pay, pay_with, send};

/// Callers whose token was taken away are refused.
#[expect(clippy::result_large_err, reason = "as tower-http has it")]
fn authenticated(app: Router) -> Router {
    app.layer(ValidateRequestHeaderLayer::custom(|request: &mut Request<Body>| {
        if request.headers().get("authorization").is_some_and(|token| token == "Bearer valid") {
            return Ok(());
        }
        Err(Response::builder().status(401).body(Body::empty()).unwrap())
    }))
}

#[tokio::test]
async fn inside_of_the_layer_authentication_lets_replays_out_to_callers_that_it_would_refuse() {
    let from = |token| pay_with("k", "100", &[("authorization", token)]);
    let (_, layer) = guard();
    let wrong = authenticated(Gateway::open().routes()).layer(layer);
    send(&wrong, from("Bearer valid")).await.assert_first(201, "charge 1 of 3");
    send(&wrong, from("Bearer revoked")).await.assert_replay(201, "charge 1 of 3");

    let (_, layer) = guard();
    let right = authenticated(Gateway::open().routes().layer(layer));
    send(&right, from("Bearer valid")).await.assert_first(201, "charge 1 of 3");
    send(&right, from("Bearer revoked")).await.assert_first(401, "");
    send(&right, from("Bearer valid")).await.assert_replay(201, "charge 1 of 3");
}

/// Two requests an hour; more are refused at once.
fn limited(app: Router) -> Router {
    let refuse = |_: BoxError| async { StatusCode::TOO_MANY_REQUESTS };
    let stack = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refuse))
        .buffer(8)
        .load_shed()
        .rate_limit(2, Duration::from_secs(60 * 60));
    app.layer(stack)
}

#[tokio::test(start_paused = true)]
async fn inside_of_the_layer_a_rate_limit_does_not_count_replays() {
    let (_, layer) = guard();
    let wrong = limited(Gateway::open().routes()).layer(layer);
    for _ in 0..20 {
        assert_eq!(send(&wrong, pay("k")).await.status, 201);
    }

    let (store, layer) = guard();
    let right = limited(Gateway::open().routes().layer(layer));
    let first = send(&right, pay("k")).await;
    send(&right, pay("k")).await.assert_replay(201, first.text());
    send(&right, pay("k")).await.assert_first(429, "");
    // It is refused before its key is looked at.
    send(&right, pay("other")).await.assert_first(429, "");
    assert_eq!(store.len(), 1);
}

/// Counts the responses that pass.
fn traced(app: Router, seen: &Arc<AtomicUsize>) -> Router {
    let seen = Arc::clone(seen);
    let count = move |_: &Response<Body>, _: Duration, _: &Span| {
        seen.fetch_add(1, Ordering::SeqCst);
    };
    app.layer(TraceLayer::new_for_http().on_response(count))
}

#[tokio::test]
async fn inside_of_the_layer_a_trace_sees_neither_replays_nor_problems() {
    let requests = || [pay("k"), pay("k"), pay_with("k", "1000", &[])];
    let (_, layer) = guard();
    let seen = Arc::default();
    let wrong = traced(Gateway::open().routes(), &seen).layer(layer);
    for request in requests() {
        send(&wrong, request).await;
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1);

    let (_, layer) = guard();
    let seen = Arc::default();
    let right = traced(Gateway::open().routes().layer(layer), &seen);
    for request in requests() {
        send(&right, request).await;
    }
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}
