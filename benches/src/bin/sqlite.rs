//! How many durable swaps a second the SQLite store makes, beside the bare
//! minimum: append to a file and `fdatasync`, shared by everyone who waits.
//!
//! ```text
//! cargo run --release -p tower-idempotency-benches --bin sqlite -- --seconds 30
//! ```
//!
//! Rounds of all variants alternate, so that a noisy machine is noisy for all
//! of them. Printed are medians with the extremes, and the ratios
//! within each round.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tower_idempotency::core::{
    Change, Claim, Command, Fence, Fenced, Fingerprint, IdempotencyKey, Key, Mode, Next, Reached, Record, Stamp,
    StoredResponse, Timestamp, Version,
};
use tower_idempotency::store::{SqliteStore, Store, Swap};
use tower_idempotency_benches::report;

const WRITERS: usize = 64;
/// As much as an average record takes.
const BARE_BYTES: usize = 440;
const RESPONSE_BYTES: usize = 318;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let seconds: f64 = match std::env::args().skip_while(|arg| arg != "--seconds").nth(1) {
        Some(seconds) => seconds.parse()?,
        None => 12.0,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let directory = Directory::new()?;
    let store = SqliteStore::open(directory.0.join("store.db"))?;
    let bare = Bare::open(&directory.0.join("bare"))?;

    let rounds = 9;
    let slice = Duration::from_secs_f64(seconds / f64::from(3 * rounds));
    let mut one = Vec::new();
    let mut many = Vec::new();
    let mut floor = Vec::new();
    for _ in 0..rounds {
        one.push(swaps_per_second(&runtime, &store, 1, slice)?);
        many.push(swaps_per_second(&runtime, &store, WRITERS, slice)?);
        floor.push(appends_per_second(&runtime, &bare, slice)?);
    }
    // Of the same round: what disturbs it disturbs both.
    let against = |of: &[f64]| many.iter().zip(of).map(|(many, of)| many / of).collect::<Vec<_>>();
    let (to_one, to_bare) = (against(&one), against(&floor));
    report("SQLite, 1 writer, 1/s", one, "");
    report("SQLite, 64 writers", many, "");
    report("append + fdatasync, 64", floor, "");
    report("SQLite 64 : 1", to_one, "goal: 5 or more");
    report("SQLite 64 : bare 64", to_bare, "goal: 0.27 or more");
    Ok(())
}

fn swaps_per_second(runtime: &Runtime, store: &SqliteStore, writers: usize, slice: Duration) -> Result<f64, Failure> {
    let begin = Instant::now();
    let end = begin + slice;
    let tasks: Vec<_> = (0..writers).map(|_| runtime.spawn(swap_until(store.clone(), end))).collect();
    let count = total(runtime, tasks)?;
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// Claims and completes one operation after another, as the layer does.
async fn swap_until(store: SqliteStore, end: Instant) -> Result<u64, Failure> {
    let mut count = 0;
    while Instant::now() < end {
        let key = Key::new("bench", &IdempotencyKey::parse(format!("{:032x}", fresh()).as_bytes())?);
        let claimed = claim().ok_or("no claim")?;
        stored(store.swap(&key, None, &claimed).await?)?;
        let complete = complete(&claimed).ok_or("no answer")?;
        stored(store.swap(&key, Some(claimed.version()), &complete).await?)?;
        count += 2;
    }
    Ok(count)
}

fn stored(swap: Swap) -> Result<(), Failure> {
    matches!(swap, Swap::Stored).then_some(()).ok_or_else(|| "a swap of ours was in conflict".into())
}

fn claim() -> Option<Record> {
    let claim = Claim {
        fingerprint: Fingerprint::of([b"POST /payments".as_slice()]),
        mode: Mode::AtMostOnce,
        lease: Duration::from_secs(60),
        request: None,
    };
    put(claim.apply(None, stamp()).next)
}

fn complete(claimed: &Record) -> Option<Record> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let body = Bytes::from(vec![b'x'; RESPONSE_BYTES]);
    let response = Arc::new(StoredResponse::capture(StatusCode::CREATED, &headers, Some(body)));
    let change = Change::Complete { response, retention: Duration::from_secs(86_400), reached: Reached::All };
    let fenced = Fenced { fence: Fence::of(claimed.version()), changes: vec![change] };
    put(fenced.apply(Some(claimed), stamp()).next)
}

fn put(next: Next) -> Option<Record> {
    match next {
        Next::Put(record) => Some(record),
        Next::Keep | Next::Remove => None,
    }
}

fn stamp() -> Stamp<'static> {
    Stamp::new(Timestamp::default(), Version::new(fresh()))
}

/// A number that no one else gets, in no order.
fn fresh() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(Instant::now())
}

/// The least that a durable store can do: one thread that appends what waits
/// and syncs once.
struct Bare(Sender<(Vec<u8>, oneshot::Sender<bool>)>);

impl Bare {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::create_new(path)?;
        let (requests, waiting) = channel();
        thread::spawn(|| append_all(file, waiting));
        Ok(Self(requests))
    }
}

fn append_all(mut file: File, requests: Receiver<(Vec<u8>, oneshot::Sender<bool>)>) {
    let mut bytes = Vec::new();
    let mut replies = Vec::new();
    while let Ok(first) = requests.recv() {
        for (record, reply) in std::iter::once(first).chain(requests.try_iter()) {
            bytes.extend_from_slice(&record);
            replies.push(reply);
        }
        let done = file.write_all(&bytes).and_then(|()| file.sync_data()).is_ok();
        bytes.clear();
        for reply in replies.drain(..) {
            let _ = reply.send(done);
        }
    }
}

fn appends_per_second(runtime: &Runtime, bare: &Bare, slice: Duration) -> Result<f64, Failure> {
    let begin = Instant::now();
    let end = begin + slice;
    let tasks: Vec<_> = (0..WRITERS).map(|_| runtime.spawn(append_until(bare.0.clone(), end))).collect();
    let count = total(runtime, tasks)?;
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

async fn append_until(requests: Sender<(Vec<u8>, oneshot::Sender<bool>)>, end: Instant) -> Result<u64, Failure> {
    let mut count = 0;
    while Instant::now() < end {
        let (reply, answer) = oneshot::channel();
        requests.send((vec![b'x'; BARE_BYTES], reply))?;
        if !answer.await? {
            return Err("could not append".into());
        }
        count += 1;
    }
    Ok(count)
}

fn total(runtime: &Runtime, tasks: Vec<tokio::task::JoinHandle<Result<u64, Failure>>>) -> Result<u64, Failure> {
    runtime.block_on(async {
        let mut sum = 0;
        for task in tasks {
            sum += task.await??;
        }
        Ok(sum)
    })
}

/// Next to the build, where the disk is, and gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self, Failure> {
        let target = std::env::current_exe()?.parent().ok_or("no directory")?.to_owned();
        let path = target.join(format!("bench-sqlite-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
