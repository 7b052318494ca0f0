//! Two workers must never write with one nonce: each would take the other's claim
//! for its own, and both would run. (`fork`, beside the servers' tests, has the
//! copies of a process.)

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tower_idempotency::core::{Claim, Claimed, Fingerprint, Key, Labels, Mode};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{RunError, Runner, StepError};

/// What `worker` gives, in a thread and a runtime of its own, where whatever can
/// be seeded is seeded with the same number.
fn seeded<T: Send>(worker: impl AsyncFnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            fastrand::seed(7);
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(worker())
        });
        worker.join().unwrap()
    })
}

#[test]
fn of_two_workers_with_one_seed_one_runs() {
    let (store, runs) = (Arc::new(MemoryStore::new()), Arc::new(AtomicUsize::new(0)));
    let other = (Arc::clone(&store), Arc::clone(&runs));
    let first = seeded(async move || {
        let work = {
            let (store, runs) = other;
            move |_| async move {
                runs.fetch_add(1, Ordering::SeqCst);
                // While it runs, another worker gets the same request.
                let second = seeded(async || {
                    let work = move |_| async move { Ok::<_, StepError<String>>(runs.fetch_add(1, Ordering::SeqCst)) };
                    Runner::new(store).run("jobs", "17", "input", work).await
                });
                Ok::<_, StepError<String>>(matches!(second, Err(RunError::Busy { .. })))
            }
        };
        Runner::new(store).run("jobs", "17", "input", work).await
    });
    assert_eq!(runs.load(Ordering::SeqCst), 1, "both ran");
    assert!(matches!(first, Ok(true)), "the second one waits: {first:?}");
}

#[test]
fn no_two_writes_of_threads_with_one_seed_have_one_version() {
    let claims = async || {
        let ledger = Ledger::new(MemoryStore::new());
        let mut versions = Vec::new();
        for n in 0..200 {
            let claim = Claim {
                fingerprint: Fingerprint::of([b"x".as_slice()]),
                mode: Mode::Resumable,
                lease: Duration::from_secs(60),
                request: None,
                labels: Labels::new(),
            };
            let done = ledger.apply(&Key::from_bytes([n; 32]), None, claim).await.unwrap();
            assert!(matches!(done.output, Claimed::Granted(_)));
            versions.push(done.record.unwrap().version());
        }
        versions
    };
    let versions: Vec<_> = (0..4).flat_map(|_| seeded(claims)).collect();
    let different: HashSet<_> = versions.iter().collect();
    assert_eq!(different.len(), versions.len(), "{} of {} versions", different.len(), versions.len());
}
