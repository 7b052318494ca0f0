//! A handler of three steps behind the layer, on the store of a URL. A program of its
//! own in the tree of an earlier commit, too: only what both have is used.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use tower_idempotency::{IdempotencyLayer, Operation, Scope, StepError, store};

type Answer = (StatusCode, String);

async fn pay(op: Operation, body: String) -> Result<Answer, Answer> {
    let order = op.step("order", |_| async { done("order_0123456789".to_owned()) }).await.map_err(later)?;
    let charge = op.step("charge", |_| async { done("ch_0123456789abcdef".to_owned()) }).await.map_err(later)?;
    let receipt = op.step("receipt", |_| async { done(body.len()) }).await.map_err(later)?;
    let note = "n".repeat(250);
    let answer = format!("{{\"order\":\"{order}\",\"charge\":\"{charge}\",\"receipt\":{receipt},\"note\":\"{note}\"}}");
    Ok((StatusCode::CREATED, answer))
}

fn done<T>(value: T) -> std::io::Result<T> {
    Ok(value)
}

fn later(error: StepError<std::io::Error>) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// Serves until it is killed. Prints its address.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let url = std::env::args().next_back().ok_or("a store's URL is needed")?;
    let layer = IdempotencyLayer::new(store::connect(&url)?, Scope::shared()).resumable().required();
    let app = Router::new().route("/payments", post(pay)).layer(layer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
