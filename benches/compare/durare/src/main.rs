//! No step, three, and a hundred, on `durare`, with SQLite or Postgres, as its guide and its
//! example of an HTTP trigger have it: the key is the workflow's id, and a repeated one
//! attaches to the run. On Postgres all is as it comes. On SQLite two things are set that
//! it does not set by itself: connections sync each commit, as the store that it is
//! compared with does (`normal` as the second argument leaves that out again); and there
//! is one of them and not five, which get in each other's way as they write: it is nearly
//! twice as fast so.
//!
//! Arguments: `sqlite:PATH` or the URL of a Postgres database; `normal`. Prints its address.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use durare::{
    DurableContext, DurableEngine, Error, PostgresProvider, Result, SqliteProvider, StateProvider, WorkflowHandle,
    WorkflowOptions,
};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

type Answer = std::result::Result<(StatusCode, String), (StatusCode, String)>;
/// An engine, and which of its workflows to run.
type Workflow = (Arc<DurableEngine>, &'static str);

/// How many have run to their end.
static RUNS: AtomicU64 = AtomicU64::new(0);

async fn none(_: DurableContext, body: String) -> Result<String> {
    let (length, note) = (body.len(), "n".repeat(250));
    RUNS.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{{\"id\":\"ch_0123456789abcdef\",\"amount\":{length},\"note\":\"{note}\"}}"))
}

async fn three(ctx: DurableContext, body: String) -> Result<String> {
    let order = ctx.step("order", || async { Ok::<_, Error>("order_0123456789".to_owned()) }).await?;
    let charge = ctx.step("charge", || async { Ok::<_, Error>("ch_0123456789abcdef".to_owned()) }).await?;
    let receipt = ctx.step("receipt", || async { Ok::<_, Error>(body.len()) }).await?;
    let note = "n".repeat(250);
    RUNS.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{{\"order\":\"{order}\",\"charge\":\"{charge}\",\"receipt\":{receipt},\"note\":\"{note}\"}}"))
}

async fn hundred(ctx: DurableContext, body: String) -> Result<String> {
    let mut sum = body.len();
    for number in 0..100_usize {
        sum += ctx.step(&format!("step-{number}"), || async move { Ok::<_, Error>(number) }).await?;
    }
    RUNS.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{{\"sum\":{sum}}}"))
}

async fn start(
    (engine, workflow): Workflow,
    headers: &HeaderMap,
    body: String,
) -> std::result::Result<WorkflowHandle<String>, (StatusCode, String)> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let key = key.ok_or_else(|| (StatusCode::BAD_REQUEST, "a key is needed".to_owned()))?;
    engine.start::<String, String>(workflow, body, WorkflowOptions::with_id(key)).await.map_err(failed)
}

async fn run(State(workflow): State<Workflow>, headers: HeaderMap, body: String) -> Answer {
    let answer = start(workflow, &headers, body).await?.await.map_err(failed)?;
    Ok((StatusCode::CREATED, answer))
}

async fn accept(State(workflow): State<Workflow>, headers: HeaderMap, body: String) -> Answer {
    start(workflow, &headers, body).await?;
    Ok((StatusCode::ACCEPTED, String::new()))
}

fn failed(error: Error) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

async fn provider(url: &str, synchronous: SqliteSynchronous) -> Result<Arc<dyn StateProvider>> {
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Ok(Arc::new(PostgresProvider::connect(url).await?));
    };
    // All else as `SqliteProvider::connect` has it.
    let options = SqliteConnectOptions::from_str(&format!("sqlite://{path}"))?
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    Ok(Arc::new(SqliteProvider::from_pool(pool)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the URL of a database is needed")?;
    let synchronous = match arguments.next().as_deref() {
        Some("normal") => SqliteSynchronous::Normal,
        _ => SqliteSynchronous::Full,
    };
    let mut engine = DurableEngine::new(provider(&url, synchronous).await?).await?;
    engine.register("none", none);
    engine.register("three", three);
    engine.register("hundred", hundred);
    let engine = Arc::new(engine);
    engine.launch().await?;
    let app = Router::new()
        .route("/three-steps", post(run).with_state((Arc::clone(&engine), "three")))
        .route("/hundred-steps", post(run).with_state((Arc::clone(&engine), "hundred")))
        .route("/charge", post(run).with_state((Arc::clone(&engine), "none")))
        .route("/later", post(accept).with_state((engine, "none")))
        .route("/runs", get(|| async { RUNS.load(Ordering::Relaxed).to_string() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
