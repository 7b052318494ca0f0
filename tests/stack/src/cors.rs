//! A browser of another origin, by tower-http's `CorsLayer`.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, Method, Request};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_idempotency::{Background, IdempotencyLayer, ReplayMark};

use crate::{Answer, Gateway, guard, pay_with, send};

const SHOP: &str = "https://shop.example";

/// What the layer names, and what the handler reads.
fn cors(layer: &IdempotencyLayer) -> CorsLayer {
    let mut allowed = layer.cors_allow_headers();
    allowed.extend([AUTHORIZATION, CONTENT_TYPE]);
    let origins = [SHOP, "https://till.example"].map(HeaderValue::from_static);
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::POST])
        .allow_credentials(true)
        .allow_headers(allowed)
        .expose_headers(layer.cors_expose_headers())
}

fn app(layer: &IdempotencyLayer, gateway: &Gateway) -> Router {
    gateway.routes().layer(layer.clone()).layer(cors(layer))
}

/// What a browser asks before it sends these fields.
fn preflight(fields: &str) -> Request<Body> {
    Request::options("/pay")
        .header("origin", SHOP)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", fields)
        .body(Body::empty())
        .unwrap()
}

fn names(answer: &Answer, list: &str) -> Vec<String> {
    let lines = answer.headers.get_all(list).iter().map(|line| line.to_str().unwrap());
    lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_owned()).collect()
}

/// Whether the browser would send all of these.
async fn may_send(app: &Router, fields: &[&str]) -> bool {
    let answer = send(app, preflight(&fields.join(","))).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let allowed = names(&answer, "access-control-allow-headers");
    fields.iter().all(|field| allowed.iter().any(|name| name == field))
}

/// Whether a script would see all of these.
async fn may_read(app: &Router, key_name: &str, fields: &[&str]) -> bool {
    let request = pay_with("k", "100", &[("origin", SHOP), (key_name, "k")]);
    let exposed = names(&send(app, request).await, "access-control-expose-headers");
    fields.iter().all(|field| exposed.iter().any(|name| name == field))
}

#[tokio::test]
async fn a_preflight_allows_the_key_and_runs_nothing() {
    let (store, layer) = guard();
    let gateway = Gateway::open();
    let app = app(&layer.required(), &gateway);
    assert!(may_send(&app, &["idempotency-key", "content-type"]).await);
    assert!(!may_send(&app, &["prefer"]).await, "no client may ask for anything");
    assert!(!may_send(&app, &["x-other"]).await);
    assert_eq!((gateway.started(), store.len()), (0, 0));
}

#[tokio::test]
async fn what_may_be_sent_follows_from_the_settings() {
    let (_, layer) = guard();
    let gateway = Gateway::open();
    let named = layer.clone().key_headers([HeaderName::from_static("x-request-key")]);
    let app_named = app(&named, &gateway);
    assert!(may_send(&app_named, &["x-request-key"]).await);
    assert!(!may_send(&app_named, &["idempotency-key"]).await, "it is not looked at");
    let waiting = app(&layer.clone().wait(Duration::from_secs(1)), &gateway);
    assert!(may_send(&waiting, &["idempotency-key", "prefer"]).await);
    assert!(!may_send(&waiting, &["if-none-match"]).await, "there is no status resource");
    let later = app(&layer.resumable().background(Background::at("/operations")), &gateway);
    assert!(may_send(&later, &["idempotency-key", "prefer", "if-none-match"]).await);
}

#[tokio::test]
async fn what_may_be_read_follows_from_the_settings() {
    let (_, layer) = guard();
    let gateway = Gateway::open();
    let always = ["idempotent-replayed", "idempotency-replay-unavailable", "retry-after", "link"];
    let plain = app(&layer, &gateway);
    assert!(may_read(&plain, "x-none", &always).await);
    for field in ["idempotency-key", "location", "x-replay"] {
        assert!(!may_read(&plain, "x-none", &[field]).await, "{field}");
    }
    let (name, value) = (HeaderName::from_static("x-replay"), HeaderValue::from_static("1"));
    let marked = app(&layer.clone().replay_mark(ReplayMark::new(name, value).unwrap()), &gateway);
    assert!(may_read(&marked, "x-none", &["x-replay"]).await);
    assert!(!may_read(&marked, "x-none", &["idempotent-replayed"]).await);
    let named = layer.clone().key_headers([HeaderName::from_static("x-request-key")]).echo_key();
    assert!(may_read(&app(&named, &gateway), "x-request-key", &["x-request-key"]).await);
    let later = app(&layer.resumable().background(Background::at("/operations")), &gateway);
    assert!(may_read(&later, "x-none", &["location", "preference-applied", "etag", "retry-after"]).await);
}

/// Every field that the layer sets in these responses is exposed, or is one of those that
/// any script may read (Fetch, CORS-safelisted response-header names).
#[tokio::test]
async fn no_field_of_a_problem_or_a_replay_is_hidden() {
    let safelisted = ["cache-control", "content-language", "content-length", "content-type", "vary"];
    let (_, layer) = guard();
    let app = app(&layer.echo_key(), &Gateway::open());
    let from_shop = |body: &'static str| pay_with("k", body, &[("origin", SHOP)]);
    let answers = [
        send(&app, from_shop("100")).await,
        send(&app, from_shop("100")).await,
        // Another request under the same key.
        send(&app, from_shop("1000")).await,
    ];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [201, 201, 422]);
    for answer in answers {
        let exposed = names(&answer, "access-control-expose-headers");
        for name in answer.headers.keys().map(HeaderName::as_str) {
            let is_seen = exposed.iter().any(|other| other == name) || safelisted.contains(&name);
            assert!(is_seen || name.starts_with("access-control-"), "{name} of {}", answer.status);
        }
    }
}

/// Inside of the layer, CORS is part of what is stored: a replay is for the first origin,
/// and no origin may read a problem.
#[tokio::test]
async fn inside_of_the_layer_cors_is_for_the_first_origin_only() {
    let (_, layer) = guard();
    let from = |origin| pay_with("k", "100", &[("origin", origin)]);
    let wrong = Gateway::open().routes().layer(cors(&layer)).layer(layer.clone().required());
    let origin_of = |answer: &Answer| {
        answer.headers.get("access-control-allow-origin").map(|origin| origin.to_str().unwrap().to_owned())
    };
    assert_eq!(origin_of(&send(&wrong, from(SHOP)).await).as_deref(), Some(SHOP));
    let lost = send(&wrong, from("https://till.example")).await;
    assert_eq!(origin_of(&lost).as_deref(), Some(SHOP), "the till may not read its replay");
    let problem = send(&wrong, pay_with("k", "1000", &[("origin", SHOP)])).await;
    assert_eq!((problem.status, origin_of(&problem)), (422, None));

    let (_, layer) = guard();
    let right = app(&layer, &Gateway::open());
    send(&right, from(SHOP)).await;
    let held = send(&right, from("https://till.example")).await;
    assert!(held.is_replay());
    assert_eq!(origin_of(&held).as_deref(), Some("https://till.example"));
    let problem = send(&right, pay_with("k", "1000", &[("origin", SHOP)])).await;
    assert_eq!((problem.status, origin_of(&problem).as_deref()), (422, Some(SHOP)));
}
