//! The program of the README: an order and a charge that a retry does not repeat.
//!
//! ```console
//! $ cargo run --example quickstart
//! $ curl -i localhost:3000/payments -H 'Idempotency-Key: "order-1"' -H 'Content-Type: application/json' -d 1999
//! $ curl -i localhost:3000/payments -H 'Idempotency-Key: "order-1"' -H 'Content-Type: application/json' -d 1999
//! ```
//!
//! The second response is the first one, with `idempotent-replayed: true`, and the
//! program prints that it charged once.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::{Json, Router, http::StatusCode, routing::post};
use tower_idempotency::{IdempotencyLayer, Operation, Scope, StepError, StepKey, store};

type Reply = (StatusCode, String);

async fn pay(op: Operation, Json(amount): Json<u64>) -> Result<Reply, Reply> {
    let order = op.step("order", |_| insert_order(amount)).await.map_err(later)?;
    let charge = op.pay("charge", |key| charge(key, amount)).await.map_err(later)?;
    Ok((StatusCode::CREATED, format!("order {order} is paid: {charge}\n")))
}

// Stands for your database.
async fn insert_order(_amount: u64) -> std::io::Result<u64> {
    Ok(17)
}

// Stands for your payment provider: send it the key as its idempotency key.
async fn charge(key: StepKey, amount: u64) -> std::io::Result<String> {
    static CHARGES: AtomicU64 = AtomicU64::new(0);
    println!("charging {amount} under the key {key}");
    Ok(format!("ch_{}", CHARGES.fetch_add(1, Ordering::Relaxed) + 1))
}

fn later(error: StepError<std::io::Error>) -> Reply {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// What the server serves: one route, under the layer.
pub fn app() -> Result<Router, store::ConnectError> {
    let store = store::connect("memory:")?; // or "sqlite:payments.db", "redis://…", "postgres://…"
    // One caller. With several, say whose key it is: `Scope::extension::<UserId>()`.
    let layer = IdempotencyLayer::new(store, Scope::shared()).resumable().required();
    Ok(Router::new().route("/payments", post(pay)).layer(layer))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app()?).await?;
    Ok(())
}
