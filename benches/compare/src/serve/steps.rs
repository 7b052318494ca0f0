//! Durable steps, one after another, on our layer.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use tower_idempotency::{Operation, StepError};

use super::RUNS;

type Answer = (StatusCode, String);

pub(super) fn app() -> Router {
    Router::new().route("/three-steps", post(three)).route("/hundred-steps", post(hundred))
}

async fn three(op: Operation, body: String) -> Result<Answer, Answer> {
    let order = op.step("order", |_| async { done("order_0123456789".to_owned()) }).await.map_err(later)?;
    let charge = op.step("charge", |_| async { done("ch_0123456789abcdef".to_owned()) }).await.map_err(later)?;
    let receipt = op.step("receipt", |_| async { done(body.len()) }).await.map_err(later)?;
    let note = "n".repeat(250);
    RUNS.fetch_add(1, Ordering::Relaxed);
    let answer = format!("{{\"order\":\"{order}\",\"charge\":\"{charge}\",\"receipt\":{receipt},\"note\":\"{note}\"}}");
    Ok((StatusCode::CREATED, answer))
}

async fn hundred(op: Operation, body: String) -> Result<Answer, Answer> {
    let mut sum = body.len();
    for number in 0..100_usize {
        sum += op.step(format!("step-{number}"), |_| async move { done(number) }).await.map_err(later)?;
    }
    RUNS.fetch_add(1, Ordering::Relaxed);
    Ok((StatusCode::CREATED, format!("{{\"sum\":{sum}}}")))
}

fn done<T>(value: T) -> std::io::Result<T> {
    Ok(value)
}

fn later(error: StepError<std::io::Error>) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
