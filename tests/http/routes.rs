//! Keys that count for one endpoint, and several policies in one app.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::post as route;
use http::HeaderName;
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt};
use tower_idempotency::core::{IdempotencyKey, Key};
use tower_idempotency::{Background, IdempotencyLayer, Operation, Operator, Scope, StatusService};

use crate::support::Count;
use crate::support::lab::{Lab, completer, numbered, request, send, with};

fn per_tenant_and_route() -> Scope {
    Scope::header(HeaderName::from_static("x-tenant")).per_route()
}

/// A layer like this one for any endpoint answers 422.
#[tokio::test]
async fn a_key_counts_for_one_endpoint() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer_for(per_tenant_and_route()));
    let endpoints = [("POST", "/pay", "a"), ("POST", "/refund", "a"), ("PATCH", "/pay", "a"), ("POST", "/pay", "b")];
    let from = |(method, path, tenant)| with(request(method, path, "k", "{}"), "x-tenant", tenant);
    for (at, endpoint) in endpoints.into_iter().enumerate() {
        send(&app, from(endpoint)).await.assert_first(201, &format!("charge {}", at + 1));
    }
    for (at, endpoint) in endpoints.into_iter().enumerate() {
        send(&app, from(endpoint)).await.assert_replay(201, &format!("charge {}", at + 1));
    }
    // The query is no part of the route, and of the request it is.
    let other = with(request("POST", "/pay?a=1", "k", "{}"), "x-tenant", "a");
    send(&app, other).await.assert_problem("key-reused", 422);
    send(&app, request("POST", "/pay", "k", "{}")).await.assert_problem("scope-unknown", 403);
    assert_eq!(runs.get(), endpoints.len());
}

/// What one upload holds of its caller's share is the caller's, at whichever route; and
/// no scope and route make the key of another pair.
#[test]
fn routes_and_scopes_do_not_run_together() {
    let key = IdempotencyKey::parse(b"k").unwrap();
    let of = |method: &str, route, scope| Key::of_route(&method.parse().unwrap(), route, scope, &key);
    let keys = [
        of("POST", "/a", "b"),
        of("POST", "/ab", ""),
        of("POST", "/a", "bk"),
        of("PATCH", "/a", "b"),
        Key::new("POST/ab", &key),
        Key::of_runner("POST/ab", &key),
        Key::new("b", &key),
    ];
    for (n, one) in keys.iter().enumerate() {
        assert!(keys.iter().skip(n + 1).all(|other| one != other), "{n}");
    }
}

fn keyed(path: &str) -> Request<Body> {
    Request::post(path).header("idempotency-key", "k").header("x-tenant", "a").body(Body::from("{}")).unwrap()
}

async fn text<S, B>(app: &S, request: Request<Body>) -> (u16, String)
where
    S: Service<Request<Body>, Response = http::Response<B>, Error = std::convert::Infallible, Future: Send>
        + Clone
        + Send
        + Sync,
    B: http_body::Body<Data: Send, Error: std::fmt::Debug> + Send,
{
    let response = app.clone().oneshot(request).await.unwrap();
    let (status, body) = (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes());
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// The number of a run, and whether the handler has an operation.
fn counted(runs: &Count) -> axum::routing::MethodRouter {
    let runs = runs.clone();
    route(move |operation: Option<Operation>| async move { format!("{} {}", runs.up(), operation.is_some()) })
}

#[tokio::test]
async fn of_axum_it_is_the_route_and_not_the_path() {
    let (lab, runs) = (Lab::new(), Count::default());
    let api = Router::new().route("/users/{id}/pay", counted(&runs)).route("/pay", counted(&runs));
    let app: Router =
        Router::new().nest("/a", api.clone()).nest("/b", api).layer(lab.layer_for(per_tenant_and_route()));
    assert_eq!(text(&app, keyed("/a/users/1/pay")).await, (200, "1 true".to_owned()));
    assert_eq!(text(&app, keyed("/a/users/2/pay")).await.0, 422);
    assert_eq!(text(&app, keyed("/a/pay")).await, (200, "2 true".to_owned()));
    assert_eq!(text(&app, keyed("/b/pay")).await, (200, "3 true".to_owned()));
    assert_eq!(text(&app, keyed("/a/users/1/pay")).await, (200, "1 true".to_owned()));

    let operator = Operator::new(lab.store.clone());
    let key = IdempotencyKey::parse(b"k").unwrap();
    let key = Key::of_route(&http::Method::POST, "/a/users/{id}/pay", "a", &key);
    assert!(operator.show(&key).await.is_ok(), "an operator finds it");
}

/// The outer one knows no route yet, and guards.
#[tokio::test]
async fn two_layers_around_one_route_guard_it_once() {
    let (lab, runs) = (Lab::new(), Count::default());
    let layer = lab.layer_for(per_tenant_and_route());
    let api = Router::new().route("/users/{id}/pay", counted(&runs).layer(layer.clone())).layer(layer.clone());
    let app = layer.layer(Router::new().nest("/a", api));
    for _ in 0..2 {
        assert_eq!(text(&app, keyed("/a/users/1/pay")).await, (200, "1 true".to_owned()));
        assert_eq!(lab.store.len(), 1);
    }
    // Another user has another path, which is all that the outer one knows.
    assert_eq!(text(&app, keyed("/a/users/2/pay")).await, (200, "2 true".to_owned()));
}

/// What a handler sends on is as new at another route, with all that its request carries.
#[tokio::test]
async fn what_a_handler_sends_on_counts_for_the_route_it_is_sent_to() {
    let (lab, runs) = (Lab::new(), Count::default());
    let layer = lab.layer_for(per_tenant_and_route());
    // Around its router: what is left of the route is that of the first one.
    let inner = layer.layer(Router::new().route("/book", counted(&runs)));
    let pay = move |mut request: axum::extract::Request| async move {
        *request.uri_mut() = "/book".parse().unwrap();
        let response = inner.oneshot(request).await.unwrap();
        response.map(Body::new)
    };
    let app: Router = Router::new().route("/users/{id}/pay", route(pay)).layer(layer);
    assert_eq!(text(&app, keyed("/users/1/pay")).await, (200, "1 true".to_owned()));
    assert_eq!(lab.store.len(), 2, "two operations");
}

#[tokio::test(start_paused = true)]
async fn the_status_resource_answers_for_the_endpoint_that_is_named() {
    let lab = Lab::new();
    let layer = lab.layer_for(per_tenant_and_route()).resumable().background(Background::at("/operations"));
    let (app, _) = numbered(&layer);
    let later = with(with(request("POST", "/pay/a%20b", "\"k 1\"", "{}"), "x-tenant", "a"), "prefer", "respond-async");
    let accepted = send(&app, later).await;
    let place = accepted.headers["location"].to_str().unwrap();
    assert_eq!(place, "/operations/k%201?method=POST&route=%2Fpay%2Fa%2520b");

    let service = StatusService::new(&layer);
    let ask = |path: String, tenant| {
        let request = Request::get(path).header("x-tenant", tenant).body(Body::empty()).unwrap();
        let service = service.clone();
        async move { text(&service, request).await }
    };
    assert!(ask(place.to_owned(), "a").await.1.contains("\"queued\""));
    assert!(ask(format!("{place}&more=1&route=%2Fother"), "a").await.1.contains("\"queued\""), "the first one");
    assert_eq!(ask(place.to_owned(), "b").await.0, 404);
    for other in
        ["", "?method=POST", "?route=%2Fpay%2Fa%2520b", "?method=PATCH&route=%2Fpay%2Fa%2520b", "?method=&route="]
    {
        assert_eq!(ask(format!("/operations/k%201{other}"), "a").await.0, 404, "{other}");
    }

    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1);
    assert!(ask(place.to_owned(), "a").await.1.contains("\"complete\""));
    let retry = with(request("POST", "/pay/a%20b", "\"k 1\"", "{}"), "x-tenant", "a");
    send(&app, retry).await.assert_replay(201, "charge 1");
}

/// Clones of one layer are one: what one of them began, another one knows.
#[tokio::test]
async fn policies_of_one_app_are_clones_of_one_layer() {
    let (lab, runs) = (Lab::new(), Count::default());
    let base = lab.layer_for(per_tenant_and_route()).max_running(0);
    let strict: IdempotencyLayer = base.clone().required();
    let app: Router =
        Router::new().route("/pay", counted(&runs).layer(strict)).route("/note", counted(&runs).layer(base));
    let without = |path: &str| Request::post(path).header("x-tenant", "a").body(Body::from("{}")).unwrap();
    assert_eq!(text(&app, without("/pay")).await.0, 400);
    assert_eq!(text(&app, without("/note")).await, (200, "1 false".to_owned()));
    for path in ["/pay", "/note"] {
        assert_eq!(text(&app, keyed(path)).await.0, 503, "the bound of the base layer is that of its clones");
    }
}
