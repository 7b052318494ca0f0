//! Under axum and under bare hyper, over real sockets where that matters.

/// README's program.
#[path = "../../examples/quickstart.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own, and its `main` is not called")]
mod quickstart;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Json;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tower::{Layer, ServiceExt};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{Engine, IdempotencyLayer, Operation, Outcome, Scope};

use crate::support::raw::{Wire, exchange};
use crate::support::{Count, raw};

fn layer() -> IdempotencyLayer {
    IdempotencyLayer::new(MemoryStore::new(), Scope::shared())
}

fn keyed(path: &str, key: &str) -> Request<Body> {
    Request::post(path).header("idempotency-key", key).body(Body::from("{}")).unwrap()
}

async fn send(app: &Router, request: Request<Body>) -> (StatusCode, bool, String) {
    let response = app.clone().oneshot(request).await.unwrap();
    let (status, is_replay) = (response.status(), response.headers().contains_key("idempotent-replayed"));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, is_replay, String::from_utf8(body.to_vec()).unwrap())
}

async fn listen(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    addr
}

#[tokio::test]
async fn a_router_under_the_layer_replays_what_covered_routes_said() {
    let runs = Count::default();
    let count = runs.clone();
    let app = Router::new()
        .route("/pay", post(move || async move { (StatusCode::CREATED, format!("charge {}", count.up())) }))
        .route("/health", get(|| async { "fine" }))
        .layer(layer());
    assert_eq!(send(&app, keyed("/pay", "k")).await, (StatusCode::CREATED, false, "charge 1".into()));
    assert_eq!(send(&app, keyed("/pay", "k")).await, (StatusCode::CREATED, true, "charge 1".into()));
    let health = Request::get("/health").header("idempotency-key", "k").body(Body::empty()).unwrap();
    assert_eq!(send(&app, health).await, (StatusCode::OK, false, "fine".into()));
}

/// The program that README shows does what README says of it.
#[tokio::test]
async fn the_program_of_the_readme_charges_once_for_a_request_and_its_retry() {
    let app = quickstart::app().unwrap();
    let paying = |key: &str| {
        let request = Request::post("/payments").header("content-type", "application/json");
        request.header("idempotency-key", key).body(Body::from("1999")).unwrap()
    };
    let paid = |charge: &str| format!("order 17 is paid: {charge}\n");
    assert_eq!(send(&app, paying("\"order-1\"")).await, (StatusCode::CREATED, false, paid("ch_1")));
    for _ in 0..2 {
        assert_eq!(send(&app, paying("\"order-1\"")).await, (StatusCode::CREATED, true, paid("ch_1")));
    }
    // The provider numbers its charges: there was one before this one.
    assert_eq!(send(&app, paying("\"order-2\"")).await, (StatusCode::CREATED, false, paid("ch_2")));
    let unkeyed = Request::post("/payments").header("content-type", "application/json").body(Body::from("1999"));
    assert_eq!(send(&app, unkeyed.unwrap()).await.0, StatusCode::BAD_REQUEST);
}

/// Peer bug 35: nesting strips the prefix, and only that made them differ.
#[tokio::test]
async fn siblings_with_the_same_stripped_path_do_not_share_answers() {
    let inner = |name: &'static str| Router::new().route("/pay", post(move || async move { name })).layer(shared());
    // One store under both: one layer, cloned.
    fn shared() -> IdempotencyLayer {
        static LAYER: std::sync::OnceLock<IdempotencyLayer> = std::sync::OnceLock::new();
        LAYER.get_or_init(layer).clone()
    }
    let app = Router::new().nest("/eu", inner("eu")).nest("/us", Router::new().nest("/west", inner("west")));
    assert_eq!(send(&app, keyed("/eu/pay", "k")).await, (StatusCode::OK, false, "eu".into()));
    assert_eq!(send(&app, keyed("/us/west/pay", "k")).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(send(&app, keyed("/us/west/pay", "k2")).await, (StatusCode::OK, false, "west".into()));
    assert_eq!(send(&app, keyed("/eu/pay", "k")).await, (StatusCode::OK, true, "eu".into()));
}

/// As a proxy asks, and HTTP/2: the target names the authority, and nesting takes
/// a prefix off its path.
#[tokio::test]
async fn an_absolute_target_names_path_and_authority_under_nesting_too() {
    let inner = Router::new().route("/pay", post(|| async { "paid" })).layer(layer());
    let app = Router::new().nest("/eu", inner);
    let addr = listen(app.clone()).await;
    let raw = |target: &str, host: &str| {
        let head = format!("POST {target} HTTP/1.1\r\nhost: {host}\r\nidempotency-key: k\r\n");
        format!("{head}content-length: 2\r\n\r\n{{}}").into_bytes()
    };
    assert_eq!(exchange(addr, &raw("http://a.example/eu/pay", "b.example")).await.body, b"paid");
    for (target, host, status) in [
        ("http://a.example/eu/pay", "a.example", 200),
        ("http://A.example:80/eu/pay", "other", 200),
        ("/eu/pay", "a.example", 200),
        ("http://b.example/eu/pay", "a.example", 422),
        ("/eu/pay", "b.example", 422),
    ] {
        let answer = exchange(addr, &raw(target, host)).await;
        assert_eq!((answer.status, answer.is_replay()), (status, status == 200), "{target} {host}");
    }
    // What hyper makes of `:authority`.
    assert_eq!(send(&app, keyed("https://a.example/eu/pay", "k")).await, (StatusCode::OK, true, "paid".into()));
    assert_eq!(send(&app, keyed("https://b.example/eu/pay", "k")).await.0, StatusCode::UNPROCESSABLE_ENTITY);
}

/// An easy mistake: one on a nested router, and one outside.
#[tokio::test]
async fn of_two_layers_around_a_route_the_outer_one_guards() {
    let runs = Count::default();
    let count = runs.clone();
    let handler = move |op: Operation| async move { format!("run {} in {:?} mode", count.up(), op.mode()) };
    let app = Router::new().route("/pay", post(handler)).layer(layer()).layer(layer().resumable());
    for is_replay in [false, true] {
        let answer = send(&app, keyed("/pay", "k")).await;
        assert_eq!(answer, (StatusCode::OK, is_replay, "run 1 in Resumable mode".into()));
    }
    assert_eq!(runs.get(), 1);
}

/// A guarded router that a guarded handler calls, with the request that it got:
/// its extensions have an `Operation`, and that is of another record.
#[tokio::test]
async fn a_router_called_from_a_guarded_handler_guards_what_is_another_record() {
    let runs = Count::default();
    let count = runs.clone();
    // One store for both, as an application has it.
    let layer = layer();
    let ledger = Router::new()
        .route(
            "/book",
            post(move |op: Option<Operation>| async move { format!("run {}, guarded {}", count.up(), op.is_some()) }),
        )
        .layer(layer.clone());
    let forward = move |request: Request<Body>| async move {
        let (mut parts, body) = request.into_parts();
        parts.uri = "/book".parse().unwrap();
        parts.extensions.remove::<axum::extract::OriginalUri>();
        match parts.headers.remove("x-inner-key") {
            Some(key) if key.is_empty() => drop(parts.headers.remove("idempotency-key")),
            Some(key) => drop(parts.headers.insert("idempotency-key", key)),
            None => {}
        }
        ledger.oneshot(Request::from_parts(parts, body)).await.unwrap()
    };
    let app = Router::new().route("/pay", post(forward)).layer(layer);
    let through = |key: &str, inner: Option<&str>| {
        let mut request = keyed("/pay", key);
        if let Some(inner) = inner {
            request.headers_mut().insert("x-inner-key", inner.parse().unwrap());
        }
        request
    };
    let text = |text: &str| (StatusCode::OK, false, text.to_owned());
    // Another key: as from outside. The second time it is the inner one's replay.
    assert_eq!(send(&app, through("a", Some("inner"))).await, text("run 1, guarded true"));
    assert_eq!(send(&app, through("b", Some("inner"))).await, text("run 1, guarded true"));
    // The same key of the same caller: a part of this very operation.
    assert_eq!(send(&app, through("c", None)).await, text("run 2, guarded true"));
    // No key: it is guarded by nothing of its own.
    assert_eq!(send(&app, through("d", Some(""))).await, text("run 3, guarded true"));
    assert_eq!(runs.get(), 3);
}

/// A completer's attempt has no key to show, and is the same record in an inner layer.
#[tokio::test]
async fn a_completers_attempt_passes_an_inner_layer_that_requires_a_key() {
    use tower_idempotency::Completer;
    let runs = Count::default();
    let count = runs.clone();
    let handler = move |op: Operation| async move {
        count.up();
        let status = if op.is_resumed() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, format!("attempt {}", op.attempt()))
    };
    let pause = tower_idempotency::Backoff::new(std::time::Duration::ZERO, std::time::Duration::ZERO);
    let engine = Engine::new(MemoryStore::new()).backoff(pause);
    let outer = IdempotencyLayer::new(engine, Scope::shared()).resumable().required();
    let app: Router = Router::new().route("/pay", post(handler)).layer(outer.clone()).layer(outer.clone());
    assert_eq!(send(&app, keyed("/pay", "k")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    let report = Completer::new(&outer, app.clone()).run_once().await.unwrap();
    assert_eq!((report.completed, runs.get()), (1, 2));
    assert_eq!(send(&app, keyed("/pay", "k")).await, (StatusCode::OK, true, "attempt 2".into()));
}

/// Another caller inside is another record, whatever the key.
#[tokio::test]
async fn another_scope_inside_is_another_record() {
    let runs = Count::default();
    let count = runs.clone();
    let inner = IdempotencyLayer::new(MemoryStore::new(), Scope::header("x-tenant".parse().unwrap()));
    let ledger: Router =
        Router::new().route("/pay", post(move || async move { format!("run {}", count.up()) })).layer(inner);
    let app = Router::new().fallback_service(ledger).layer(layer());
    assert_eq!(send(&app, keyed("/pay", "a")).await.0, StatusCode::FORBIDDEN);
    for is_replay in [false, true] {
        let mut request = keyed("/pay", "b");
        request.headers_mut().insert("x-tenant", "t".parse().unwrap());
        assert_eq!(send(&app, request).await, (StatusCode::OK, is_replay, "run 1".into()));
    }
}

#[tokio::test]
async fn a_handler_takes_the_operation_or_says_why_it_can_not() {
    let app = Router::new()
        .route(
            "/must",
            post(|op: Operation, Json(_): Json<serde_json::Value>| async move { format!("{}", op.attempt()) }),
        )
        .route("/may", post(|op: Option<Operation>| async move { op.is_some().to_string() }))
        .layer(layer());
    let mut json = keyed("/must", "k");
    json.headers_mut().insert("content-type", "application/json".parse().unwrap());
    assert_eq!(send(&app, json).await, (StatusCode::OK, false, "1".into()));
    let unkeyed =
        |path: &str| Request::post(path).header("content-type", "application/json").body(Body::from("{}")).unwrap();
    let (status, _, text) = send(&app, unkeyed("/must")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        text,
        "the handler takes an Operation and the request has none: require a key on this route, or take Option<Operation>"
    );
    assert_eq!(send(&app, unkeyed("/may")).await.2, "false");
    assert_eq!(send(&app, keyed("/may", "k2")).await.2, "true");
}

#[tokio::test]
async fn a_handler_says_the_outcome_in_its_response() {
    let runs = Count::default();
    let count = runs.clone();
    let app = Router::new()
        .route(
            "/pay",
            post(move || async move {
                count.up();
                (StatusCode::CONFLICT, Extension(Outcome::NothingHappened), "sold out").into_response()
            }),
        )
        .layer(layer());
    for _ in 0..2 {
        assert_eq!(send(&app, keyed("/pay", "k")).await, (StatusCode::CONFLICT, false, "sold out".into()));
    }
    assert_eq!(runs.get(), 2);
}

/// Peer bug 15, over sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_hundred_identical_requests_over_sockets_one_runs() {
    let runs = Count::default();
    let count = runs.clone();
    let app = Router::new()
        .route("/pay", post(move || async move { (StatusCode::CREATED, format!("charge {}", count.up())) }))
        .layer(layer());
    let addr = listen(app).await;
    let request = raw::post("/pay", "k", "{\"amount\":100}");
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let request = request.clone();
            tokio::spawn(async move { exchange(addr, &request).await })
        })
        .collect();
    let (mut firsts, mut replays, mut busy) = (0, 0, 0);
    for client in clients {
        let answer = client.await.unwrap();
        match (answer.status, answer.is_replay()) {
            (201, is_replay) => {
                assert_eq!(answer.body, b"charge 1");
                *(if is_replay { &mut replays } else { &mut firsts }) += 1;
            }
            (409, false) => busy += 1,
            _ => panic!("{answer:?}"),
        }
    }
    assert_eq!((firsts, runs.get(), replays + busy), (1, 1, 199));
    assert!(exchange(addr, &request).await.is_replay());
}

/// Serves one service on a socket, without a framework.
async fn listen_bare<S>(service: S) -> SocketAddr
where
    S: tower::Service<Request<hyper::body::Incoming>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Into<axum::response::Response>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone().map_response(Into::into));
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new();
                // A client that hangs up is an error here, and no concern.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    addr
}

/// Peer bugs 2 and 3: a real reset, in the middle of a real handler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_resets_the_connection_does_not_stop_the_handler() {
    let (started, gate, ended) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)), Arc::new(Notify::new()));
    let (runs, dropped) = (Count::default(), Arc::new(Notify::new()));
    let (start, wait, end, count) = (started.clone(), gate.clone(), ended.clone(), runs.clone());
    let service = layer().layer(tower::service_fn(move |_| {
        let (start, wait, end, number) = (start.clone(), wait.clone(), end.clone(), count.up());
        async move {
            start.notify_one();
            wait.acquire().await.unwrap().forget();
            end.notify_one();
            Ok::<_, Infallible>(http::Response::new(Body::from(format!("charge {number}"))))
        }
    }));
    // Outside of the layer: tells when hyper gave up on the request.
    let on_drop = dropped.clone();
    let service = tower::service_fn(move |request| {
        let call = service.clone().oneshot(request);
        let tell = Tell(on_drop.clone());
        async move {
            let response = call.await.map(|response| response.map(Body::new));
            drop(tell);
            response
        }
    });
    let addr = listen_bare(service).await;
    let request = raw::post("/pay", "k", "{}");
    let mut wire = Wire::connect(addr).await;
    wire.send(&request).await;
    started.notified().await;
    wire.reset();
    dropped.notified().await;
    assert_eq!(exchange(addr, &request).await.status, 409, "it still runs");
    gate.add_permits(1);
    ended.notified().await;
    let answer = loop {
        let answer = exchange(addr, &request).await;
        if answer.status != 409 {
            break answer;
        }
    };
    assert!(answer.is_replay());
    assert_eq!((answer.body.as_slice(), runs.get()), (b"charge 1".as_slice(), 1));
}

/// What comes late of a body is not taken for the next request.
#[tokio::test]
async fn after_408_over_http_1_the_connection_is_closed() {
    let runs = Count::default();
    let count = runs.clone();
    let layer = layer().upload_timeout(std::time::Duration::ZERO);
    let app = Router::new().route("/pay", post(move || async move { format!("charge {}", count.up()) })).layer(layer);
    let addr = listen(app).await;
    let inner = raw::post("/pay", "inner", "{}");
    let mut wire = Wire::connect(addr).await;
    let head = format!(
        "POST /pay HTTP/1.1\r\nhost: test\r\nidempotency-key: outer\r\ncontent-length: {}\r\n\r\n{{",
        1 + inner.len()
    );
    wire.send(head.as_bytes()).await;
    let answer = wire.response().await;
    assert_eq!(answer.status, 408);
    assert!(String::from_utf8(answer.body).unwrap().contains("body-timeout"));
    // The server may have hung up already.
    wire.try_send(&inner).await;
    assert!(wire.is_closed().await, "it goes on after a body that it did not read");
    assert_eq!(runs.get(), 0);
    // A body that is there is read, however little time there is.
    assert_eq!(exchange(addr, &inner).await.body, b"charge 1");
}

struct Tell(Arc<Notify>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
