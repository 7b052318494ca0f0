//! Orders in Postgres, and the jobs that follow from them: an order, its job
//! and the recovery point commit together, and a job is done once.
//!
//! ```console
//! $ docker run --rm -d -p 5432:5432 -e POSTGRES_HOST_AUTH_METHOD=trust postgres
//! $ cargo run --features sqlx-postgres,axum --example postgres -- postgres://postgres@localhost/postgres
//! $ curl -i localhost:3000/orders -H 'idempotency-key: K1' -H 'content-type: application/json' -d '"apples"'
//! $ curl -i localhost:3000/orders -H 'idempotency-key: K1' -H 'content-type: application/json' -d '"apples"'
//! ```
//!
//! The second response is the first one, replayed; with another body it is
//! refused. With `-H 'x-demo: crash'` the process dies right after the commit:
//! start it again and retry, and there is still one order, and one job.
//! `PORT=3001` runs a second instance beside it.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use sqlx::PgPool;
use tower_idempotency::store::PostgresStore;
use tower_idempotency::store::postgres::Enlisted;
use tower_idempotency::{Engine, IdempotencyLayer, Operation, RunError, Runner, Scope, StepError, StepKey};

const USAGE: &str = "\
Usage: postgres URL

URL is that of a database of yours, such as postgres://postgres@localhost/postgres.
To have one until you stop it:
  docker run --rm -d -p 5432:5432 -e POSTGRES_HOST_AUTH_METHOD=trust postgres";

const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, item text NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (order_id bigint PRIMARY KEY REFERENCES orders)";

/// What a job fails with, whichever part of it.
type Failed = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(url) = std::env::args().nth(1).filter(|url| url.contains("://")) else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let port: u16 = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let store = PostgresStore::connect(&url)?;
    let pool = PgPool::connect(&url).await?;
    // Yours would be migrations.
    store.create_schema().await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;
    let shop = store.transactions_on(pool.clone());

    let runner = Runner::new(Engine::new(store.clone()).lease(Duration::from_secs(5)));
    tokio::spawn(do_jobs(pool, shop.clone(), runner));
    tokio::spawn(forget(store.clone()));

    // Behind your authentication: `Scope::extension::<UserId>()`.
    let layer =
        IdempotencyLayer::new(Engine::new(store).lease(Duration::from_secs(5)), Scope::shared()).resumable().required();
    let app: Router = Router::new().route("/orders", post(order)).layer(layer).with_state(shop);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/orders", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// The order, its job, and the step's result commit together, or none of them.
async fn order(
    State(shop): State<Enlisted<PgPool>>,
    op: Operation,
    headers: HeaderMap,
    Json(item): Json<String>,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let placed = op.transaction(&shop, "order", move |tx| {
        Box::pin(async move {
            let order = sqlx::query_scalar("INSERT INTO orders (item) VALUES ($1) RETURNING id");
            let order: i64 = order.bind(item).fetch_one(&mut *tx).await?;
            sqlx::query("INSERT INTO jobs (order_id) VALUES ($1)").bind(order).execute(tx).await?;
            Ok(order)
        })
    });
    let order = placed.await.map_err(later)?;
    if headers.get("x-demo").is_some_and(|demo| demo == "crash") {
        std::process::abort();
    }
    Ok((StatusCode::CREATED, format!("order {order} is placed\n")))
}

/// Not stored: the retry continues where this attempt stopped.
fn later(error: StepError<sqlx::Error>) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}

/// Looks for jobs, those of a process that died too. Every instance may: the
/// job's key lets one of them in.
async fn do_jobs(pool: PgPool, shop: Enlisted<PgPool>, runner: Runner) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let jobs = sqlx::query_scalar("SELECT order_id FROM jobs ORDER BY order_id LIMIT 100");
        let jobs: Vec<i64> = jobs.fetch_all(&pool).await.unwrap_or_else(|error| {
            eprintln!("can't look for jobs: {error}");
            Vec::new()
        });
        for order in jobs {
            let shop = shop.clone();
            let done = runner.run("jobs", &order.to_string(), &(), move |op| ship(op, shop, order));
            match done.await {
                // Another instance is at it.
                Ok(()) | Err(RunError::Busy(_)) => {}
                Err(error) => eprintln!("job {order} is left for the next round: {error}"),
            }
        }
    }
}

/// Drops responses whose retention is over; Postgres itself keeps them for ever.
async fn forget(store: PostgresStore) {
    loop {
        if let Err(error) = store.sweep(1_000).await {
            eprintln!("can't forget what is old: {error}");
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

/// One job. It has its result and is off the list in one commit.
async fn ship(op: Operation, shop: Enlisted<PgPool>, order: i64) -> Result<(), Failed> {
    let parcel = op.pay("parcel", |key| book_parcel(key, order)).await?;
    let done = op.complete(&shop, move |tx| {
        Box::pin(async move {
            sqlx::query("DELETE FROM jobs WHERE order_id = $1").bind(order).execute(tx).await?;
            // `()` in JSON, which is what this job gives.
            Ok::<_, sqlx::Error>(Response::new(Bytes::from_static(b"null")))
        })
    });
    done.await?;
    println!("order {order} is on its way: {parcel}");
    Ok(())
}

/// Stands for the carrier, who is to honour the key.
async fn book_parcel(key: StepKey, order: i64) -> Result<String, std::io::Error> {
    println!("booking a parcel for order {order}, with the key {}", key.as_str());
    Ok(format!("parcel {order:04}"))
}
