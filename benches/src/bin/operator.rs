//! What an operator's look at a large store takes: pages and counts, of a million records, and the first view of the page for operators.
//!
//! ```text
//! cargo run --release -p tower-idempotency-benches --bin operator -- --records 1000000 [--only STORE]
//! ```
//!
//! Half of the records are complete, and of the others one in a thousand is parked and the rest
//! is held. One in ten has a label, and one in ten thousand another one, which the stores index.
//! Printed are the median and the longest of so many pages, from the first one on; of
//! Redis also the longest that it did nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use servers::{Postgres, Redis};
use tokio::task::JoinSet;
use tower::ServiceExt as _;
use tower_idempotency::core::{
    Change, Claim, Command, Fence, Fenced, Fingerprint, Key, Label, Labels, Mode, Next, Reached, Record, Stamp,
    StoredRequest, StoredResponse, Timestamp, Version,
};
use tower_idempotency::store::{PostgresStore, RedisStore, SqliteStore, Store};
use tower_idempotency::{Authorise, Inspector, ListState, Listing, Operator};
use tower_idempotency_benches::argument;

const PAGES: usize = 40;
const WRITERS: usize = 128;
/// Labels of one record in ten, and of one in ten thousand.
const OFTEN: &str = "/payments";
const SELDOM: &str = "/refunds";
const LABELLED: [ListState; 3] = [ListState::NeedsAttention, ListState::Unfinished, ListState::Complete];
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() {
    let records = argument("--records", 1_000_000);
    println!("{records} records; pages of 50, milliseconds: median and longest of {PAGES}\n");
    let only: String = argument("--only", String::new());
    if only.is_empty() || only == "sqlite" {
        let folder = tempfile::tempdir().expect("a folder");
        let sqlite = SqliteStore::options().index_labels(true).open(folder.path().join("store.db")).expect("a store");
        measure("sqlite", Arc::new(sqlite), records).await;
    }
    if only.is_empty() || only == "redis" {
        of_redis(records).await;
    }
    if only.is_empty() || only == "postgres" {
        let postgres = Postgres::start();
        let store =
            PostgresStore::options().max_connections(64).index_labels(true).connect(&postgres.url()).expect("a URL");
        store.create_schema().await.expect("tables");
        measure("postgres", Arc::new(store), records).await;
    }
}

async fn of_redis(records: usize) {
    let redis = Redis::start();
    let store = RedisStore::options().index_complete(true).index_labels(true).connect(&redis.url()).expect("a URL");
    redis.cli(&["CONFIG", "SET", "slowlog-log-slower-than", "200"]);
    redis.cli(&["CONFIG", "SET", "slowlog-max-len", "10000"]);
    let store = Arc::new(store);
    fill(&store, records).await;
    redis.cli(&["SLOWLOG", "RESET"]);
    let (before, runs) = (redis.cpu_nanos(), scripts(&redis));
    look("redis", &store, Some(&redis)).await;
    let each = (redis.cpu_nanos() - before) as f64 / 1e6 / (scripts(&redis) - runs);
    println!(
        "  a script {each:.3} ms of the server's CPU on average, the longest {:.2} ms by the clock",
        longest(&redis).await
    );
}

async fn measure(name: &str, store: Arc<impl Store>, records: usize) {
    fill(&store, records).await;
    look(name, &store, None).await;
}

/// How many scripts it has run.
fn scripts(redis: &Redis) -> f64 {
    let stats = redis.info("cmdstat_evalsha");
    stats.strip_prefix("calls=").and_then(|rest| rest.split(',').next()?.parse().ok()).expect("a count")
}

/// How long the slowest script since the last reset took, in milliseconds.
async fn longest(redis: &Redis) -> f64 {
    let client = redis::Client::open(redis.url()).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let slow: Vec<(u64, u64, u64, redis::Value, redis::Value, redis::Value)> =
        redis::cmd("SLOWLOG").arg("GET").arg(-1).query_async(&mut connection).await.expect("a log");
    slow.iter().map(|(_, _, micros, ..)| *micros).max().unwrap_or_default() as f64 / 1000.0
}

fn put(command: &impl Command, current: Option<&Record>, version: Version) -> Record {
    match command.apply(current, Stamp::new(Timestamp::default(), version)).next {
        Next::Put(record) => record,
        Next::Keep | Next::Remove => panic!("nothing to store"),
    }
}

/// A record that is held, one that is complete, and one that is parked.
fn samples(labels: Labels) -> [Record; 3] {
    let request = StoredRequest::capture(
        &Method::POST,
        &"/payments".parse().expect("a target"),
        &HeaderMap::new(),
        Bytes::from_static(&[b'q'; 200]),
    );
    let fingerprint = Fingerprint::of([b"x".as_slice()]);
    let claim = Claim { fingerprint, mode: Mode::Resumable, lease: HOUR, request: Some(Arc::new(request)), labels };
    let held = put(&claim, None, Version::new(1));
    let response =
        StoredResponse::capture(StatusCode::CREATED, &HeaderMap::new(), Some(Bytes::from_static(&[b'a'; 300])));
    let fence = Fence::of(held.version());
    let ends = |change| Fenced { fence, changes: vec![change] };
    let response = Arc::new(response);
    let complete =
        put(&ends(Change::Complete { response, retention: HOUR, reached: Reached::All }), Some(&held), Version::new(2));
    // Without a request: that is only written with the claim.
    let bare = put(&Claim { request: None, ..claim }, None, Version::new(1));
    let parked = put(&ends(Change::Park { why: "the bank is asked".into() }), Some(&bare), Version::new(3));
    [held, complete, parked]
}

/// Some key: as a hash has them, all over the place.
fn key(n: usize) -> Key {
    let mut bytes = [0; 32];
    let mut bits = n as u64;
    for chunk in bytes.chunks_exact_mut(8) {
        bits = (bits ^ (bits >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        chunk.copy_from_slice(&bits.to_be_bytes());
    }
    Key::from_bytes(bytes)
}

async fn fill(store: &Arc<impl Store>, records: usize) {
    let (often, seldom) = (Labels::new().with("route", OFTEN), Labels::new().with("route", SELDOM));
    let samples = [Labels::new(), often, seldom].map(samples);
    let (started, samples, mut writing) = (Instant::now(), Arc::new(samples), JoinSet::new());
    for writer in 0..WRITERS {
        let (store, samples) = (Arc::clone(store), Arc::clone(&samples));
        writing.spawn(async move {
            for n in (writer..records).step_by(WRITERS) {
                // Of each half of the records.
                let [held, complete, parked] = match n / 2 {
                    pair if pair % 10_000 == 0 => &samples[2],
                    pair if pair % 10 == 0 => &samples[1],
                    _ => &samples[0],
                };
                let next = if n % 2 == 0 {
                    complete
                } else if n % 2000 == 1 {
                    parked
                } else {
                    held
                };
                store.swap(&key(n), None, next).await.expect("a write");
            }
        });
    }
    writing.join_all().await;
    eprintln!("filled in {:.0} s", started.elapsed().as_secs_f64());
}

async fn look(name: &str, store: &Arc<impl Store>, redis: Option<&Redis>) {
    println!("{name}");
    let operator = Operator::new(Arc::clone(store));
    for state in [ListState::NeedsAttention, ListState::Unfinished, ListState::Due, ListState::Complete] {
        pages(&operator, Listing::new(state), &format!("{state:?}"), redis).await;
    }
    for (label, state) in [OFTEN, SELDOM].iter().flat_map(|label| LABELLED.map(|state| (*label, state))) {
        let listing = Listing::new(state).label(Label::new("route", label));
        pages(&operator, listing, &format!("{state:?} of {label}"), redis).await;
    }
    let mut times = Vec::new();
    for _ in 0..PAGES {
        let started = Instant::now();
        let counts = operator.counts().await.expect("counts");
        times.push(started.elapsed());
        assert!(counts.unfinished.count > 0);
    }
    print("counts", times);
    first_view(operator).await;
}

/// Pages of a list, from the first one on, and again from there once there are no more.
async fn pages(operator: &Operator, first: Listing, name: &str, redis: Option<&Redis>) {
    let (mut listing, mut times, mut shown, mut cpu) = (first.clone(), Vec::new(), 0, 0);
    for _ in 0..PAGES {
        let (before, started) = (redis.map(Redis::cpu_nanos), Instant::now());
        let listed = operator.list(&listing).await.expect("a page");
        times.push(started.elapsed());
        cpu = cpu.max(redis.map(Redis::cpu_nanos).zip(before).map_or(0, |(after, before)| after - before));
        assert_eq!(listed.by_label_index, first.label.is_some());
        shown += listed.operations.len();
        listing = listed.next.map_or_else(|| first.clone(), |next| first.clone().after(next));
    }
    print(&format!("{name}, {shown} shown"), times);
    if redis.is_some() {
        println!("    of the server's CPU, all scripts and loads of a page together: {:.2} at most", cpu as f64 / 1e6);
    }
}

/// The first page that an operator sees, from the request to the last byte.
async fn first_view(operator: Operator) {
    let inspector = Inspector::new(operator, Authorise::allow_all_as("bench"));
    let mut times = Vec::new();
    for _ in 0..PAGES {
        let request = Request::new(String::new());
        let started = Instant::now();
        let page = inspector.clone().oneshot(request).await.expect("an inspector has no errors");
        assert_eq!(page.status(), StatusCode::OK);
        page.into_body().collect().await.expect("a body without errors");
        times.push(started.elapsed());
    }
    print("the inspector's first view", times);
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("  {what:<32} {:>8.2} {:>8.2}", ms(&median), ms(&longest));
}
