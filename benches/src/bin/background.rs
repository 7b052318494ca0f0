//! What it costs to answer now and work later: the same operations, with an
//! answer each, in the foreground and in the background, per store.
//!
//! ```text
//! cargo run --release -p tower-idempotency-benches --bin background -- --seconds 20
//! ```
//!
//! Foreground: so many callers, each sends one request after another. Background:
//! the same callers, answered 202, and a completer in the same process; the
//! clock stops when the last operation is complete. Rounds alternate; printed
//! are medians with the extremes, and the ratio within each round.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::{Notify, oneshot};
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::store::{self, MemoryStore, Store};
use tower_idempotency::{Background, Completer, Engine, IdempotencyLayer, RequestBody, Scope, StoredBody};
use tower_idempotency_benches::{fresh, report, seconds};

const ROUNDS: usize = 9;
const CALLERS: usize = 64;

/// How many operations were run, and who waits for the last one.
#[derive(Default)]
struct Done {
    runs: AtomicUsize,
    more: Notify,
}

/// Operations a second.
async fn rate(engine: Engine, work: Duration, operations: usize, later: bool) -> f64 {
    let done = Arc::new(Done::default());
    let inside = Arc::clone(&done);
    let engine = engine.on_event(move |event| {
        if matches!(event.kind, tower_idempotency::EventKind::Completed { .. }) {
            inside.runs.fetch_add(1, Ordering::Relaxed);
            inside.more.notify_one();
        }
    });
    let background = Background::at("/operations").queue(usize::MAX);
    let layer = IdempotencyLayer::new(engine, Scope::shared()).resumable().background(background);
    let app = layer.layer(service_fn(move |_: Request<RequestBody<Full<Bytes>>>| async move {
        if !work.is_zero() {
            tokio::time::sleep(work).await;
        }
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'a'; 318]))))
    }));
    // As many at once as there are callers.
    let driven = app.clone().map_request(|request: Request<StoredBody>| request.map(|body| Full::new(body.into())));
    let completer = Completer::new(&layer, driven).concurrency(CALLERS);
    let (stop, stopped) = oneshot::channel::<()>();
    let completing = tokio::spawn(async move { completer.run(async { stopped.await.unwrap_or(()) }).await });

    let started = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let app = app.clone();
        callers.spawn(async move {
            for _ in 0..operations / CALLERS {
                let request = Request::post("/charge").header("idempotency-key", format!("key-{:012}", fresh()));
                let request = if later { request.header("prefer", "respond-async") } else { request };
                let request = request.body(Full::new(Bytes::from_static(&[b'q'; 200]))).expect("a valid request");
                let answer = app.clone().oneshot(request).await.expect("infallible");
                assert_eq!(answer.status(), if later { 202 } else { 200 });
                // Where a real caller waits for its next request to come.
                tokio::task::yield_now().await;
            }
        });
    }
    callers.join_all().await;
    while done.runs.load(Ordering::Relaxed) < operations / CALLERS * CALLERS {
        done.more.notified().await;
    }
    let rate = operations as f64 / started.elapsed().as_secs_f64();
    let _ = stop.send(());
    completing.await.expect("the completer ends").expect("it is wired");
    rate
}

async fn compare(name: &str, store: Arc<dyn Store>, work: Duration, slice: Duration) {
    let engine = || Engine::new(Arc::clone(&store));
    // As many as fit into the slice, by a first look.
    let first = rate(engine(), work, 20 * CALLERS, false).await;
    let operations = ((first * slice.as_secs_f64()) as usize).max(20 * CALLERS);
    let mut rounds = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let foreground = rate(engine(), work, operations, false).await;
        let background = rate(engine(), work, operations, true).await;
        rounds[0].push(foreground);
        rounds[1].push(background);
        rounds[2].push(background / foreground);
    }
    let [foreground, background, ratio] = rounds;
    println!("{name}");
    report("  foreground, 1/s", foreground, "");
    report("  background, 1/s", background, "");
    report("  ratio", ratio, "goal: 0.9 or more");
}

#[tokio::main]
async fn main() {
    let directory = tempfile::tempdir().expect("a directory");
    let slice = Duration::from_secs_f64(seconds(20.0) / (4 * 2 * ROUNDS) as f64);
    for (work, doing) in [(Duration::ZERO, "no work"), (Duration::from_millis(5), "5 ms of waiting")] {
        let memory = MemoryStore::new().max_entries(10_000_000).max_bytes(usize::MAX);
        compare(&format!("memory, {doing}"), Arc::new(memory), work, slice).await;
        let path = directory.path().join(format!("{doing}.db"));
        let sqlite = store::connect(&format!("sqlite:{}", path.display())).expect("a store");
        compare(&format!("SQLite, {doing}"), sqlite, work, slice).await;
    }
}
