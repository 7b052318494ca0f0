//! Writes of the store beside the bare minimum: append to a file and `fdatasync`,
//! shared by everyone who waits.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tower_idempotency::core::{
    Change, Claim, Command, Fence, Fenced, Fingerprint, IdempotencyKey, Key, Labels, Mode, Next, Reached, Record,
    Stamp, StoredResponse, Timestamp, Version,
};
use tower_idempotency::store::{SqliteStore, Store, Swap};

use crate::Failure;

/// As much as an average record took in the store before this one.
const BARE_BYTES: usize = 440;
const RESPONSE_BYTES: usize = 318;
/// At most so many writes share one sync, here and there.
const MOST: usize = 256;

/// What one slice saw.
pub(crate) struct Seen {
    pub(crate) writes: usize,
    pub(crate) per_second: f64,
    /// In microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Something that writers can be busy with.
pub(crate) trait Work: Clone + Send + 'static {
    /// Writes a few times, and says how long each took.
    fn turn(&self, took: &mut Vec<Duration>) -> impl Future<Output = Result<(), Failure>> + Send;
}

pub(crate) fn busy(runtime: &Runtime, work: &impl Work, writers: usize, slice: Duration) -> Result<Seen, Failure> {
    let begin = Instant::now();
    let end = begin + slice;
    let task = |_| {
        let work = work.clone();
        runtime.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                work.turn(&mut took).await?;
            }
            Ok::<_, Failure>(took)
        })
    };
    let tasks: Vec<_> = (0..writers).map(task).collect();
    let mut took = Vec::new();
    for task in tasks {
        took.append(&mut runtime.block_on(task)??);
    }
    let per_second = took.len() as f64 / begin.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    Ok(Seen { writes: took.len(), per_second, p50: at(0.5), p99: at(0.99) })
}

/// Claims and completes one operation after another, as the layer does.
impl Work for SqliteStore {
    async fn turn(&self, took: &mut Vec<Duration>) -> Result<(), Failure> {
        let key = fresh_key()?;
        let claimed = claim().ok_or("no claim")?;
        let begin = Instant::now();
        stored(self.swap(&key, None, &claimed).await?)?;
        took.push(begin.elapsed());
        let complete = complete(&claimed).ok_or("no answer")?;
        let begin = Instant::now();
        stored(self.swap(&key, Some(claimed.version()), &complete).await?)?;
        took.push(begin.elapsed());
        Ok(())
    }
}

/// Writes one complete record after another, so that there are many.
pub(crate) async fn fill(store: SqliteStore, count: usize) -> Result<(), Failure> {
    let claimed = claim().ok_or("no claim")?;
    let complete = complete(&claimed).ok_or("no answer")?;
    for _ in 0..count {
        stored(store.swap(&fresh_key()?, None, &complete).await?)?;
    }
    Ok(())
}

/// A record that expires at once, so that the next ones take its place.
pub(crate) async fn churn(store: SqliteStore, count: usize, retention: Duration) -> Result<(), Failure> {
    for _ in 0..count / 2 {
        let key = fresh_key()?;
        let claimed = claim().ok_or("no claim")?;
        stored(store.swap(&key, None, &claimed).await?)?;
        let complete = complete_for(&claimed, retention).ok_or("no answer")?;
        stored(store.swap(&key, Some(claimed.version()), &complete).await?)?;
    }
    Ok(())
}

fn stored(swap: Swap) -> Result<(), Failure> {
    matches!(swap, Swap::Stored).then_some(()).ok_or_else(|| "a swap of ours was in conflict".into())
}

fn fresh_key() -> Result<Key, Failure> {
    Ok(Key::new("bench", &IdempotencyKey::parse(format!("{:032x}", fresh()).as_bytes())?))
}

fn claim() -> Option<Record> {
    let claim = Claim {
        fingerprint: Fingerprint::of([b"POST /payments".as_slice()]),
        mode: Mode::AtMostOnce,
        lease: Duration::from_secs(60),
        request: None,
        labels: Labels::new(),
    };
    put(claim.apply(None, stamp()).next)
}

fn complete(claimed: &Record) -> Option<Record> {
    complete_for(claimed, Duration::from_secs(86_400))
}

fn complete_for(claimed: &Record, retention: Duration) -> Option<Record> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let body = Bytes::from(vec![b'x'; RESPONSE_BYTES]);
    let response = Arc::new(StoredResponse::capture(StatusCode::CREATED, &headers, Some(body)));
    let change = Change::Complete { response, retention, reached: Reached::All };
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

/// A number that no one else gets, nor another process, in no order.
fn fresh() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let number = u64::from(std::process::id()) << 32 | COUNT.fetch_add(1, Ordering::Relaxed);
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The least that a durable store can do: one thread that appends what waits
/// and syncs once.
#[derive(Clone)]
pub(crate) struct Bare(Sender<(Vec<u8>, oneshot::Sender<bool>)>);

impl Bare {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::create_new(path)?;
        let (requests, waiting) = channel();
        thread::Builder::new().name("bare".to_owned()).spawn(|| append_all(file, waiting))?;
        Ok(Self(requests))
    }
}

fn append_all(mut file: File, requests: Receiver<(Vec<u8>, oneshot::Sender<bool>)>) {
    let mut bytes = Vec::new();
    let mut replies = Vec::new();
    while let Ok(first) = requests.recv() {
        for (record, reply) in std::iter::once(first).chain(requests.try_iter()).take(MOST) {
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

impl Work for Bare {
    async fn turn(&self, took: &mut Vec<Duration>) -> Result<(), Failure> {
        let begin = Instant::now();
        let (reply, answer) = oneshot::channel();
        self.0.send((vec![b'x'; BARE_BYTES], reply))?;
        if !answer.await? {
            return Err("could not append".into());
        }
        took.push(begin.elapsed());
        Ok(())
    }
}
