//! Requests a second over loopback HTTP on Redis and on Postgres: the layer,
//! and the same axum handler with the same two writes by hand, on the same
//! driver. 64 connections that are kept alive.
//!
//! ```text
//! cargo run --release -p tower-idempotency-benches --bin networked -- --seconds 60 [--only redis|postgres]
//! ```
//!
//! Both servers are started for it and end with it. Two handlers do it by hand:
//!
//! - *The same writes*: what the store writes, with the same comparisons, so
//!   that a claim has a lease and a fence, and can be found when it lapses.
//! - *Unfenced*: claim the key, answer, keep the answer; a retry finds the key
//!   taken and reads the answer. What many services have; a claim whose process
//!   died stays for ever, and who was paused overwrites what others did.
//!
//! Neither has a fingerprint. Rounds alternate; printed are medians with the
//! extremes, and ratios within a round.

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
use redis::aio::ConnectionManager;
use redis::{AsyncCommands, Script};
use serde_json::Value;
use servers::{Postgres, Redis};
use tokio_postgres::Row;
use tower_idempotency::store::{PostgresStore, RedisStore, Store};
use tower_idempotency::{IdempotencyLayer, Scope};
use tower_idempotency_benches::{Load, Server, charge, fresh, receipt, report, seconds};

const CONNECTIONS: usize = 64;
const POOL: usize = 16;
const ROUNDS: usize = 9;

fn main() {
    let slice = Duration::from_secs_f64(seconds(30.0) / (2 * 3 * 2 * ROUNDS) as f64);
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
    let manager = async |url: String| {
        let client = redis::Client::open(url).expect("a URL");
        client.get_connection_manager().await.expect("redis answers")
    };
    let url = redis.url();
    let unfenced = Server::start("unfenced", async move || hand(UnfencedOnRedis(manager(url).await)));
    let url = redis.url();
    let same = Server::start("same", async move || hand(OnRedis::new(manager(url).await)));
    let url = redis.url();
    let ours = Server::start("ours", async move || guarded(RedisStore::connect(&url).expect("a URL")));
    compare("Redis", || redis.cpu_nanos(), [&ours, &same, &unfenced], slice);
}

fn on_postgres(slice: Duration) {
    let postgres = Postgres::start();
    let url = postgres.url();
    let unfenced = Server::start("unfenced", async move || hand(UnfencedOnPostgres::new(&url).await));
    let url = postgres.url();
    let same = Server::start("same", async move || hand(OnPostgres::new(&url).await));
    let url = postgres.url();
    let ours = Server::start("ours", async move || {
        let store = PostgresStore::with_pool(pool(&url));
        store.create_schema().await.expect("a schema");
        guarded(store)
    });
    compare("Postgres", || postgres.cpu_nanos(), [&ours, &same, &unfenced], slice);
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

    fn against(&self, other: &Self) -> Vec<f64> {
        self.rates.iter().zip(&other.rates).map(|(ours, theirs)| ours / theirs).collect()
    }
}

/// Ours, and two by hand.
const WHO: [&str; 3] = ["ours", "the same by hand", "unfenced by hand"];

fn compare(name: &str, server_nanos: impl Fn() -> u64, servers: [&Server; 3], slice: Duration) {
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // One alone stores the answer that all others replay.
    for server in servers {
        client.block_on(server.load(1, Duration::from_millis(50), || 17));
    }
    println!("{name}");
    let kinds = [("first", fresh as Keys, "goal: 0.90 or more"), ("replay", || 17, "goal: 0.95 or more")];
    for (kind, key, goal) in kinds {
        let mut all: [Rounds; 3] = Default::default();
        for _ in 0..ROUNDS {
            for (rounds, server) in all.iter_mut().zip(servers) {
                let before = server_nanos();
                let load = client.block_on(server.load(CONNECTIONS, slice, key));
                rounds.add(&load, server_nanos() - before);
            }
        }
        let [ours, same, unfenced] = &all;
        report(&format!("  {kind} : the same"), ours.against(same), goal);
        report(&format!("  {kind} : unfenced"), ours.against(unfenced), "");
        for (who, rounds) in WHO.iter().zip(all) {
            println!("    {who}");
            report("      requests/s", rounds.rates, "");
            report("      service", rounds.service, "µs of CPU a request");
            report("      server", rounds.server, "µs of CPU a request");
        }
    }
}

fn guarded(store: impl Store) -> Router {
    let layer = IdempotencyLayer::new(store, Scope::shared());
    Router::new().route("/charge", post(charge)).layer(layer)
}

/// The two writes, and the read of a retry.
trait Books: Clone + Send + Sync + 'static {
    /// What has to be shown to write the answer.
    type Claim: Send;

    /// The claim, or the answer that is there.
    fn claim(&self, key: &str) -> impl Future<Output = Result<Self::Claim, Vec<u8>>> + Send;
    fn keep(&self, key: &str, claim: Self::Claim, answer: &[u8]) -> impl Future<Output = ()> + Send;
}

fn hand<B: Books>(books: B) -> Router {
    Router::new().route("/charge", post(charge_by_hand::<B>)).with_state(books)
}

async fn charge_by_hand<B: Books>(State(books): State<B>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let key = headers["idempotency-key"].to_str().expect("an ASCII key");
    let answer = match books.claim(key).await {
        Ok(claim) => {
            let answer = serde_json::to_vec(&receipt(&body)).expect("plain values");
            books.keep(key, claim, &answer).await;
            answer
        }
        Err(answer) => answer,
    };
    ([(CONTENT_TYPE, "application/json")], Bytes::from(answer)).into_response()
}

#[derive(Clone)]
struct UnfencedOnRedis(ConnectionManager);

impl Books for UnfencedOnRedis {
    type Claim = ();

    async fn claim(&self, key: &str) -> Result<(), Vec<u8>> {
        let mut redis = self.0.clone();
        if redis.set_nx(key, "").await.expect("redis answers") {
            return Ok(());
        }
        Err(redis.get(key).await.expect("redis answers"))
    }

    async fn keep(&self, key: &str, (): (), answer: &[u8]) {
        self.0.clone().set_ex(key, answer, 86_400).await.expect("redis answers")
    }
}

/// With the store's own script: it compares, files the claim by its lease, and
/// stamps with the server's time.
#[derive(Clone)]
struct OnRedis(ConnectionManager, Arc<Script>);

/// So long is the head of a record.
const HEAD: &[u8] = &[b'.'; 100];

impl OnRedis {
    fn new(redis: ConnectionManager) -> Self {
        let script = concat!(
            include_str!("../../../src/store/redis/compare.lua"),
            include_str!("../../../src/store/redis/put.lua")
        );
        Self(redis, Arc::new(Script::new(script)))
    }

    async fn put(
        &self,
        key: &str,
        expected: &str,
        status: &str,
        version: &str,
        span: u64,
        body: &[u8],
    ) -> redis::Value {
        let mut call = self.1.key(format!("{{by-hand:01}}:{key}"));
        call.key("{by-hand:01}:due").arg(expected).arg(key).arg(status).arg(version).arg(span);
        call.arg(if expected.is_empty() { "now" } else { "" }).arg(0).arg("").arg(HEAD.len()).arg(body);
        call.invoke_async(&mut self.0.clone()).await.expect("redis answers")
    }
}

impl Books for OnRedis {
    type Claim = String;

    async fn claim(&self, key: &str) -> Result<String, Vec<u8>> {
        let version = format!("{:016x}", fresh());
        let redis::Value::Array(found) = self.put(key, "", "P", &version, 30_000, HEAD).await else {
            return Ok(version);
        };
        let (_, record): (u64, Vec<u8>) = redis::from_redis_value(redis::Value::Array(found)).expect("ours");
        let head = record.iter().position(|byte| *byte == b'\n').expect("columns") + 1 + HEAD.len();
        Err(record[head..].to_vec())
    }

    async fn keep(&self, key: &str, claim: String, answer: &[u8]) {
        let version = format!("{:016x}", fresh());
        let done = self.put(key, &claim, "C", &version, 86_400_000, &[HEAD, answer].concat()).await;
        assert!(matches!(done, redis::Value::Int(_)), "the claim is lost");
    }
}

fn pool(url: &str) -> Pool {
    let config: tokio_postgres::Config = url.parse().expect("a URL");
    let manager = Manager::from_config(config, tokio_postgres::NoTls, ManagerConfig::default());
    Pool::builder(manager).max_size(POOL).build().expect("a pool")
}

async fn tables(url: &str, sql: &str) -> Arc<Pool> {
    let pool = pool(url);
    pool.get().await.expect("postgres answers").batch_execute(sql).await.expect("tables");
    Arc::new(pool)
}

async fn query(pool: &Pool, sql: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> Vec<Row> {
    let client = pool.get().await.expect("a connection");
    let statement = client.prepare_cached(sql).await.expect("a statement");
    client.query(&statement, parameters).await.expect("postgres answers")
}

async fn execute(pool: &Pool, sql: &str, parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)]) -> bool {
    let client = pool.get().await.expect("a connection");
    let statement = client.prepare_cached(sql).await.expect("a statement");
    client.execute(&statement, parameters).await.expect("postgres answers") == 1
}

#[derive(Clone)]
struct UnfencedOnPostgres(Arc<Pool>);

impl UnfencedOnPostgres {
    async fn new(url: &str) -> Self {
        let table = "CREATE TABLE by_hand (key text PRIMARY KEY, created timestamptz DEFAULT now(), answer bytea)";
        Self(tables(url, table).await)
    }
}

impl Books for UnfencedOnPostgres {
    type Claim = ();

    async fn claim(&self, key: &str) -> Result<(), Vec<u8>> {
        let insert = "INSERT INTO by_hand (key) VALUES ($1) ON CONFLICT DO NOTHING";
        if execute(&self.0, insert, &[&key]).await {
            return Ok(());
        }
        Err(query(&self.0, "SELECT answer FROM by_hand WHERE key = $1", &[&key]).await[0].get(0))
    }

    async fn keep(&self, key: &str, (): (), answer: &[u8]) {
        execute(&self.0, "UPDATE by_hand SET answer = $2 WHERE key = $1", &[&key, &answer]).await;
    }
}

/// In tables like the store's, with their indexes.
#[derive(Clone)]
struct OnPostgres(Arc<Pool>);

const SPAN: i64 = 30_000;
const RETENTION: i64 = 86_400_000;

impl OnPostgres {
    async fn new(url: &str) -> Self {
        let schema = PostgresStore::MIGRATION.replace("\"idempotency\"", "\"by_hand_too\"");
        Self(tables(url, &schema).await)
    }
}

impl Books for OnPostgres {
    type Claim = i64;

    async fn claim(&self, key: &str) -> Result<i64, Vec<u8>> {
        let version = fresh().cast_signed();
        let insert = "INSERT INTO by_hand_too.records (key, version, status, created, due, span, steps, head) \
             SELECT $1, $2, 0, now, now + $3, $3, 0, $4 \
             FROM (SELECT (date_part('epoch', clock_timestamp()) * 1000)::int8 AS now) AS clock \
             ON CONFLICT (key) DO NOTHING";
        if execute(&self.0, insert, &[&key.as_bytes(), &version, &SPAN, &HEAD]).await {
            return Ok(version);
        }
        let select = "SELECT version, created, due - span, head, response FROM by_hand_too.records WHERE key = $1";
        Err(query(&self.0, select, &[&key.as_bytes()]).await[0].get("response"))
    }

    async fn keep(&self, key: &str, claim: i64, answer: &[u8]) {
        let update = "UPDATE by_hand_too.records SET version = $2, status = 2, \
             due = (date_part('epoch', clock_timestamp()) * 1000)::int8 + $3, span = $3, head = $4, response = $5 \
             WHERE key = $1 AND version = $6";
        let version = fresh().cast_signed();
        let kept = execute(&self.0, update, &[&key.as_bytes(), &version, &RETENTION, &HEAD, &answer, &claim]).await;
        assert!(kept, "the claim is lost");
    }
}
