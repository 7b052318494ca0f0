//! The layer among those of tower-http and tower: what is lost where one stands on the
//! wrong side of it, and held on the right one. `guide/order.md` says which is which.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod cors;
mod openapi;
mod order;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::post;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Scope};

/// A gateway: it charges once it may, and counts.
#[derive(Clone)]
struct Gateway {
    started: Arc<AtomicUsize>,
    charged: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Gateway {
    /// It charges at once.
    fn open() -> Self {
        let gateway = Self::shut();
        gateway.gate.add_permits(Semaphore::MAX_PERMITS / 2);
        gateway
    }

    /// Each charge needs a permit first.
    fn shut() -> Self {
        Self { started: Arc::default(), charged: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    async fn charge(self, body: Bytes) -> (StatusCode, String) {
        self.started.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        let number = self.charged.fetch_add(1, Ordering::SeqCst) + 1;
        (StatusCode::CREATED, format!("charge {number} of {}", body.len()))
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    fn charged(&self) -> usize {
        self.charged.load(Ordering::SeqCst)
    }

    /// The handler alone, for layers to be put around it. It has its state: until a router
    /// has, each request makes the layers' services anew, and what they count.
    fn routes(&self) -> Router {
        let gateway = self.clone();
        Router::new().route("/pay", post(move |body| gateway.charge(body))).with_state(())
    }
}

/// A store, and a layer over it.
fn guard() -> (Arc<MemoryStore>, IdempotencyLayer) {
    let store = Arc::new(MemoryStore::new());
    (Arc::clone(&store), IdempotencyLayer::new(store, Scope::shared()))
}

fn pay(key: &str) -> Request<Body> {
    pay_with(key, "100", &[])
}

fn pay_with(key: &str, body: impl Into<Body>, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::post("/pay").header("idempotency-key", key);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(body.into()).unwrap()
}

/// A whole response.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn is_replay(&self) -> bool {
        self.headers.contains_key("idempotent-replayed")
    }

    #[track_caller]
    fn assert_first(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.text(), self.is_replay()), (status, body, false), "{self:?}");
    }

    #[track_caller]
    fn assert_replay(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.text(), self.is_replay()), (status, body, true), "{self:?}");
    }

    /// A problem of the layer's, with this code.
    #[track_caller]
    fn assert_problem(&self, code: &str) {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("a problem");
        assert_eq!(problem["code"], code, "{self:?}");
    }
}

async fn send(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// Sends it from a task of its own, and lets everything run that can.
async fn start(app: &Router, request: Request<Body>) -> tokio::task::JoinHandle<Answer> {
    let app = app.clone();
    let client = tokio::spawn(async move { send(&app, request).await });
    settle().await;
    client
}

async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
