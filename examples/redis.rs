//! Payments on several machines, with Redis between them.
//!
//! ```console
//! $ redis-server --appendonly yes --appendfsync always &
//! $ cargo run --features redis --example redis
//! $ curl -i localhost:3000/payments -H 'idempotency-key: K1' -H 'content-type: application/json' -d 1999
//! $ curl -i localhost:3000/payments -H 'idempotency-key: K1' -H 'content-type: application/json' -d 1999
//! ```
//!
//! The second response is the first one, replayed; start a second instance with
//! `PORT=3001` and it replays there, too. With a Redis that is away, or that a
//! restart would empty, the program responds 503 and prints the reason. `REDIS_URL`
//! may also name sentinels, `redis+sentinel://HOST:PORT,HOST:PORT/NAME`, or a
//! cluster, `redis+cluster://HOST:PORT,HOST:PORT`.

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use tower_idempotency::store::{DurabilityLevel, RedisStore};
use tower_idempotency::{Engine, EventKind, FingerprintRules, IdempotencyLayer, Operation, Scope, StepError, StepKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let port: u16 = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    // It connects when the first request comes. A Redis that a restart empties
    // is refused: those requests get 503, and nothing is charged.
    let store = RedisStore::options()
        .prefix("payments")
        .require(DurabilityLevel::StoreCrash)
        .on_warning(|warning| eprintln!("redis: {warning}"))
        .connect(&url)?;
    // Behind your authentication: `Scope::extension::<UserId>()`. Here a retry may
    // go to another port, and so to another authority; behind a proxy it does not.
    let layer = IdempotencyLayer::new(
        Engine::new(store).on_event(|event| {
            if let EventKind::StoreFailed { error, .. } = &event.kind {
                eprintln!("the store: {error}");
            }
        }),
        Scope::shared(),
    )
    .resumable()
    .required()
    .fingerprint(FingerprintRules::new().ignore_authority());
    let app: Router = Router::new().route("/payments", post(pay)).layer(layer);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/payments", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn pay(op: Operation, Json(amount): Json<u64>) -> Result<(StatusCode, String), (StatusCode, String)> {
    let charge = op.pay("charge", |key| charge(key, amount)).await.map_err(later)?;
    Ok((StatusCode::CREATED, charge))
}

/// Stands for the payment gateway, which is to honour the key.
async fn charge(key: StepKey, amount: u64) -> Result<String, std::io::Error> {
    println!("charging {amount}, with the key {}", key.as_str());
    Ok(format!("charged {amount}\n"))
}

fn later(error: StepError<std::io::Error>) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
