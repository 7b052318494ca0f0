//! Payments that are rows of the database that keeps the operations: a row and
//! what is remembered of it commit together. What the rows say is the oracle.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};
use tower_idempotency::store::postgres::{Enlisted, StorePool};
use tower_idempotency::{Operation, StepError};

use crate::service::{Pause, later, paid, read, say};

/// Nothing here keeps a payment from being there twice.
pub const TABLES: &str = r#"
    CREATE TABLE charges (id text, key text, "order" text, amount bigint);
    CREATE TABLE receipts ("order" text)
"#;

/// A row for the charge, in a commit with the recovery point; then one for the
/// receipt, in a commit with the answer.
pub async fn pay(
    op: Operation,
    State(till): State<Enlisted<StorePool>>,
    headers: HeaderMap,
    Json(payment): Json<Value>,
) -> Result<axum::response::Response, StatusCode> {
    let (demo, (order, amount)) = (headers, read(&payment));
    let pause = Pause::of(&demo);
    pause.at("before-charge").await;
    let mut charge = take(&op, &till, Pause::of(&demo), &order, amount).await;
    if let Err(StepError::RolledBack(error)) = &charge {
        // Whoever is told that nothing was committed may do it again. If that
        // was a guess, there are two rows.
        say(&format!("rolled back: {error}"));
        charge = take(&op, &till, Pause::of(&demo), &order, amount).await;
    }
    let charge = charge.map_err(later)?;
    pause.at("before-response").await;

    let mut answered = answer(&op, &till, &order, &charge).await;
    if let Err(StepError::RolledBack(error)) = &answered {
        say(&format!("rolled back: {error}"));
        answered = answer(&op, &till, &order, &charge).await;
    }
    answered.map_err(later)?;
    Ok(paid(&charge, op.attempt()))
}

async fn take(
    op: &Operation,
    till: &Enlisted<StorePool>,
    pause: Pause,
    order: &str,
    amount: u64,
) -> Result<String, StepError<String>> {
    let (id, order) = (format!("ch_{:016x}", fastrand::u64(..)), order.to_owned());
    op.transaction(till, "charge", move |tx| {
        Box::pin(async move {
            let insert = "INSERT INTO charges VALUES ($1, 'none', $2, $3)";
            let amount = i64::try_from(amount).unwrap_or(i64::MAX);
            tx.execute(insert, &[&id, &order, &amount]).await.map_err(|error| error.to_string())?;
            pause.at("after-charge").await;
            Ok(id)
        })
    })
    .await
}

async fn answer(
    op: &Operation,
    till: &Enlisted<StorePool>,
    order: &str,
    charge: &str,
) -> Result<(), StepError<String>> {
    let (order, attempt) = (order.to_owned(), op.attempt());
    let body = Bytes::from(json!({ "charge_id": charge }).to_string());
    op.complete(till, move |tx| {
        Box::pin(async move {
            let insert = "INSERT INTO receipts VALUES ($1)";
            tx.execute(insert, &[&order]).await.map_err(|error| error.to_string())?;
            let answer = Response::builder().status(StatusCode::CREATED);
            let answer = answer.header("content-type", "application/json").header("x-attempt", attempt);
            answer.body(body).map_err(|error| error.to_string())
        })
    })
    .await
}
