//! The three steps on `durare`, with SQLite, as its guide and its example of an HTTP
//! trigger have it: the key is the workflow's id, and a repeated one attaches to the
//! run. Two things are set that it does not set by itself: connections sync each commit,
//! as the store that it is compared with does (`normal` in place of `full` leaves that
//! out again); and there is one of them and not five, which get in each other's way as
//! they write: it is nearly twice as fast so.
//!
//! Arguments: the path of the database, `full` or `normal`.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use durare::{DurableContext, DurableEngine, Error, Result, SqliteProvider, StateProvider, WorkflowOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

type Answer = std::result::Result<(StatusCode, String), (StatusCode, String)>;

async fn process(ctx: DurableContext, body: String) -> Result<String> {
    let order = ctx.step("order", || async { Ok::<_, Error>("order_0123456789".to_owned()) }).await?;
    let charge = ctx.step("charge", || async { Ok::<_, Error>("ch_0123456789abcdef".to_owned()) }).await?;
    let receipt = ctx.step("receipt", || async { Ok::<_, Error>(body.len()) }).await?;
    Ok(format!(
        "{{\"order\":\"{order}\",\"charge\":\"{charge}\",\"receipt\":{receipt},\"note\":\"{}\"}}",
        "n".repeat(250)
    ))
}

async fn pay(State(engine): State<Arc<DurableEngine>>, headers: HeaderMap, body: String) -> Answer {
    let failed = |error: Error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    let key = key.ok_or_else(|| (StatusCode::BAD_REQUEST, "a key is needed".to_owned()))?;
    let started = engine.start::<String, String>("process", body, WorkflowOptions::with_id(key)).await;
    let answer = started.map_err(failed)?.await.map_err(failed)?;
    Ok((StatusCode::CREATED, answer))
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("a path is needed")?;
    let synchronous = match arguments.next().as_deref() {
        Some("normal") => SqliteSynchronous::Normal,
        _ => SqliteSynchronous::Full,
    };
    // All else as `SqliteProvider::connect` has it.
    let options = SqliteConnectOptions::from_str(&format!("sqlite://{path}"))?
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(Duration::from_secs(5));
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    let provider: Arc<dyn StateProvider> = Arc::new(SqliteProvider::from_pool(pool));
    let mut engine = DurableEngine::new(provider).await?;
    engine.register("process", process);
    let engine = Arc::new(engine);
    engine.launch().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/payments", post(pay)).with_state(engine)).await?;
    Ok(())
}
