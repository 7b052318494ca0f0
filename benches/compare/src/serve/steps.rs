//! Durable steps, one after another, on our layer.

use std::sync::atomic::Ordering;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_idempotency::{Operation, StepError, StepFuture};

use super::RUNS;

type Answer = (StatusCode, String);

/// With `DEFERRED` the result of each step goes with the next write.
pub(super) fn app<const DEFERRED: bool>() -> Router {
    Router::new().route("/three-steps", post(three::<DEFERRED>)).route("/hundred-steps", post(hundred::<DEFERRED>))
}

fn saved<'a, const DEFERRED: bool, T, E>(step: StepFuture<'a, T, E>) -> StepFuture<'a, T, E>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'a,
    E: Send + 'a,
{
    if DEFERRED { step.defer_save() } else { step }
}

async fn three<const DEFERRED: bool>(op: Operation, body: String) -> Result<Answer, Answer> {
    let order = op.step("order", |_| async { done("order_0123456789".to_owned()) });
    let order = saved::<DEFERRED, _, _>(order).await.map_err(later)?;
    let charge = op.step("charge", |_| async { done("ch_0123456789abcdef".to_owned()) });
    let charge = saved::<DEFERRED, _, _>(charge).await.map_err(later)?;
    let receipt = op.step("receipt", |_| async { done(body.len()) });
    let receipt = saved::<DEFERRED, _, _>(receipt).await.map_err(later)?;
    let note = "n".repeat(250);
    RUNS.fetch_add(1, Ordering::Relaxed);
    let answer = format!("{{\"order\":\"{order}\",\"charge\":\"{charge}\",\"receipt\":{receipt},\"note\":\"{note}\"}}");
    Ok((StatusCode::CREATED, answer))
}

async fn hundred<const DEFERRED: bool>(op: Operation, body: String) -> Result<Answer, Answer> {
    let mut sum = body.len();
    for number in 0..100_usize {
        let step = op.step(format!("step-{number}"), |_| async move { done(number) });
        sum += saved::<DEFERRED, _, _>(step).await.map_err(later)?;
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
