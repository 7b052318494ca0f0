//! One file for each kind of layer. Each test has it on the wrong side first, and shows
//! what is lost, and then on the right one.

mod bodies;
mod callers;
mod load;
mod times;

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse;
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;
use tower_idempotency::IdempotencyLayer;

use crate::{Gateway, guard, pay, pay_with, send};

/// As the guide has it.
fn whole(routes: Router, idempotency: IdempotencyLayer) -> Router {
    let cors = CorsLayer::permissive();
    let authentication = axum::middleware::from_fn(|request: Request<Body>, next: Next| async {
        let is_valid = request.headers().contains_key("authorization");
        if is_valid { next.run(request).await } else { StatusCode::UNAUTHORIZED.into_response() }
    });
    #[rustfmt::skip]
    let stack =
// <guide>
ServiceBuilder::new()
    .layer(TraceLayer::new_for_http())
    .layer(cors)
    .layer(CompressionLayer::new())
    .layer(authentication)
    .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(30)))
    .layer(RequestBodyLimitLayer::new(1 << 20))
    .layer(RequestDecompressionLayer::new())
    .layer(idempotency)
// </guide>
    ;
    routes.layer(stack)
}

#[tokio::test]
async fn the_stack_of_the_guide_replays() {
    let (_, layer) = guard();
    let gateway = Gateway::open();
    let app = whole(gateway.routes(), layer);
    let request = || pay_with("k", "100", &[("authorization", "Bearer valid")]);
    send(&app, request()).await.assert_first(201, "charge 1 of 3");
    send(&app, request()).await.assert_replay(201, "charge 1 of 3");
    assert_eq!(send(&app, pay("k")).await.status, 401);
    assert_eq!(gateway.charged(), 1);
}

#[test]
fn the_guide_shows_it() {
    let this = include_str!("mod.rs");
    let shown = this.split("// <guide>\n").nth(1).and_then(|rest| rest.split("// </guide>").next()).unwrap();
    let guide = include_str!("../../../../src/guide/order.md");
    assert!(guide.contains(&format!("```rust,ignore\n{shown}```")), "they differ");
}
