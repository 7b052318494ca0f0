//! Two builds share a server: what a newer one wrote there is read, gone on with and
//! written by this one, and then read by the newer one again.
//!
//! As `tests/engine/rollout` has it, on the bytes that Redis and Postgres keep.

#[path = "../../engine/rollout/newer.rs"]
mod newer;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use redis::aio::MultiplexedConnection;
use servers::{Postgres, Redis};
use tokio_postgres::{Client, NoTls};
use tower::{ServiceExt, service_fn};
use tower_idempotency::core::{IdempotencyKey, Key, PartId};
use tower_idempotency::store::{PostgresStore, RedisStore, Store, StoreErrorKind};
use tower_idempotency::{IdempotencyLayer, Operation, RequestBody, Scope};
use tower_layer::Layer;

use newer::{Pieces, is_newer};

/// A store on a server, and its bytes: as another build that shares them.
trait Kept: Sync {
    fn store(&self) -> Arc<dyn Store>;

    /// What is kept under this key.
    async fn pieces(&self, key: &Key) -> Pieces;

    /// Puts these in the place of what is kept there.
    async fn put(&self, key: &Key, pieces: &Pieces);
}

fn steps(pieces: &Pieces) -> usize {
    pieces.parts.keys().filter(|id| matches!(id, PartId::Step(_))).count()
}

struct OnRedis {
    server: Redis,
    store: Arc<RedisStore>,
}

/// The string of a record: its columns, its version, its head, and its response.
struct Columns {
    /// Layout, status, created, written, steps, attempts, length of the head.
    line: Vec<String>,
    version: Bytes,
    rest: Bytes,
}

impl Columns {
    fn parse(value: &Bytes) -> Self {
        let end = value.iter().position(|byte| *byte == b'\n').expect("a line");
        let line = str::from_utf8(&value[..end]).expect("text").split(' ').map(str::to_owned).collect();
        Self { line, version: value.slice(end + 1..end + 9), rest: value.slice(end + 9..) }
    }

    fn with(mut self, pieces: &Pieces) -> Vec<u8> {
        let request = if pieces.parts.contains_key(&PartId::Request) { "q" } else { "" };
        self.line[4] = format!("{}{request}", steps(pieces));
        self.line[6] = pieces.head.len().to_string();
        let response = pieces.parts.get(&PartId::Response).cloned().unwrap_or_default();
        [self.line.join(" ").as_bytes(), b"\n", &self.version, &pieces.head, &response].concat()
    }
}

impl OnRedis {
    fn start(server: Redis) -> Self {
        let store = RedisStore::options().prefix("r").connect(&server.url()).expect("a URL");
        Self { server, store: Arc::new(store) }
    }

    async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.server.url()).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("it connects")
    }

    /// The fields of a record, and when it is forgotten.
    async fn fields(&self, name: &str) -> (BTreeMap<String, Bytes>, i64) {
        let mut link = self.connection().await;
        let dies = redis::cmd("PEXPIRETIME").arg(name).query_async(&mut link).await.expect("a time");
        let kind: String = redis::cmd("TYPE").arg(name).query_async(&mut link).await.expect("a type");
        let fields: BTreeMap<String, Vec<u8>> = if kind == "string" {
            let value = redis::cmd("GET").arg(name).query_async(&mut link).await.expect("a value");
            BTreeMap::from([("h".to_owned(), value)])
        } else {
            redis::cmd("HGETALL").arg(name).query_async(&mut link).await.expect("fields")
        };
        (fields.into_iter().map(|(field, value)| (field, value.into())).collect(), dies)
    }
}

impl Kept for OnRedis {
    fn store(&self) -> Arc<dyn Store> {
        Arc::<RedisStore>::clone(&self.store)
    }

    async fn pieces(&self, key: &Key) -> Pieces {
        let (mut fields, _) = self.fields(&servers::redis_name("r", key.as_bytes())).await;
        let columns = Columns::parse(&fields.remove("h").expect("a record"));
        let head: usize = columns.line[6].parse().expect("a length");
        let part = |name: &str| name.parse().map_or(PartId::Request, PartId::Step);
        let mut parts: BTreeMap<_, _> = fields.into_iter().map(|(name, value)| (part(&name), value)).collect();
        if columns.line[1] == "C" {
            parts.insert(PartId::Response, columns.rest.slice(head..));
        }
        Pieces { head: columns.rest.slice(..head), parts }
    }

    async fn put(&self, key: &Key, pieces: &Pieces) {
        let name = servers::redis_name("r", key.as_bytes());
        let (fields, dies) = self.fields(&name).await;
        let mut write = redis::pipe();
        write.atomic().del(&name).ignore();
        let columns = Columns::parse(&fields["h"]).with(pieces);
        let others = pieces.parts.iter().filter_map(|(id, value)| match id {
            PartId::Request => Some(("q".to_owned(), value)),
            PartId::Step(number) => Some((number.to_string(), value)),
            PartId::Response => None,
        });
        let others: Vec<_> = others.collect();
        if others.is_empty() {
            write.set(&name, columns).ignore();
        } else {
            write.hset(&name, "h", columns).ignore();
        }
        for (field, value) in others {
            write.hset(&name, field, &**value).ignore();
        }
        if dies > 0 {
            write.cmd("PEXPIREAT").arg(&name).arg(dies).ignore();
        }
        write.exec_async(&mut self.connection().await).await.expect("it is written");
    }
}

struct OnPostgres {
    store: Arc<PostgresStore>,
    client: Client,
}

impl OnPostgres {
    async fn start() -> Self {
        let url = Postgres::shared().database(&format!("rollout_{}", next()));
        let store = PostgresStore::options().creating_schema().connect(&url).expect("a URL");
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("it connects");
        tokio::spawn(connection);
        Self { store: Arc::new(store), client }
    }
}

fn next() -> usize {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

impl Kept for OnPostgres {
    fn store(&self) -> Arc<dyn Store> {
        Arc::<PostgresStore>::clone(&self.store)
    }

    async fn pieces(&self, key: &Key) -> Pieces {
        let key = key.as_bytes().as_slice();
        let row = "SELECT head, request, response FROM idempotency.records WHERE key = $1";
        let row = self.client.query_one(row, &[&key]).await.expect("a row");
        let part = |id, column| row.get::<_, Option<Vec<u8>>>(column).map(|value| (id, Bytes::from(value)));
        let parts = "SELECT n, value FROM idempotency.steps WHERE key = $1";
        let parts = self.client.query(parts, &[&key]).await.expect("rows");
        let number = |n: i32| PartId::Step(n.try_into().expect("a number"));
        let parts = parts.iter().map(|row| (number(row.get(0)), Bytes::from(row.get::<_, Vec<u8>>(1))));
        let parts = parts.chain(part(PartId::Request, 1)).chain(part(PartId::Response, 2)).collect();
        Pieces { head: row.get::<_, Vec<u8>>(0).into(), parts }
    }

    async fn put(&self, key: &Key, pieces: &Pieces) {
        let key = key.as_bytes().as_slice();
        let part = |id| pieces.parts.get(&id).map(|part| &**part);
        let count = i32::try_from(steps(pieces)).expect("few");
        let update = "UPDATE idempotency.records SET head = $2, request = $3, response = $4, steps = $5 WHERE key = $1";
        let (request, response) = (part(PartId::Request), part(PartId::Response));
        self.client.execute(update, &[&key, &&*pieces.head, &request, &response, &count]).await.expect("it is written");
        self.client.execute("DELETE FROM idempotency.steps WHERE key = $1", &[&key]).await.expect("they go");
        for (id, value) in &pieces.parts {
            let PartId::Step(n) = id else { continue };
            let n = i32::try_from(*n).expect("a number");
            let insert = "INSERT INTO idempotency.steps (key, n, value) VALUES ($1, $2, $3)";
            self.client.execute(insert, &[&key, &n, &&**value]).await.expect("it is written");
        }
    }
}

/// How often each step of the order ran.
#[derive(Debug, Default)]
struct Runs {
    order: AtomicUsize,
    charge: AtomicUsize,
    receipt: AtomicUsize,
}

impl Runs {
    fn get(&self) -> [usize; 3] {
        [&self.order, &self.charge, &self.receipt].map(|count| count.load(Ordering::SeqCst))
    }
}

fn up(count: &AtomicUsize) -> usize {
    count.fetch_add(1, Ordering::SeqCst) + 1
}

fn answer(status: u16, text: impl Into<Bytes>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::builder().status(status).body(Full::new(text.into())).expect("a response"))
}

/// An order of which the charge comes through at the second attempt, and the receipt at
/// the third.
async fn order(op: Operation, runs: Arc<Runs>) -> Result<Response<Full<Bytes>>, Infallible> {
    let order = op.step("order", |_| async { Ok::<_, String>(up(&runs.order)) }).await.expect("it is stored");
    let charge = op.pay("charge", |_| async { Some(up(&runs.charge)).filter(|run| *run > 1).ok_or("away") });
    let Ok(charge) = charge.await else { return answer(503, "no charge") };
    let receipt = op.step("receipt", |_| async { Some(up(&runs.receipt)).filter(|run| *run > 1).ok_or("away") });
    let Ok(receipt) = receipt.await else { return answer(503, "no receipt") };
    answer(201, format!("{order} {charge} {receipt}"))
}

/// Sends the order to this build; its status and its text.
async fn send(kept: &impl Kept, runs: &Arc<Runs>) -> (u16, String) {
    let runs = Arc::clone(runs);
    let handler = service_fn(move |request: Request<RequestBody<Full<Bytes>>>| {
        let op = request.extensions().get::<Operation>().expect("an operation").clone();
        order(op, Arc::clone(&runs))
    });
    let service = IdempotencyLayer::new(kept.store(), Scope::shared()).resumable().layer(handler);
    let request = Request::post("/orders").header("idempotency-key", "k").body(Full::new(Bytes::from("one")));
    let response = service.oneshot(request.expect("a request")).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

fn key() -> Key {
    Key::new("", &IdempotencyKey::parse(b"k").expect("a key"))
}

/// Which parts have what a newer build said in them; `None` is the head.
fn kept_of_the_newer(pieces: &Pieces) -> Vec<Option<PartId>> {
    let parts = pieces.parts.iter().filter(|(_, part)| is_newer(part)).map(|(id, _)| Some(*id));
    Some(None).filter(|_| is_newer(&pieces.head)).into_iter().chain(parts).collect()
}

/// What is in the head stays. What is in a part that this build writes anew it drops; what it
/// only reads it keeps; the part that it does not know goes. The answer is replayed, and then nothing is
/// written any more.
async fn goes_on(kept: impl Kept) {
    let (runs, key) = (Arc::new(Runs::default()), key());
    assert_eq!(send(&kept, &runs).await, (503, "no charge".to_owned()));
    let first = kept.pieces(&key).await;
    assert_eq!(first.parts.len(), 3, "a request, an order, a charge that was begun: {first:?}");
    let newer = first.by_a_newer_build();
    kept.put(&key, &newer).await;
    assert_eq!(kept.pieces(&key).await, newer);

    assert_eq!(send(&kept, &runs).await, (503, "no receipt".to_owned()));
    let second = kept.pieces(&key).await;
    assert_eq!(kept_of_the_newer(&second), [None, Some(PartId::Request), Some(PartId::Step(0))]);
    assert_eq!(second.parts.len(), 3, "what it does not know is gone: {second:?}");
    for id in [PartId::Request, PartId::Step(0)] {
        assert_eq!(second.parts[&id], newer.parts[&id], "{id:?}");
    }
    kept.put(&key, &second.by_a_newer_build()).await;

    assert_eq!(send(&kept, &runs).await, (201, "1 2 2".to_owned()));
    assert_eq!(runs.get(), [1, 2, 2], "no step ran twice");
    let third = kept.pieces(&key).await;
    assert_eq!(third.parts.keys().collect::<Vec<_>>(), [&PartId::Response]);
    assert_eq!(kept_of_the_newer(&third), [None]);

    let newer = third.by_a_newer_build();
    kept.put(&key, &newer).await;
    assert_eq!(send(&kept, &runs).await, (201, "1 2 2".to_owned()));
    assert_eq!((kept.pieces(&key).await, runs.get()), (newer, [1, 2, 2]));
}

/// What must not be skipped is refused by name, nothing runs, and its bytes stay for those
/// that can read them. Rolled back, it goes on.
async fn is_refused(kept: impl Kept) {
    let (runs, key) = (Arc::new(Runs::default()), key());
    assert_eq!(send(&kept, &runs).await, (503, "no charge".to_owned()));
    let known = kept.pieces(&key).await;
    for (pieces, kind, problem) in [
        (known.in_another_format(), StoreErrorKind::NewerFormat, (409, "record-newer")),
        (known.with_a_part_in_another_format(PartId::Step(0)), StoreErrorKind::NewerFormat, (409, "record-newer")),
        (known.with_a_part_in_another_format(PartId::Request), StoreErrorKind::NewerFormat, (409, "record-newer")),
        (known.held_in_another_way(), StoreErrorKind::Corrupt, (500, "record-corrupt")),
    ] {
        kept.put(&key, &pieces).await;
        assert_eq!(kept.store().load(&key).await.expect_err("it can't be read").kind(), kind);
        let (status, text) = send(&kept, &runs).await;
        assert!(status == problem.0 && text.contains(problem.1), "{status} {text}");
        assert_eq!(kept.pieces(&key).await, pieces);
    }
    assert_eq!(runs.get(), [1, 1, 0]);
    kept.put(&key, &known).await;
    assert_eq!(send(&kept, &runs).await, (503, "no receipt".to_owned()));
    assert_eq!(runs.get(), [1, 2, 1]);
}

#[tokio::test]
async fn on_redis_what_a_newer_build_began_goes_on() {
    goes_on(OnRedis::start(Redis::start())).await;
}

#[tokio::test]
async fn on_valkey_what_a_newer_build_began_goes_on() {
    goes_on(OnRedis::start(Redis::valkey())).await;
}

#[tokio::test]
async fn on_postgres_what_a_newer_build_began_goes_on() {
    goes_on(OnPostgres::start().await).await;
}

#[tokio::test]
async fn on_redis_what_must_not_be_skipped_is_refused() {
    is_refused(OnRedis::start(Redis::start())).await;
}

#[tokio::test]
async fn on_postgres_what_must_not_be_skipped_is_refused() {
    is_refused(OnPostgres::start().await).await;
}
