//! Requests through the layer, and records that were written by one.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::task::JoinSet;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_idempotency::core::{IdempotencyKey, Key, Record};
use tower_idempotency::store::{MemoryStore, Store};
use tower_idempotency::{Engine, IdempotencyLayer, RequestBody, Scope};

use crate::bed::Bed;

static ANSWER: [u8; 318] = [b'a'; 318];
static ASKED: [u8; 200] = [b'q'; 200];
const WRITERS: usize = 128;
/// Kept until long after the run.
pub(crate) const LONG: Duration = Duration::from_secs(30 * 24 * 60 * 60);

async fn answer<B>(_: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(&ANSWER))))
}

/// A request of its own for each number.
fn name(n: usize) -> String {
    format!("01234567-89ab-4cde-8000-{n:012}")
}

pub(crate) fn key(n: usize) -> Key {
    Key::new("", &IdempotencyKey::parse(name(n).as_bytes()).expect("a key"))
}

async fn ask(layer: &IdempotencyLayer, n: usize, replayed: bool) {
    let request =
        Request::post("/charge").header("content-type", "application/json").header("idempotency-key", name(n));
    let request = request.body(Full::new(Bytes::from_static(&ASKED))).expect("a valid request");
    let mut service = layer.layer(service_fn(answer::<RequestBody<Full<Bytes>>>));
    let response = service.ready().await.expect("ready").call(request).await.expect("a response");
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().contains_key("idempotent-replayed"), replayed);
    let body = response.into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes().len(), ANSWER.len());
}

pub(crate) fn layer(engine: Engine) -> IdempotencyLayer {
    IdempotencyLayer::new(engine, Scope::shared())
}

/// What a first request leaves, to be kept for so long.
pub(crate) async fn sample(retention: Duration) -> Record {
    let store = Arc::new(MemoryStore::new());
    ask(&layer(Engine::new(Arc::clone(&store)).retention(retention)), 0, false).await;
    store.load(&key(0)).await.expect("it is there").record.expect("a record")
}

/// Puts records under all these keys, of each group the one that `sample` has for it.
pub(crate) async fn fill(store: &Arc<dyn Store>, keys: Range<usize>, samples: Vec<Record>) {
    let (started, total, written) = (Instant::now(), keys.len(), Arc::new(AtomicUsize::new(0)));
    let (samples, mut writing) = (Arc::new(samples), JoinSet::new());
    for writer in 0..WRITERS {
        let (store, samples, written) = (Arc::clone(store), Arc::clone(&samples), Arc::clone(&written));
        let keys = keys.clone().skip(writer).step_by(WRITERS);
        writing.spawn(async move {
            for n in keys {
                store.swap(&key(n), None, &samples[n % samples.len()]).await.expect("a write");
                let done = written.fetch_add(1, Ordering::Relaxed) + 1;
                if done.is_multiple_of((total / 10).max(10_000)) {
                    eprintln!("  {done} of {total} after {:.0} s", started.elapsed().as_secs_f64());
                }
            }
        });
    }
    writing.join_all().await;
}

/// What a slice saw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Microseconds on a CPU a request.
    pub(crate) cpu: f64,
    /// Microseconds until its answer.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Which requests, over which layers, by so many callers of each.
#[derive(Clone)]
pub(crate) struct Slice {
    pub(crate) layers: Vec<IdempotencyLayer>,
    pub(crate) callers: usize,
    pub(crate) requests: usize,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// First requests, of keys from this one on.
    First(usize),
    /// Replays of these keys, in no order that a cache could like.
    Replay(Range<usize>),
}

impl What {
    fn key(&self, number: usize) -> usize {
        match self {
            Self::First(from) => from + number,
            // A prime, so that it visits all of them.
            Self::Replay(keys) => keys.start + number.wrapping_mul(7_919_111) % keys.len(),
        }
    }
}

/// How many requests of this store make a slice, and by how many callers: enough for a p99, in about half a second.
pub(crate) fn plan(bed: &Bed) -> (usize, usize) {
    match bed.name {
        "memory" => (40_000, 1),
        "postgres" => (2_000, 8),
        _ => (4_000, 8),
    }
}

impl Slice {
    pub(crate) async fn run(&self, bed: &Bed) -> Seen {
        let (next, before, mut calling) = (Arc::new(AtomicUsize::new(0)), bed.cpu_nanos(), JoinSet::new());
        for layer in &self.layers {
            for _ in 0..self.callers {
                let (layer, slice, next) = (layer.clone(), self.clone(), Arc::clone(&next));
                calling.spawn(async move { slice.call(&layer, &next).await });
            }
        }
        let mut took: Vec<_> = calling.join_all().await.concat();
        let cpu = (bed.cpu_nanos() - before) / 1000.0 / took.len() as f64;
        took.sort_unstable();
        let at = |part: f64| took[(took.len() as f64 * part) as usize].as_secs_f64() * 1e6;
        Seen { cpu, p50: at(0.5), p99: at(0.99) }
    }

    async fn call(&self, layer: &IdempotencyLayer, next: &AtomicUsize) -> Vec<Duration> {
        let mut took = Vec::with_capacity(self.requests);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests {
                return took;
            }
            let begin = Instant::now();
            ask(layer, self.what.key(number), matches!(self.what, What::Replay(_))).await;
            took.push(begin.elapsed());
        }
    }
}

/// Takes away what first requests left, so that the store has as many records as before.
pub(crate) async fn forget(store: &Arc<dyn Store>, keys: Range<usize>) {
    let mut removing = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, keys) = (Arc::clone(store), keys.clone().skip(writer).step_by(WRITERS));
        removing.spawn(async move {
            for key in keys.map(key) {
                if let Some(record) = store.load(&key).await.expect("a look").record {
                    store.remove(&key, record.version()).await.expect("a removal");
                }
            }
        });
    }
    removing.join_all().await;
}
