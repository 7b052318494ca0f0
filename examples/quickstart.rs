//! The smallest program: an axum router, a memory store, one line.
//!
//! ```console
//! $ cargo run --example quickstart
//! $ curl -i -X POST localhost:3000/orders -H 'Idempotency-Key: "order-1"'
//! $ curl -i -X POST localhost:3000/orders -H 'Idempotency-Key: "order-1"'
//! ```
//!
//! The second answer is the first one, with `idempotent-replayed: true`.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::routing::post;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, Scope};

static ORDERS: AtomicU64 = AtomicU64::new(0);

async fn order() -> String {
    let number = ORDERS.fetch_add(1, Ordering::Relaxed) + 1;
    format!("order number {number}\n")
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app =
        Router::new().route("/orders", post(order)).layer(IdempotencyLayer::new(MemoryStore::new(), Scope::shared()));

    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
