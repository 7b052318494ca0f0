//! What makes requests wait, or turns them away: concurrency limits, buffers, load shed.

use std::sync::Arc;
use std::time::Duration;

use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::{BoxError, Router};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceBuilder;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Scope};

use crate::{Gateway, guard, pay, send, start};

async fn refuse(_: BoxError) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

/// One request at a time; more are turned away.
fn shed(app: Router) -> Router {
    let stack = ServiceBuilder::new().layer(HandleErrorLayer::new(refuse)).load_shed();
    app.layer(stack.layer(tower::limit::GlobalConcurrencyLimitLayer::new(1)))
}

#[tokio::test(start_paused = true)]
async fn inside_of_the_layer_load_shed_is_the_answer_for_as_long_as_it_is_kept() {
    let (_, layer) = guard();
    let gateway = Gateway::shut();
    let wrong = shed(gateway.routes()).layer(layer);
    let first = start(&wrong, pay("first")).await;
    send(&wrong, pay("k")).await.assert_first(503, "");
    gateway.gate.add_permits(10);
    first.await.unwrap().assert_first(201, "charge 1 of 3");
    send(&wrong, pay("k")).await.assert_replay(503, "");

    let (store, layer) = guard();
    let gateway = Gateway::shut();
    let right = shed(gateway.routes().layer(layer));
    let first = start(&right, pay("first")).await;
    send(&right, pay("k")).await.assert_first(503, "");
    assert_eq!(store.len(), 1, "what was turned away is not on record");
    gateway.gate.add_permits(10);
    first.await.unwrap().assert_first(201, "charge 1 of 3");
    send(&right, pay("k")).await.assert_first(201, "charge 2 of 3");
}

/// One request at a time; more wait.
fn queued(app: Router) -> Router {
    let stack = ServiceBuilder::new().layer(HandleErrorLayer::new(refuse)).buffer(8).concurrency_limit(1);
    app.layer(stack)
}

/// A process: what it runs ends with it.
struct Process {
    runtime: Runtime,
    gateway: Gateway,
    layer: IdempotencyLayer,
}

impl Process {
    fn over(store: &Arc<MemoryStore>) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let layer = IdempotencyLayer::new(Arc::clone(store), Scope::shared());
        Self { runtime, gateway: Gateway::shut(), layer }
    }

    /// It dies while one request runs and another one, with the key `k`, waits.
    fn dies_with_a_queue(self, build: impl FnOnce(Router, IdempotencyLayer) -> Router) {
        self.runtime.block_on(async {
            let app = build(self.gateway.routes(), self.layer);
            start(&app, pay("first")).await;
            let waiting = start(&app, pay("k")).await;
            assert!(!waiting.is_finished());
            assert_eq!(self.gateway.started(), 1, "the other one waits");
        });
    }

    /// What a retry gets from it.
    fn answers(self) -> crate::Answer {
        let app = self.gateway.routes().layer(self.layer);
        self.gateway.gate.add_permits(1);
        self.runtime.block_on(send(&app, pay("k")))
    }
}

#[test]
fn inside_of_the_layer_a_queue_holds_claims_of_requests_that_have_not_started() {
    let later = Duration::from_secs(60 * 60);
    let clock = ManualClock::new();
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    Process::over(&store).dies_with_a_queue(|routes, layer| queued(routes).layer(layer));
    assert_eq!(store.len(), 2);
    clock.advance(later);
    Process::over(&store).answers().assert_problem("outcome-unknown");

    let clock = ManualClock::new();
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    Process::over(&store).dies_with_a_queue(|routes, layer| queued(routes.layer(layer)));
    assert_eq!(store.len(), 1);
    clock.advance(later);
    Process::over(&store).answers().assert_first(201, "charge 1 of 3");
}

/// A client that leaves the queue takes its request along.
#[tokio::test(start_paused = true)]
async fn inside_of_the_layer_a_queue_runs_requests_whose_clients_left() {
    let (_, layer) = guard();
    let gateway = Gateway::shut();
    let wrong = queued(gateway.routes()).layer(layer);
    let started = leaves_the_queue(&wrong, &gateway).await;
    assert_eq!(started, 2);

    let (store, layer) = guard();
    let gateway = Gateway::shut();
    let right = queued(gateway.routes().layer(layer));
    let started = leaves_the_queue(&right, &gateway).await;
    assert_eq!((started, store.len()), (1, 1));
    send(&right, pay("k")).await.assert_first(201, "charge 2 of 3");
}

/// How many requests were started, when all that was waited for is over.
async fn leaves_the_queue(app: &Router, gateway: &Gateway) -> usize {
    let first = start(app, pay("first")).await;
    let waiting = start(app, pay("k")).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    gateway.gate.add_permits(10);
    first.await.unwrap();
    crate::settle().await;
    gateway.started()
}
