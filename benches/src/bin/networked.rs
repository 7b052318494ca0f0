//! Requests a second over loopback HTTP on Redis and on Postgres: the layer,
//! and the same axum handler with the same two writes by hand, on the same
//! driver. 64 connections that are kept alive.
//!
//! ```text
//! cargo run --release -p tower-idempotency-benches --bin networked -- --seconds 60 [--only redis|postgres]
//! ```
//!
//! Both servers are started for it and end with it. By hand means: claim the
//! key, answer, keep the answer; a retry finds the key taken and reads the
//! answer. No fingerprint, no lease, no fence: what many services have. Rounds
//! alternate; printed are medians with the extremes, and ratios within a round.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use deadpool_postgres::{Manager, ManagerConfig, Pool};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use serde_json::Value;
use servers::{Postgres, Redis};
use tower_idempotency::store::{PostgresStore, RedisStore, Store};
use tower_idempotency::{IdempotencyLayer, Scope};
use tower_idempotency_benches::{Load, Server, charge, fresh, receipt, report, seconds};

const CONNECTIONS: usize = 64;
const POOL: usize = 16;
const ROUNDS: usize = 7;

fn main() {
    let slice = Duration::from_secs_f64(seconds(30.0) / (2 * 4 * ROUNDS) as f64);
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    if wanted("redis") {
        on_redis(slice);
    }
    if wanted("postgres") {
        on_postgres(slice);
    }
}

fn on_redis(slice: Duration) {
    let redis = Redis::start();
    let url = redis.url();
    let by_hand = Server::start("by-hand", async move || {
        let client = redis::Client::open(url).expect("a URL");
        hand(OnRedis(client.get_connection_manager().await.expect("redis answers")))
    });
    let url = redis.url();
    let layer = async move || guarded(RedisStore::connect(&url).expect("a URL"));
    compare("Redis", || redis.cpu_nanos(), &by_hand, &Server::start("guarded", layer), slice);
}

fn on_postgres(slice: Duration) {
    let postgres = Postgres::start();
    let url = postgres.url();
    let by_hand = Server::start("by-hand", async move || hand(OnPostgres::new(&url).await));
    let url = postgres.url();
    let guarded = Server::start("guarded", async move || {
        let store = PostgresStore::with_pool(pool(&url));
        store.create_schema().await.expect("a schema");
        guarded(store)
    });
    compare("Postgres", || postgres.cpu_nanos(), &by_hand, &guarded, slice);
}

/// Where the keys of the requests come from.
type Keys = fn() -> u64;

/// Requests a second, and microseconds on a CPU: of the service, of the server.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    service: Vec<f64>,
    server: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, load: &Load, server_nanos: u64) {
        self.rates.push(load.rate);
        self.service.push(load.cpu / 1e3);
        self.server.push(server_nanos as f64 / load.requests / 1e3);
    }
}

fn compare(name: &str, server_nanos: impl Fn() -> u64, by_hand: &Server, guarded: &Server, slice: Duration) {
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let measure = |rounds: &mut Rounds, server: &Server, key: Keys| {
        let before = server_nanos();
        let load = client.block_on(server.load(CONNECTIONS, slice, key));
        rounds.add(&load, server_nanos() - before);
    };
    // One alone stores the answer that all others replay.
    for server in [by_hand, guarded] {
        client.block_on(server.load(1, Duration::from_millis(50), || 17));
    }
    println!("{name}");
    let kinds = [("first", fresh as Keys, "goal: 0.90 or more"), ("replay", || 17, "goal: 0.95 or more")];
    for (kind, key, goal) in kinds {
        let (mut hand, mut ours) = (Rounds::default(), Rounds::default());
        for _ in 0..ROUNDS {
            measure(&mut hand, by_hand, key);
            measure(&mut ours, guarded, key);
        }
        let ratios = ours.rates.iter().zip(&hand.rates).map(|(a, b)| a / b).collect();
        report(&format!("  {kind} : by hand"), ratios, goal);
        report(&format!("  {kind}/s, by hand"), hand.rates, "");
        for (who, rounds) in [("by hand", hand.service), ("ours", ours.service)] {
            report(&format!("    service, {who}"), rounds, "µs of CPU");
        }
        for (who, rounds) in [("by hand", hand.server), ("ours", ours.server)] {
            report(&format!("    server, {who}"), rounds, "µs of CPU");
        }
    }
}

fn guarded(store: impl Store) -> Router {
    let layer = IdempotencyLayer::new(store, Scope::shared());
    Router::new().route("/charge", post(charge)).layer(layer)
}

/// The two writes, and the read of a retry.
trait Books: Clone + Send + Sync + 'static {
    fn claim(&self, key: &str) -> impl Future<Output = bool> + Send;
    fn keep(&self, key: &str, answer: &[u8]) -> impl Future<Output = ()> + Send;
    fn answer(&self, key: &str) -> impl Future<Output = Vec<u8>> + Send;
}

fn hand<B: Books>(books: B) -> Router {
    Router::new().route("/charge", post(charge_by_hand::<B>)).with_state(books)
}

async fn charge_by_hand<B: Books>(State(books): State<B>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let key = headers["idempotency-key"].to_str().expect("an ASCII key");
    let answer = if books.claim(key).await {
        let answer = serde_json::to_vec(&receipt(&body)).expect("plain values");
        books.keep(key, &answer).await;
        answer
    } else {
        books.answer(key).await
    };
    ([(CONTENT_TYPE, "application/json")], Bytes::from(answer)).into_response()
}

#[derive(Clone)]
struct OnRedis(ConnectionManager);

impl Books for OnRedis {
    async fn claim(&self, key: &str) -> bool {
        self.0.clone().set_nx(key, "").await.expect("redis answers")
    }

    async fn keep(&self, key: &str, answer: &[u8]) {
        self.0.clone().set_ex(key, answer, 86_400).await.expect("redis answers")
    }

    async fn answer(&self, key: &str) -> Vec<u8> {
        self.0.clone().get(key).await.expect("redis answers")
    }
}

#[derive(Clone)]
struct OnPostgres(Arc<Pool>);

fn pool(url: &str) -> Pool {
    let config: tokio_postgres::Config = url.parse().expect("a URL");
    let manager = Manager::from_config(config, tokio_postgres::NoTls, ManagerConfig::default());
    Pool::builder(manager).max_size(POOL).build().expect("a pool")
}

impl OnPostgres {
    async fn new(url: &str) -> Self {
        let pool = pool(url);
        let client = pool.get().await.expect("postgres answers");
        let table = "CREATE TABLE by_hand (key text PRIMARY KEY, created timestamptz DEFAULT now(), answer bytea)";
        client.batch_execute(table).await.expect("a table");
        Self(Arc::new(pool))
    }

    async fn execute(&self, sql: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> u64 {
        let client = self.0.get().await.expect("a connection");
        let statement = client.prepare_cached(sql).await.expect("a statement");
        client.execute(&statement, parameters).await.expect("postgres answers")
    }
}

impl Books for OnPostgres {
    async fn claim(&self, key: &str) -> bool {
        self.execute("INSERT INTO by_hand (key) VALUES ($1) ON CONFLICT DO NOTHING", &[&key]).await == 1
    }

    async fn keep(&self, key: &str, answer: &[u8]) {
        self.execute("UPDATE by_hand SET answer = $2 WHERE key = $1", &[&key, &answer]).await;
    }

    async fn answer(&self, key: &str) -> Vec<u8> {
        let client = self.0.get().await.expect("a connection");
        let statement = client.prepare_cached("SELECT answer FROM by_hand WHERE key = $1").await.expect("a statement");
        client.query_one(&statement, &[&key]).await.expect("a row").get(0)
    }
}
