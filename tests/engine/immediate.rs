//! Stores that never wait: asked by plain calls, and with the same promises.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::task::JoinSet;
use tower_idempotency::core::{IdempotencyKey, Key, Record};
use tower_idempotency::encryption::{EncryptionKey, Keyring};
use tower_idempotency::store::{MemoryStore, Store, StoreErrorKind};
use tower_idempotency::{Engine, Operation, RunError, Runner, StepError};

fn key() -> Key {
    Key::of_runner("jobs", &IdempotencyKey::parse(b"j").unwrap())
}

async fn on_record(store: &MemoryStore) -> Record {
    store.load(&key()).await.unwrap().record.unwrap()
}

async fn step(operation: &Operation, name: String, runs: &Arc<AtomicUsize>) -> Result<usize, StepError<Infallible>> {
    let runs = Arc::clone(runs);
    operation.step(name, move |_| async move { Ok(runs.fetch_add(1, Ordering::Relaxed)) }).await
}

/// A step's result is on record when its `await` returns, whatever other tasks write meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn steps_of_many_tasks_are_all_on_record() {
    const TASKS: usize = 16;
    const STEPS: usize = 16;
    let store = Arc::new(MemoryStore::new());
    let runner = Runner::new(Arc::clone(&store));
    let runs = Arc::new(AtomicUsize::new(0));
    for attempt in 1..=2 {
        let (runs, store) = (Arc::clone(&runs), Arc::clone(&store));
        let work = move |operation: Operation| async move {
            let mut tasks = JoinSet::new();
            for task in 0..TASKS {
                let (operation, runs, store) = (operation.clone(), Arc::clone(&runs), Arc::clone(&store));
                tasks.spawn(async move {
                    for n in 0..STEPS {
                        let name = format!("{task}-{n}");
                        step(&operation, name.clone(), &runs).await.unwrap();
                        assert!(on_record(&store).await.step(&name).is_some(), "{name} is not on record");
                    }
                });
            }
            tasks.join_all().await;
            if attempt == 1 { Err("again") } else { Ok(runs.load(Ordering::Relaxed)) }
        };
        let result = runner.run("jobs", "j", "", work).await;
        match attempt {
            1 => assert!(matches!(result, Err(RunError::Work("again"))), "{result:?}"),
            _ => assert_eq!(result.unwrap(), TASKS * STEPS, "a step ran again"),
        }
    }
}

/// It goes with the next write, and that is a step's.
#[tokio::test]
async fn a_label_goes_with_the_next_step() {
    let store = Arc::new(MemoryStore::new());
    let runner = Runner::new(Arc::clone(&store));
    let (runs, kept) = (Arc::default(), Arc::clone(&store));
    let work = move |operation: Operation| async move {
        operation.label("order", "17");
        step(&operation, "reserve".to_owned(), &runs).await?;
        assert_eq!(on_record(&kept).await.labels().get("order"), Some("17"));
        Ok::<_, StepError<Infallible>>(())
    };
    runner.run("jobs", "j", "", work).await.unwrap();
}

/// What another attempt took over stores nothing more.
#[tokio::test]
async fn a_step_of_a_lost_claim_is_refused() {
    let store = Arc::new(MemoryStore::new());
    let runner = Runner::new(Arc::clone(&store));
    let (runs, kept) = (Arc::default(), Arc::clone(&store));
    let work = move |operation: Operation| async move {
        let version = on_record(&kept).await.version();
        assert!(kept.remove(&key(), version).await.unwrap());
        let refused = step(&operation, "reserve".to_owned(), &runs).await;
        assert!(matches!(refused, Err(StepError::Lost)), "{refused:?}");
        assert!(kept.load(&key()).await.unwrap().record.is_none());
        Ok::<_, Infallible>(())
    };
    let result = runner.run("jobs", "j", "", work).await;
    assert!(matches!(result, Err(RunError::OutcomeUnknown)), "{result:?}");
}

/// A process without the encryption key does not take a ciphertext for a record, whatever it asks.
#[tokio::test]
async fn what_is_encrypted_is_refused_without_the_key() {
    let store = Arc::new(MemoryStore::new());
    let ring = Keyring::new(EncryptionKey::new("k", &std::array::from_fn(|n| n as u8)).unwrap());
    let sealing = Runner::new(Engine::new(Arc::clone(&store)).encryption(ring));
    let work = |_| async { Ok::<_, Infallible>(Bytes::from_static(b"secret").len()) };
    assert_eq!(sealing.run("jobs", "j", "", work).await.unwrap(), 6);
    let plain = Runner::new(Arc::clone(&store));
    match plain.run("jobs", "j", "", work).await {
        Err(RunError::Store(error)) => assert_eq!(error.kind(), StoreErrorKind::Undecryptable),
        other => panic!("{other:?}"),
    }
}

/// As a store that has to be waited for lets others go on.
#[tokio::test]
async fn what_never_waits_leaves_turns_for_others() {
    const MANY: usize = 1_000;
    let runner = Runner::new(MemoryStore::new());
    let others = Arc::new(AtomicUsize::new(0));
    let other = || {
        let others = Arc::clone(&others);
        tokio::spawn(async move { others.fetch_add(1, Ordering::Relaxed) });
    };
    other();
    let (seen, runs) = (Arc::clone(&others), Arc::default());
    let steps = move |operation: Operation| async move {
        for n in 0..MANY {
            if seen.load(Ordering::Relaxed) == 1 {
                return Ok(n);
            }
            step(&operation, n.to_string(), &runs).await?;
        }
        Ok::<_, StepError<Infallible>>(MANY)
    };
    assert!(runner.run("jobs", "j", "", steps).await.unwrap() < MANY, "a handler kept its thread for all of its steps");
    other();
    for n in 0..MANY {
        runner.run("jobs", &n.to_string(), "", |_| async { Ok::<_, Infallible>(1) }).await.unwrap();
        if others.load(Ordering::Relaxed) == 2 {
            return;
        }
    }
    panic!("one caller kept its thread for all of its runs");
}
