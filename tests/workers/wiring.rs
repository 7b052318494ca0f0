//! What a completer is given leads to its layer, or nothing is driven; and what
//! has no route in this process is left to the others.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use axum::{Extension, Router, middleware};
use http_body_util::BodyExt;
use tower::{ServiceBuilder, ServiceExt};
use tower_idempotency::core::{Hold, Mode, Record, Status};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{
    Background, Backoff, Completer, IdempotencyLayer, Operation, Outcome, Reconciled, Scope, StepError,
};

use crate::support::bodies::Failure;
use crate::support::lab::{Lab, grpc, secs, stored_key};
use crate::support::{Count, settle};

/// Accepts what is to be run later, and is tried again at once.
fn layer(lab: &Lab) -> IdempotencyLayer {
    at_most_once(lab).resumable()
}

fn at_most_once(lab: &Lab) -> IdempotencyLayer {
    lab.layer_with(|engine| engine.backoff(Backoff::new(secs(10), secs(10)))).background(Background::at("/operations"))
}

/// A handler that counts its runs.
fn handler(runs: &Count) -> MethodRouter {
    let runs = runs.clone();
    post(move || async move { (StatusCode::CREATED, format!("order {}", runs.up())) })
}

fn request(path: &str, later: bool) -> Request<Body> {
    let request = Request::post(path).header("idempotency-key", "k");
    let request = if later { request.header("prefer", "respond-async") } else { request };
    request.body(Body::from("{}")).unwrap()
}

async fn send(app: &Router, request: Request<Body>) -> (u16, String) {
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Accepts an order at `path`, through a router that is wired as it should be.
async fn accept(lab: &Lab, path: &str) {
    let app = Router::new().route(path, handler(&Count::default())).layer(layer(lab));
    assert_eq!(send(&app, request(path, true)).await.0, 202);
    lab.events.clear();
}

async fn stored(lab: &Lab) -> Record {
    lab.store.peek(&stored_key("k")).await.unwrap()
}

async fn refuses(lab: &Lab, completer: &Completer) {
    for _ in 0..3 {
        let error = completer.run_once().await.unwrap_err().to_string();
        assert!(error.contains("without the layer") && error.contains("another store"), "{error}");
    }
    let record = stored(lab).await;
    assert_eq!((record.attempts(), record.hold()), (0, &Hold::Runnable), "no try was spent");
    assert_eq!(lab.events.names(), ["NotWired"]);
}

#[tokio::test]
async fn a_completer_of_a_service_without_the_layer_runs_nothing() {
    let lab = Lab::new();
    accept(&lab, "/orders").await;
    let runs = Count::default();
    let bare = Router::new().route("/orders", handler(&runs));
    refuses(&lab, &Completer::new(&layer(&lab), bare)).await;
    assert_eq!(runs.get(), 0);
}

#[tokio::test]
async fn a_completer_of_a_service_with_the_layer_of_another_store_runs_nothing() {
    let lab = Lab::new();
    accept(&lab, "/orders").await;
    let runs = Count::default();
    let other = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).resumable();
    let app = Router::new().route("/orders", handler(&runs)).layer(other);
    refuses(&lab, &Completer::new(&layer(&lab), app)).await;
    assert_eq!(runs.get(), 0);
}

/// It stops, and says why; what was accepted stays as it was.
#[tokio::test(start_paused = true)]
async fn a_completer_that_runs_stops_at_the_first_work_that_shows_the_mistake() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let runs = Count::default();
    let app = Router::new().route("/orders", handler(&runs)).layer(layer.clone());
    let bare = Router::new().route("/orders", handler(&runs));
    let completer = Completer::new(&layer, bare);
    let completing = tokio::spawn(async move { completer.run(std::future::pending()).await });
    settle().await;
    assert!(!completing.is_finished(), "there is no work yet");
    assert_eq!(send(&app, request("/orders", true)).await.0, 202);
    let error = completing.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("without the layer"), "{error}");
    assert_eq!((runs.get(), stored(&lab).await.attempts()), (0, 0));
    // Another one goes on with it.
    assert_eq!(Completer::new(&layer, app).run_once().await.unwrap().completed, 1);
}

/// Every way to put a layer around a route leads to it.
#[tokio::test]
async fn however_the_layer_is_put_around_a_route_it_is_found() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let route = |runs: &Count| Router::new().route("/orders", handler(runs));
    let runs = Count::default();
    let other = || Router::new().route("/health", post(|| async { "fine" }));
    let apps: Vec<(&str, &str, Router)> = vec![
        ("layer", "/orders", route(&runs).layer(layer.clone())),
        ("route_layer", "/orders", route(&runs).route_layer(layer.clone())),
        ("a method router's layer", "/orders", Router::new().route("/orders", handler(&runs).layer(layer.clone()))),
        ("nested", "/v1/orders", Router::new().nest("/v1", route(&runs).layer(layer.clone()))),
        ("around a nest", "/v1/orders", Router::new().nest("/v1", route(&runs)).layer(layer.clone())),
        ("merged", "/orders", other().merge(route(&runs).route_layer(layer.clone()))),
        ("a fallback", "/orders", other().fallback_service(route(&runs).layer(layer.clone()))),
        (
            "ServiceBuilder",
            "/orders",
            Router::new().fallback_service(ServiceBuilder::new().layer(layer.clone()).service(route(&runs))),
        ),
        ("made of it by clone", "/orders", route(&runs).layer(layer.clone().required().request_limit(1 << 20))),
    ];
    for (number, (name, path, app)) in apps.into_iter().enumerate() {
        let key = format!("k{number}");
        let accept = Request::post(path).header("idempotency-key", &key).header("prefer", "respond-async");
        assert_eq!(send(&app, accept.body(Body::empty()).unwrap()).await.0, 202, "{name}");
        let completer = Completer::new(&layer, app);
        assert_eq!(completer.run_once().await.unwrap().completed, 1, "{name}");
        assert_eq!(runs.get(), number + 1, "{name}");
    }
    assert_eq!(lab.events.count("NotWired"), 0);
}

/// It answers other methods itself, so that nothing can be proven without running
/// the handler. Said to be right, it is driven.
#[tokio::test]
async fn a_method_routers_route_layer_has_to_be_vouched_for() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let runs = Count::default();
    let app = Router::new().route("/orders", handler(&runs).route_layer(layer.clone()));
    assert_eq!(send(&app, request("/orders", true)).await.0, 202);
    let completer = Completer::new(&layer, app);
    assert!(completer.run_once().await.is_err());
    assert_eq!((runs.get(), stored(&lab).await.attempts()), (0, 0));
    assert_eq!(completer.assume_guarded().run_once().await.unwrap().completed, 1);
}

/// What was vouched for wrongly stops with the first work that shows it.
#[tokio::test(start_paused = true)]
async fn an_answer_that_never_met_the_layer_stops_the_completer() {
    for status in [201, 303] {
        let (lab, clock) = Lab::manual();
        accept(&lab, "/orders").await;
        let runs = Count::default();
        let count = runs.clone();
        let bare = post(move || async move {
            count.up();
            StatusCode::from_u16(status).unwrap()
        });
        let bare = Router::new().route("/orders", bare);
        let completer = Completer::new(&layer(&lab), bare).assume_guarded();
        for _ in 0..3 {
            assert!(completer.run_once().await.is_err());
            clock.advance(secs(60));
        }
        assert_eq!((runs.get(), lab.events.count("NotWired")), (1, 1));
    }
}

/// Of an outer layer nothing is known; it may let the next one pass.
#[tokio::test(start_paused = true)]
async fn an_error_from_before_the_layer_is_a_try() {
    for status in [401, 403, 429, 503] {
        let (lab, clock) = Lab::manual();
        accept(&lab, "/orders").await;
        let (layer, runs) = (layer(&lab), Count::default());
        let refuse = move |_: Request<Body>, _: middleware::Next| async move {
            StatusCode::from_u16(status).unwrap().into_response() as Response
        };
        let app = Router::new().route("/orders", handler(&runs)).layer(layer.clone());
        let guarded = app.clone().layer(middleware::from_fn(refuse));
        let completer = Completer::new(&layer, guarded).max_tries(2);
        for (released, parked) in [(1, 0), (1, 0), (0, 1)] {
            let report = completer.run_once().await.unwrap();
            assert_eq!((report.released, report.parked, runs.get()), (released, parked, 0), "{status}");
            clock.advance(secs(10));
        }
        assert_eq!(lab.events.count("NotWired"), 0);
    }
}

/// A new release accepts what an old one does not know.
#[tokio::test(start_paused = true)]
async fn what_has_no_route_in_this_process_is_left_to_the_others() {
    for under in ["layer", "route_layer", "a method router's layer"] {
        let (lab, clock) = Lab::manual();
        accept(&lab, "/v2/orders").await;
        let (old, runs) = (Count::default(), Count::default());
        let layer = layer(&lab);
        let old = match under {
            "layer" => Router::new().route("/orders", handler(&old)).layer(layer.clone()),
            "route_layer" => Router::new().route("/orders", handler(&old)).route_layer(layer.clone()),
            _ => Router::new().route("/orders", handler(&old).layer(layer.clone())),
        };
        let old = Completer::new(&layer, old);
        for tries in 1..4 {
            let report = old.run_once().await.unwrap();
            assert_eq!((report.released, report.completed), (1, 0), "{under}: {report:?}");
            let record = stored(&lab).await;
            assert_eq!((record.tries(), record.status()), (tries, Status::Pending));
            assert_eq!(old.run_once().await.unwrap().found, 0, "it rests first");
            clock.advance(secs(10));
        }
        assert_eq!(lab.events.count("NoRoute"), 3, "{under}");
        let new = Router::new().route("/v2/orders", handler(&runs)).layer(layer.clone());
        assert_eq!(Completer::new(&layer, new.clone()).run_once().await.unwrap().completed, 1, "{under}");
        assert_eq!(send(&new, request("/v2/orders", false)).await, (201, "order 1".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_route_anywhere_is_parked_when_its_tries_are_over() {
    let (lab, clock) = Lab::manual();
    accept(&lab, "/v2/orders").await;
    let layer = layer(&lab);
    let old = Router::new().route("/orders", handler(&Count::default())).layer(layer.clone());
    let old = Completer::new(&layer, old).max_tries(4);
    let mut parked = 0;
    for _ in 0..6 {
        parked += old.run_once().await.unwrap().parked;
        clock.advance(secs(10));
    }
    assert_eq!((parked, lab.events.count("NoRoute"), lab.events.count("Completed")), (1, 4, 0));
}

/// Which of them a router said, and which a handler, can't be told apart; unless it
/// came to a step, or says so itself.
#[tokio::test(start_paused = true)]
async fn no_such_thing_of_a_handler_is_an_answer_if_it_says_so_or_came_to_a_step() {
    for status in [404, 405, 421, 501] {
        for how in ["plain", "final", "step", "client"] {
            let (lab, clock) = Lab::manual();
            let layer = layer(&lab);
            let handler = post(move |Extension(op): Extension<Operation>| async move {
                if how == "step" {
                    op.step("look", |_| async { Ok::<_, Failure>(1) }).await.unwrap();
                }
                let mut response = StatusCode::from_u16(status).unwrap().into_response();
                if how == "final" {
                    response.extensions_mut().insert(Outcome::Final);
                }
                response
            });
            let app = Router::new().route("/orders", handler).layer(layer.clone());
            let completer = Completer::new(&layer, app.clone());
            let (accepted, _) = send(&app, request("/orders", how != "client")).await;
            assert_eq!(accepted, if how == "client" { status } else { 202 });
            let report = completer.run_once().await.unwrap();
            // What says that it did not start, or that the server failed, is tried again anyway.
            let is_end = how == "final" || (how == "step" && [404, 405].contains(&status));
            let either = how == "step" && status == 421;
            if how == "client" {
                continue;
            }
            let end = (report.completed, report.released);
            assert!(either || end == if is_end { (1, 0) } else { (0, 1) }, "{status} {how}: {report:?}");
            assert_eq!(lab.events.count("NoRoute"), usize::from(how == "plain"), "{status} {how}");
            clock.advance(secs(10));
        }
    }
}

/// Whether its handler ran can't be known, so it is not run again: a reconciler is
/// asked, and then an operator.
#[tokio::test]
async fn at_most_once_what_may_have_had_no_route_is_not_run_again() {
    for known in [true, false] {
        let lab = Lab::new();
        let (layer, runs) = (at_most_once(&lab), Count::default());
        let count = runs.clone();
        let handler = post(move || async move {
            count.up();
            StatusCode::NOT_FOUND
        });
        let app = Router::new().route("/orders", handler).layer(layer.clone());
        assert_eq!(send(&app, request("/orders", true)).await.0, 202);
        let completer = Completer::new(&layer, app).reconcile(move |_| async move {
            if known { Reconciled::Happened(http::Response::new("found".into())) } else { Reconciled::Unknown }
        });
        let mut total = (0, 0, 0);
        for _ in 0..4 {
            let report = completer.run_once().await.unwrap();
            total = (total.0 + report.reconciled, total.1 + report.parked, total.2 + report.completed);
        }
        assert_eq!(total, if known { (1, 0, 0) } else { (0, 1, 0) });
        assert_eq!((runs.get(), lab.events.count("NoRoute")), (1, 1));
        assert_eq!(stored(&lab).await.mode(), Mode::AtMostOnce);
    }
}

/// Nothing has run for sure: it is as it was.
#[tokio::test(start_paused = true)]
async fn at_most_once_what_is_not_driven_for_want_of_a_route_is_run_by_another() {
    let (lab, clock) = Lab::manual();
    let (layer, runs) = (at_most_once(&lab), Count::default());
    let new = Router::new().route("/v2/orders", handler(&runs)).route_layer(layer.clone());
    assert_eq!(send(&new, request("/v2/orders", true)).await.0, 202);
    let old = Router::new().route("/orders", handler(&Count::default())).route_layer(layer.clone());
    let report = Completer::new(&layer, old).run_once().await.unwrap();
    assert_eq!((report.parked, report.completed, lab.events.count("NoRoute")), (0, 0, 1), "{report:?}");
    clock.advance(secs(10));
    assert_eq!(Completer::new(&layer, new).run_once().await.unwrap().completed, 1);
    assert_eq!(runs.get(), 1);
}

/// Half undone, and met by a release that has no such route.
#[tokio::test(start_paused = true)]
async fn an_operation_that_is_being_undone_is_not_parked_for_want_of_a_route() {
    let (lab, clock) = Lab::manual();
    let (layer, cancels) = (layer(&lab), Count::default());
    let count = cancels.clone();
    let handler = post(move |op: Operation| async move {
        let count = count.clone();
        let flight = op.pay("flight", |_| async { Ok::<_, Failure>(17) }).undo_with(move |_, _| async move {
            // The first time it is not to be had.
            if count.up() == 1 { Err(Failure("away").into()) } else { Ok(()) }
        });
        match flight.await {
            Ok(_) | Err(StepError::Undoing { .. }) => StatusCode::CONFLICT,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    });
    let new = Router::new().route("/v2/trips", handler).layer(layer.clone());
    assert_eq!(send(&new, request("/v2/trips", false)).await.0, 500);
    clock.advance(secs(10));
    let old = Router::new().route("/trips", self::handler(&Count::default())).layer(layer.clone());
    assert_eq!(Completer::new(&layer, old).run_once().await.unwrap().released, 1);
    clock.advance(secs(10));
    assert_eq!(Completer::new(&layer, new.clone()).run_once().await.unwrap().completed, 1);
    assert_eq!((send(&new, request("/v2/trips", false)).await.0, cancels.get()), (409, 2));
}

/// As tonic says it: 200, and `UNIMPLEMENTED` in the head.
#[tokio::test(start_paused = true)]
async fn no_route_of_grpc_is_no_route() {
    for (under, alone) in [("layer", true), ("layer", false), ("route_layer", true)] {
        let (lab, clock) = Lab::manual();
        accept(&lab, "/shop.Orders/New").await;
        let layer = layer(&lab);
        let old = Router::new().route("/shop.Orders/Old", handler(&Count::default()));
        let unimplemented = move || async move { grpc("12", alone).map(Body::new) };
        let old = match under {
            "layer" => old.fallback(unimplemented).layer(layer.clone()),
            _ => old.route_layer(layer.clone()).fallback(unimplemented),
        };
        let old = Completer::new(&layer, old).max_tries(3);
        for (released, parked) in [(1, 0), (1, 0), (1, 0), (0, 1)] {
            let report = old.run_once().await.unwrap();
            assert_eq!((report.released, report.parked, report.completed), (released, parked, 0), "{under} {alone}");
            clock.advance(secs(10));
        }
        assert_eq!((lab.events.count("NoRoute"), lab.events.count("NotWired")), (3, 0), "{under} {alone}");
    }
    // There is no such thing: that is an answer.
    let (lab, _) = Lab::manual();
    accept(&lab, "/shop.Orders/New").await;
    let layer = layer(&lab);
    let app = Router::new().fallback(|| async { grpc("5", true).map(Body::new) }).layer(layer.clone());
    assert_eq!(Completer::new(&layer, app).run_once().await.unwrap().completed, 1);
}
