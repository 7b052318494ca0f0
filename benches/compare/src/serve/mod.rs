//! The servers that are compared: one process each, with one thread for HTTP.

mod hand;
mod hand_postgres;
mod hand_redis;
mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::routing::{get, post};
use axum::{Json, Router};
use axum_idempotent::{IdempotentLayer, IdempotentOptions};
use ruts::store::moka::MokaStore;
use ruts::{CookieOptions, SessionLayer};
use serde_json::{Value, json};
use tower_cookies::CookieManagerLayer;
use tower_idempotency::store::{MemoryStore, Store, connect};
use tower_idempotency::{Background, Completer, Engine, EventKind, IdempotencyLayer, Scope};

use self::hand_postgres::{SamePostgres, UnfencedPostgres};
use self::hand_redis::{SameRedis, UnfencedRedis};
use crate::Failure;

/// How many records a store in the service's own process keeps. The warm-up fills it, so that
/// what is measured uses memory again, as a service does that has run for a while: else half
/// of a first request would be the kernel's, for pages that the process never had.
pub(crate) const KEPT: usize = 50_000;

/// How often a handler ran, or how many operations are done where they are done later.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Serves the row `row` for one scenario until it is killed. Prints its address.
pub(crate) fn main(row: &str, scenario: &str, url: &str) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = app(row, scenario, url).await?;
        let app = app.route("/runs", get(|| async { RUNS.load(Ordering::Relaxed).to_string() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        axum::serve(listener, app).await?;
        Ok(())
    })
}

async fn app(row: &str, scenario: &str, url: &str) -> Result<Router, Failure> {
    Ok(match row {
        "bare" => charging(scenario),
        "axum-idempotent" => axum_idempotent(charging(scenario)),
        "same-redis" => hand::app(SameRedis::connect(url).await?, scenario),
        "unfenced-redis" => hand::app(UnfencedRedis::connect(url).await?, scenario),
        "same-postgres" => hand::app(SamePostgres::connect(url).await?, scenario),
        "unfenced-postgres" => hand::app(UnfencedPostgres::connect(url).await?, scenario),
        "deferred-postgres" => stepping(steps::app::<true>(), store(url)?),
        _ => ours(scenario, store(url)?),
    })
}

/// The handler that layers are put around.
fn charging(scenario: &str) -> Router {
    if scenario == "duplicates" {
        return Router::new().route("/charge", post(charge_slowly));
    }
    Router::new().route("/charge", post(charge))
}

async fn charge(Json(body): Json<Value>) -> Json<Value> {
    RUNS.fetch_add(1, Ordering::Relaxed);
    Json(receipt(&body))
}

async fn charge_slowly(body: Json<Value>) -> Json<Value> {
    let answer = charge(body).await;
    tokio::time::sleep(SLOW).await;
    answer
}

/// How long a handler takes where duplicates come meanwhile.
const SLOW: Duration = Duration::from_millis(50);

/// The work: an answer of some 300 bytes.
fn receipt(body: &Value) -> Value {
    json!({ "id": "ch_0123456789abcdef", "amount": body["amount"], "note": "n".repeat(250) })
}

fn store(url: &str) -> Result<Arc<dyn Store>, Failure> {
    if url == "memory:" {
        return Ok(Arc::new(MemoryStore::new().max_entries(KEPT).max_bytes(usize::MAX)));
    }
    Ok(connect(url)?)
}

fn ours(scenario: &str, store: Arc<dyn Store>) -> Router {
    match scenario {
        "three-steps" | "hundred-steps" => stepping(steps::app::<false>(), store),
        "foreground" => charging(scenario).layer(IdempotencyLayer::new(store, Scope::shared()).resumable()),
        "background" => background(store),
        _ => charging(scenario).layer(IdempotencyLayer::new(store, Scope::shared())),
    }
}

fn stepping(app: Router, store: Arc<dyn Store>) -> Router {
    app.layer(IdempotencyLayer::new(store, Scope::shared()).resumable().required())
}

/// Accepts, and has a completer beside it that runs as many at once as there are clients.
fn background(store: Arc<dyn Store>) -> Router {
    let engine = Engine::new(store).on_event(|event| {
        if matches!(event.kind, EventKind::Completed { .. }) {
            RUNS.fetch_add(1, Ordering::Relaxed);
        }
    });
    let later = Background::at("/operations").always().queue(usize::MAX);
    let layer = IdempotencyLayer::new(engine, Scope::shared()).resumable().background(later);
    let handler = |Json(body): Json<Value>| async move { Json(receipt(&body)) };
    let app = Router::new().route("/later", post(handler)).layer(layer.clone());
    let completer = Completer::new(&layer, app.clone()).concurrency(64);
    tokio::spawn(async move { completer.run(std::future::pending()).await });
    app
}

/// As its README has it: by the client's key, in a session for each key, which is its best
/// case.
fn axum_idempotent(app: Router) -> Router {
    let options = IdempotentOptions::default().use_idempotency_key_header(Some("idempotency-key"), false);
    let sessions = SessionLayer::new(Arc::new(MokaStore::builder().max_capacity(KEPT as u64).build()));
    app.layer(IdempotentLayer::<MokaStore>::new(options.expire_after(86_400)))
        .layer(sessions.with_cookie_options(CookieOptions::build().name("session")))
        .layer(CookieManagerLayer::new())
}
