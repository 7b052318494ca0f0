//! Guarded services that guarded handlers call, and layers within layers, also where
//! a completer drives.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use http_body_util::BodyExt;
use tower::ServiceExt;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{Backoff, Completer, Engine, IdempotencyLayer, Operation, Scope};

use crate::support::Count;

fn by(header: &'static str) -> IdempotencyLayer {
    let pause = Backoff::new(Duration::ZERO, Duration::ZERO);
    IdempotencyLayer::new(Engine::new(MemoryStore::new()).backoff(pause), Scope::header(header.parse().unwrap()))
        .resumable()
}

fn keyed() -> Request<Body> {
    let request = Request::post("/pay").header("idempotency-key", "k").header("x-tenant", "t").header("x-user", "u");
    request.body(Body::from("{}")).unwrap()
}

async fn send(app: &Router) -> (u16, String) {
    let response = app.clone().oneshot(keyed()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// The client's attempt writes its steps to the inner record. A completer's attempt
/// has no key to find that by: passed on, it would start without steps, and a
/// receiver that honours step keys would charge twice.
#[tokio::test]
async fn two_layers_with_two_scopes_charge_once() {
    let charged: Arc<Mutex<HashSet<String>>> = Arc::default();
    let gateway = Arc::clone(&charged);
    let runs = Count::default();
    let count = runs.clone();
    let handler = move |op: Operation| async move {
        let run = count.up();
        op.pay("charge", |key| async move {
            gateway.lock().unwrap().insert(key.to_string());
            Ok::<_, std::io::Error>(())
        })
        .await
        .unwrap();
        // What comes after the payment fails the first time.
        if run == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CREATED }
    };
    let outer = by("x-tenant");
    let app: Router = Router::new().route("/pay", post(handler)).layer(by("x-user")).layer(outer.clone());
    assert_eq!(send(&app).await.0, 503);
    Completer::new(&outer, app.clone()).run_once().await.unwrap();
    assert_eq!(send(&app).await.0, 201);
    assert_eq!((runs.get(), charged.lock().unwrap().len()), (2, 1), "runs, and different step keys at the receiver");
}

/// What is called could not be guarded, as a completer's attempt has no key to show.
#[tokio::test]
async fn what_is_called_in_another_scope_is_guarded_when_a_completer_drives_too() {
    for client_retries in [true, false] {
        let booked = Count::default();
        let count = booked.clone();
        let inner = IdempotencyLayer::new(MemoryStore::new(), Scope::header("x-user".parse().unwrap())).required();
        let ledger: Router =
            Router::new().route("/pay", post(move || async move { format!("booking {}", count.up()) })).layer(inner);
        let runs = Count::default();
        let handler = move |request: Request<Body>| async move {
            let booking = ledger.oneshot(request).await.unwrap();
            if runs.up() == 1 { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(booking) }
        };
        let outer = by("x-tenant");
        let app: Router = Router::new().route("/pay", post(handler)).layer(outer.clone());
        assert_eq!(send(&app).await.0, 503);
        if !client_retries {
            Completer::new(&outer, app.clone()).run_once().await.unwrap();
        }
        assert_eq!(send(&app).await, (200, "booking 1".into()), "the client retries: {client_retries}");
        assert_eq!(booked.get(), 1);
    }
}

/// A guarded router that a guarded handler calls with the request that it got, less
/// the target and the key. With `axum`, the extensions that carry the `Operation`
/// carry the outer `OriginalUri` too.
mod forwarded {
    use super::*;

    async fn call(app: Router, request: Request<Body>, path: &str, key: &str) -> axum::response::Response {
        let (mut parts, body) = request.into_parts();
        parts.uri = path.parse().unwrap();
        parts.headers.insert("idempotency-key", key.parse().unwrap());
        app.oneshot(Request::from_parts(parts, body)).await.unwrap()
    }

    #[tokio::test]
    async fn another_target_under_one_key_is_another_request() {
        let layer = by("x-tenant");
        let inner: Router = Router::new()
            .route("/debit", post(|| async { "debited" }))
            .route("/credit", post(|| async { "credited" }))
            .layer(layer.clone());
        let turn = Count::default();
        let handler = move |request: Request<Body>| async move {
            let path = if turn.up() == 1 { "/debit" } else { "/credit" };
            call(inner, request, path, "inner").await
        };
        let app: Router = Router::new().route("/pay", post(handler)).layer(layer);
        assert_eq!(send(&app).await, (200, "debited".into()));
        let mut second = keyed();
        second.headers_mut().insert("idempotency-key", "k2".parse().unwrap());
        let response = app.clone().oneshot(second).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(status, 422, "{body:?}: the answer of another route");
    }

    /// Stored under the outer target, it would be driven to the outer handler, which
    /// would charge again, under the inner record.
    #[tokio::test]
    async fn a_completer_drives_an_inner_record_to_its_own_route() {
        // The second might be nested.
        for target in ["/pay", "/pay/book"] {
            let layer = by("x-tenant");
            let booked = Count::default();
            let count = booked.clone();
            let book = Router::new().route(
                "/book",
                post(move |_: Operation| async move {
                    if count.up() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CREATED }
                }),
            );
            let charged: Arc<Mutex<HashSet<String>>> = Arc::default();
            let (gateway, inner) = (Arc::clone(&charged), book.clone().layer(layer.clone()));
            let pay = move |op: Operation, request: Request<Body>| async move {
                op.pay("charge", |key| async move {
                    gateway.lock().unwrap().insert(key.to_string());
                    Ok::<_, std::io::Error>(())
                })
                .await
                .unwrap();
                // Booked later, if not now: a completer sees to it.
                let _ = call(inner, request, "/book", "booking-of-k").await;
                StatusCode::CREATED
            };
            let app: Router = Router::new().route(target, post(pay)).merge(book).layer(layer.clone());
            let mut request = keyed();
            *request.uri_mut() = target.parse().unwrap();
            assert_eq!(app.clone().oneshot(request).await.unwrap().status(), 201);
            Completer::new(&layer, app.clone()).run_once().await.unwrap();
            let charges = charged.lock().unwrap().len();
            assert_eq!((booked.get(), charges), (2, 1), "{target}: bookings, and different charges");
        }
    }
}

/// Without a layer of its own, a handler may send on what it got all the same.
#[tokio::test]
async fn a_handler_that_is_not_guarded_sends_on_to_another_target() {
    let inner: Router = Router::new()
        .route("/debit", post(|| async { "debited" }))
        .route("/credit", post(|| async { "credited" }))
        .layer(by("x-tenant"));
    let turn = Count::default();
    let handler = move |request: Request<Body>| async move {
        let path = if turn.up() == 1 { "/debit" } else { "/credit" };
        let (mut parts, body) = request.into_parts();
        parts.uri = path.parse().unwrap();
        inner.oneshot(Request::from_parts(parts, body)).await.unwrap()
    };
    let app: Router = Router::new().route("/pay", post(handler));
    assert_eq!(send(&app).await, (200, "debited".into()));
    assert_eq!(send(&app).await.0, 422);
}

/// From outside no extension would come along.
#[tokio::test]
async fn what_an_inner_handler_says_of_its_record_is_not_said_of_the_outer_one() {
    use axum::response::IntoResponse;
    use tower_idempotency::Outcome;
    let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::header("x-tenant".parse().unwrap()));
    let inner: Router = Router::new()
        .route(
            "/book",
            post(|| async {
                let mut response = (StatusCode::CONFLICT, "sold out").into_response();
                response.extensions_mut().insert(Outcome::NothingHappened);
                response
            }),
        )
        .layer(layer.clone());
    let runs = Count::default();
    let count = runs.clone();
    let handler = move || async move {
        // Charges, then books; at most once.
        count.up();
        let book = Request::post("/book").header("idempotency-key", "b").header("x-tenant", "t");
        inner.oneshot(book.body(Body::empty()).unwrap()).await.unwrap()
    };
    let app: Router = Router::new().route("/pay", post(handler)).layer(layer);
    assert_eq!(send(&app).await, (409, "sold out".into()));
    assert_eq!(send(&app).await, (409, "sold out".into()));
    assert_eq!(runs.get(), 1, "at most once");
}
