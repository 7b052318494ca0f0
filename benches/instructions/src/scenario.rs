//! What is counted: the same few operations, so many times.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::client::{RetryLayer, Server};
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{
    Change, Claim, Command, Encoded, Fence, Fenced, Fingerprint, IdempotencyKey, Key, Labels, Mode, Next, Reached,
    Record, Stamp, StoredRequest, StoredResponse, Times, Timestamp, Version,
};
use tower_idempotency::store::{Filter, KeptRecord, MemoryStore, PostgresStore, Query, RedisStore, Store, Swap};
use tower_idempotency::{FingerprintRules, IdempotencyLayer, Operation, RequestBody, Scope};

use crate::servers;

static ANSWER: [u8; 318] = [b'a'; 318];
static ASKED: [u8; 200] = [b'q'; 200];
const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

/// What takes long is done in one of so many rounds.
pub(crate) const SELDOM: u32 = 20;

/// One of the things that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// The loop alone.
    Nothing,
    /// A request to the service without the layer.
    Bare,
    First,
    Replay,
    /// A request without a key.
    Unguarded,
    /// A request of a client that retries, which makes its key: to the service without the layer.
    Client,
    /// A first request in resumable mode, with no step, ten, ten that pay.
    NoSteps,
    Steps,
    Pays,
    Encode,
    Decode,
    Key,
    Fingerprint,
    /// Of ten blocks more.
    LongFingerprint,
    Fingerprint4KiB,
    Fingerprint64KiB,
    /// A first record under another key each time.
    MemorySwap,
    MemoryLoad,
    /// A completer's, where ten thousand operations are unfinished and none is due.
    MemoryPoll,
    /// The same of servers: what the process does for a call, up to the socket.
    RedisSwap,
    RedisLoad,
    PostgresSwap,
    PostgresLoad,
    /// Two requests of 4 KiB of JSON that are compared by what it means.
    CanonicalJson,
}

impl Scenario {
    pub(crate) const ALL: [Self; 24] = [
        Self::Nothing,
        Self::Bare,
        Self::First,
        Self::Replay,
        Self::Unguarded,
        Self::Client,
        Self::NoSteps,
        Self::Steps,
        Self::Pays,
        Self::Encode,
        Self::Decode,
        Self::Key,
        Self::Fingerprint,
        Self::LongFingerprint,
        Self::Fingerprint4KiB,
        Self::Fingerprint64KiB,
        Self::MemorySwap,
        Self::MemoryLoad,
        Self::MemoryPoll,
        Self::RedisSwap,
        Self::RedisLoad,
        Self::PostgresSwap,
        Self::PostgresLoad,
        Self::CanonicalJson,
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Bare => "bare",
            Self::First => "first",
            Self::Replay => "replay",
            Self::Unguarded => "unguarded",
            Self::Client => "client",
            Self::NoSteps => "no-steps",
            Self::Steps => "steps",
            Self::Pays => "pays",
            Self::Encode => "encode",
            Self::Decode => "decode",
            Self::Key => "key",
            Self::Fingerprint => "fingerprint",
            Self::LongFingerprint => "long-fingerprint",
            Self::Fingerprint4KiB => "fingerprint-4-kib",
            Self::Fingerprint64KiB => "fingerprint-64-kib",
            Self::MemorySwap => "memory-swap",
            Self::MemoryLoad => "memory-load",
            Self::MemoryPoll => "memory-poll",
            Self::RedisSwap => "redis-swap",
            Self::RedisLoad => "redis-load",
            Self::PostgresSwap => "postgres-swap",
            Self::PostgresLoad => "postgres-load",
            Self::CanonicalJson => "canonical-json",
        }
    }

    pub(crate) fn run(self, rounds: u32) {
        match self {
            Self::Nothing => repeat(rounds, |round| round),
            Self::Bare => requests(rounds, service_fn(answer::<Full<Bytes>>), Some),
            Self::First => requests(rounds, guarded(), Some),
            Self::Replay => requests(rounds, guarded(), |_| Some(17)),
            Self::Unguarded => requests(rounds, guarded(), |_| None),
            Self::Client => requests(rounds, client(), |_| None),
            Self::NoSteps => requests(rounds, resumable(async |_| {}), Some),
            Self::Steps => requests(rounds, resumable(steps), Some),
            Self::Pays => requests(rounds, resumable(pays), Some),
            Self::Encode => encode(rounds),
            Self::Decode => decode(rounds),
            Self::Key => repeat(rounds, |round| {
                let key = IdempotencyKey::parse(key_of(round).as_bytes()).expect("a valid key");
                Key::new("tenant-1", &key)
            }),
            Self::Fingerprint => repeat(rounds, |_| fingerprint(&ASKED)),
            Self::LongFingerprint => repeat(rounds, |_| fingerprint(&[b'q'; 200 + 640])),
            Self::Fingerprint4KiB => repeat(rounds, |_| fingerprint(&[b'q'; 4 << 10])),
            Self::Fingerprint64KiB => repeat(rounds / SELDOM, |_| fingerprint(&[b'q'; 64 << 10])),
            Self::MemorySwap => memory_swap(rounds),
            Self::MemoryLoad => memory_load(rounds),
            Self::MemoryPoll => memory_poll(rounds),
            Self::RedisSwap => swaps(rounds, redis()),
            Self::RedisLoad => loads(rounds, redis()),
            Self::PostgresSwap => swaps(rounds, postgres()),
            Self::PostgresLoad => loads(rounds, postgres()),
            Self::CanonicalJson => canonical_json(rounds),
        }
    }
}

fn repeat<T>(rounds: u32, one: impl Fn(u32) -> T) {
    for round in 0..rounds {
        black_box(one(black_box(round)));
    }
}

/// A UUID, which is made as cheaply as can be: it is no part of what is counted.
struct RoundKey([u8; 36]);

impl RoundKey {
    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn key_of(round: u32) -> RoundKey {
    let mut key = *b"01234567-89ab-4cde-8000-000000000000";
    for (at, digit) in key[28..].iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(round >> (28 - 4 * at)) as usize & 15];
    }
    RoundKey(key)
}

fn request(key: Option<u32>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from_static(&ASKED)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("/charge");
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("host", HeaderValue::from_static("localhost"));
    let name = if key.is_some() { "idempotency-key" } else { "x-another-header" };
    let value = HeaderValue::from_bytes(key_of(key.unwrap_or(17)).as_bytes());
    headers.insert(name, value.expect("a valid value"));
    request
}

async fn answer<B: http_body::Body>(request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible>
where
    B::Error: std::fmt::Debug,
{
    let body = request.into_body().collect().await.expect("a body in memory").to_bytes();
    assert_eq!(body.len(), ASKED.len());
    let mut response = Response::new(Full::new(Bytes::from_static(&ANSWER)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Sends them one after another, in a runtime as a server has it.
fn requests<S, B>(rounds: u32, mut service: S, key: impl Fn(u32) -> Option<u32>)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: std::fmt::Debug>,
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        for round in 0..rounds {
            let ready = service.ready().await.expect("ready");
            let response = ready.call(request(key(round))).await.expect("a response");
            assert_eq!(response.status(), 200);
            black_box(response.into_body().collect().await.expect("a body").to_bytes());
        }
    });
}

type Inside = Request<RequestBody<Full<Bytes>>>;

fn layer() -> IdempotencyLayer {
    IdempotencyLayer::new(MemoryStore::new(), Scope::shared())
}

fn guarded() -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<impl http_body::Body<Error = impl std::fmt::Debug>>,
    Error = Infallible,
> {
    layer().layer(service_fn(answer::<RequestBody<Full<Bytes>>>))
}

fn client() -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<impl http_body::Body<Error = impl std::fmt::Debug>>,
    Error = impl std::fmt::Debug,
> {
    RetryLayer::new(Server::in_process_honours_keys()).layer(service_fn(answer::<Full<Bytes>>))
}

fn resumable<F: Future<Output = ()> + Send + 'static>(
    work: impl Fn(Operation) -> F + Copy + Send + Sync + 'static,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<impl http_body::Body<Error = impl std::fmt::Debug>>,
    Error = Infallible,
> {
    layer().resumable().layer(service_fn(move |request: Inside| async move {
        let operation = request.extensions().get::<Operation>().expect("it is guarded").clone();
        work(operation).await;
        answer(request).await
    }))
}

async fn steps(operation: Operation) {
    for name in NAMES {
        operation.step(name, |_| async { Ok::<_, Infallible>(17) }).await.expect("a step");
    }
}

async fn pays(operation: Operation) {
    for name in NAMES {
        operation.pay(name, |_| async { Ok::<_, Infallible>(17) }).await.expect("a payment");
    }
}

fn fingerprint(body: &[u8]) -> Fingerprint {
    Fingerprint::of([b"POST".as_slice(), b"/charge", b"", b"application/json", black_box(body)])
}

/// Of an order with some fifty positions.
fn canonical_json(rounds: u32) {
    let position = r#"{"id": 1017, "name": "a\u0062c", "price": 19.99, "tags": ["x", null, true]}"#;
    let body = format!(r#"{{"to": "a", "positions": [{}]}}"#, vec![position; 53].join(", "));
    let request = Request::post("/charge").header("content-type", "application/json");
    let request = request.body(Bytes::from(body)).expect("a request");
    let rules = FingerprintRules::new().canonical_json();
    repeat(rounds, |_| rules.same(black_box(&request), &request));
}

/// As evenly spread as hashes are.
fn key_at(round: u32) -> Key {
    let number = u64::from(round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_ne_bytes());
    Key::from_bytes(bytes)
}

fn in_memory(work: impl AsyncFnOnce(MemoryStore, Record)) {
    let [claimed, ..] = records();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(work(MemoryStore::new(), claimed));
}

fn memory_swap(rounds: u32) {
    in_memory(async |store, claimed| {
        for round in 0..rounds {
            black_box(store.swap(&key_at(round), None, &claimed).await.expect("there is room"));
        }
    });
}

fn memory_load(rounds: u32) {
    in_memory(async |store, claimed| {
        store.swap(&key_at(17), None, &claimed).await.expect("there is room");
        for _ in 0..rounds {
            black_box(store.load(&black_box(key_at(17))).await.expect("it is in memory"));
        }
    });
}

fn memory_poll(rounds: u32) {
    // Valgrind may take longer than a lease.
    let stopped = MemoryStore::with_clock(ManualClock::new());
    in_memory(async |_, claimed| {
        let store = stopped;
        for held in 0..10_000 {
            store.swap(&key_at(held), None, &claimed).await.expect("there is room");
        }
        for _ in 0..rounds {
            let page = store.scan(&Query::new(Filter::Lapsed, 100)).await.expect("it is in memory");
            assert!(black_box(page).found.is_empty(), "leases last a minute");
        }
    });
}

fn redis() -> RedisStore {
    RedisStore::connect(&servers::url_of("redis")).expect("a URL of Redis")
}

fn postgres() -> PostgresStore {
    PostgresStore::connect(&servers::url_of("postgres")).expect("a URL of Postgres")
}

/// One after another, so that each waits for its reply once.
fn on_a_server<S: Store>(store: S, work: impl AsyncFnOnce(S, Record)) {
    let [claimed, ..] = records();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work(store, claimed));
}

fn swaps(rounds: u32, store: impl Store) {
    on_a_server(store, async |store, claimed| {
        for round in 0..rounds {
            // Another run has other keys.
            let swapped = store.swap(&key_at(round + (rounds << 12)), None, &claimed).await.expect("it replies");
            assert!(matches!(black_box(swapped), Swap::Stored));
        }
    });
}

fn loads(rounds: u32, store: impl Store) {
    on_a_server(store, async |store, claimed| {
        store.swap(&key_at(17), None, &claimed).await.expect("it replies");
        for _ in 0..rounds {
            black_box(store.load(&black_box(key_at(17))).await.expect("it replies"));
        }
    });
}

/// A record with a request, then two steps, then an answer.
fn records() -> [Record; 3] {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("x-request-id", HeaderValue::from_static("a1b2c3"));
    let body = Bytes::from_static(&ASKED);
    let request = StoredRequest::capture(&Method::POST, &Uri::from_static("/charge?x=1"), &headers, body.clone());
    let claim = Claim {
        fingerprint: fingerprint(&body),
        mode: Mode::Resumable,
        lease: Duration::from_secs(60),
        request: Some(Arc::new(request)),
        labels: Labels::new(),
    };
    let claimed = put(&claim, None, 1);
    let fence = Fence::of(claimed.version());
    let save = |step: &str| Change::Save { step: step.into(), value: Bytes::from_static(br#"{"id":"ch_17"}"#) };
    let saved = put(&Fenced { fence, changes: vec![save("order"), save("charge")] }, Some(&claimed), 2);
    let response = StoredResponse::capture(StatusCode::CREATED, &headers, Some(Bytes::from_static(&ANSWER)));
    let (response, retention) = (Arc::new(response), Duration::from_secs(86_400));
    let complete = Change::Complete { response, retention, reached: Reached::All };
    let completed = put(&Fenced { fence, changes: vec![complete] }, Some(&saved), 3);
    [claimed, saved, completed]
}

fn put(command: &impl Command, on: Option<&Record>, nonce: u64) -> Record {
    let stamp = Stamp::new(Timestamp::from_millis(1_000), Version::new(0xfeed_0000_0000_0000 + nonce));
    match command.apply(on, stamp).next {
        Next::Put(record) => record,
        Next::Keep | Next::Remove => panic!("it writes"),
    }
}

fn encode(rounds: u32) {
    let records = records();
    repeat(rounds, |_| records.each_ref().map(Record::encode));
}

fn decode(rounds: u32) {
    let times = Times { created: Timestamp::from_millis(5), written: Timestamp::from_millis(7) };
    let encoded = records().each_ref().map(Record::encode);
    let read = |head: &Encoded| {
        // Each write has the parts that it added.
        let mut parts = encoded.iter().flat_map(|encoded| &encoded.fresh);
        let part = |id| parts.find(|(part, _)| *part == id).map(|(_, bytes)| bytes.clone());
        Record::decode(times, &head.head, part).expect("it was just written")
    };
    repeat(rounds, |_| encoded.each_ref().map(read));
}
