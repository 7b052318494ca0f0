//! No step, three, and a hundred, on DBOS' own library, with Postgres: the key is the
//! workflow's id, so that a repeated one attaches to the run. All else is as it comes.
//!
//! Argument: the URL of the database. Prints its address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use dbos::{Config, DBOS, EngineOnly, Error, RunOptions, StartOptions, WorkflowRef, step};

type Answer = Result<(StatusCode, String), (StatusCode, String)>;
type Workflow = WorkflowRef<String, String>;

/// How many have run to their end.
static RUNS: AtomicU64 = AtomicU64::new(0);

async fn none(body: String) -> Result<String, Error> {
    let (length, note) = (body.len(), "n".repeat(250));
    RUNS.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{{\"id\":\"ch_0123456789abcdef\",\"amount\":{length},\"note\":\"{note}\"}}"))
}

async fn three(body: String) -> Result<String, Error> {
    let order: String = step("order", || async { Ok::<_, Error<EngineOnly>>("order_0123456789".to_owned()) }).await?;
    let charge: String =
        step("charge", || async { Ok::<_, Error<EngineOnly>>("ch_0123456789abcdef".to_owned()) }).await?;
    let length = body.len();
    let receipt: usize = step("receipt", || async move { Ok::<_, Error<EngineOnly>>(length) }).await?;
    let note = "n".repeat(250);
    RUNS.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{{\"order\":\"{order}\",\"charge\":\"{charge}\",\"receipt\":{receipt},\"note\":\"{note}\"}}"))
}

async fn hundred(body: String) -> Result<String, Error> {
    let mut sum = body.len();
    for number in 0..100 {
        let name = format!("step-{number}");
        let done: usize = step(&name, || async move { Ok::<_, Error<EngineOnly>>(number) }).await?;
        sum += done;
    }
    RUNS.fetch_add(1, Ordering::Relaxed);
    Ok(format!("{{\"sum\":{sum}}}"))
}

async fn run(State(workflow): State<Arc<Workflow>>, headers: HeaderMap, body: String) -> Answer {
    let options = RunOptions { workflow_id: Some(key(&headers)?), ..RunOptions::default() };
    let answer = workflow.run_with(body, options).await.map_err(failed)?;
    Ok((StatusCode::CREATED, answer))
}

async fn accept(State(workflow): State<Arc<Workflow>>, headers: HeaderMap, body: String) -> Answer {
    let options = StartOptions { workflow_id: Some(key(&headers)?), ..StartOptions::default() };
    workflow.start_with(body, options).await.map_err(failed)?;
    Ok((StatusCode::ACCEPTED, String::new()))
}

fn key(headers: &HeaderMap) -> Result<&str, (StatusCode, String)> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok());
    key.ok_or_else(|| (StatusCode::BAD_REQUEST, "a key is needed".to_owned()))
}

fn failed(error: Error) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("the URL of a database is needed")?;
    let dbos = DBOS::new(Config { app_version: Some("1".to_owned()), ..Config::new("compare", url) });
    let none = Arc::new(dbos.register_workflow("none", none)?);
    let three = Arc::new(dbos.register_workflow("three", three)?);
    let hundred = Arc::new(dbos.register_workflow("hundred", hundred)?);
    dbos.launch().await?;
    let app = Router::new()
        .route("/three-steps", post(run).with_state(three))
        .route("/hundred-steps", post(run).with_state(hundred))
        .route("/charge", post(run).with_state(Arc::clone(&none)))
        .route("/later", post(accept).with_state(none))
        .route("/runs", get(|| async { RUNS.load(Ordering::Relaxed).to_string() }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
