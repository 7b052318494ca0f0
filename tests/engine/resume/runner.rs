//! The same promises without HTTP.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::Status;
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Engine, RunError, Runner};

use crate::support::bodies::Failure;
use crate::support::lab::{Lab, secs};
use crate::support::store::{Call, Fault, Faulty};
use crate::support::{Count, poll_once, settle};

async fn charge(runner: &Runner, count: &Count) -> Result<usize, RunError<Failure>> {
    let count = count.clone();
    runner.run("caller", "k", "input", move |_| async move { Ok(count.up()) }).await
}

#[tokio::test]
async fn the_first_call_runs_and_later_ones_get_its_result() {
    let runner = Runner::new(Faulty::new());
    let count = Count::default();
    for _ in 0..3 {
        assert_eq!(charge(&runner, &count).await.unwrap(), 1);
    }
    let other = runner.run("caller", "k", "other input", |_| async { Ok::<u8, Failure>(0) }).await;
    assert!(matches!(other, Err(RunError::InputChanged)), "{other:?}");
    let theirs = runner.run("other caller", "k", "input", |_| async { Ok::<u8, Failure>(0) }).await;
    assert_eq!(theirs.unwrap(), 0);
}

/// A lease of nothing would hold nothing: everyone at once would be let in.
#[tokio::test(start_paused = true)]
async fn no_lease_and_no_retention_are_too_short_to_hold() {
    let clock = ManualClock::new();
    let runner = Runner::new(Engine::new(Faulty::on(&clock)).lease(Duration::ZERO).retention(Duration::ZERO));
    let (count, gate) = (Count::default(), Arc::new(Semaphore::new(0)));
    let first = tokio::spawn({
        let (runner, count, gate) = (runner.clone(), count.clone(), gate.clone());
        async move {
            let work = |_| async move {
                gate.acquire().await.unwrap().forget();
                Ok::<_, Failure>(count.up())
            };
            runner.run("caller", "k", "input", work).await
        }
    });
    settle().await;
    let second = charge(&runner, &count).await;
    assert!(matches!(second, Err(RunError::Busy(_))), "{second:?}");
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert_eq!(charge(&runner, &count).await.unwrap(), 1, "the stored result");
}

#[tokio::test]
async fn a_call_that_is_dropped_goes_on() {
    let runner = Runner::new(Faulty::new());
    let (count, gate) = (Count::default(), Arc::new(Semaphore::new(0)));
    let (runs, door) = (count.clone(), gate.clone());
    let mut call = Box::pin(runner.run("caller", "k", "input", move |_| async move {
        door.acquire().await.unwrap().forget();
        Ok::<_, Failure>(runs.up())
    }));
    assert!(poll_once(&mut call).await.is_none());
    drop(call);
    gate.add_permits(1);
    settle().await;
    assert_eq!((count.get(), charge(&runner, &count).await.unwrap()), (1, 1));
}

#[tokio::test]
async fn an_error_is_not_stored_and_at_most_once_it_is_not_run_again() {
    let fail = |runner: Runner| async move {
        runner.run("caller", "k", "input", |_| async { Err::<usize, _>(Failure("no")) }).await
    };
    let count = Count::default();
    let resumable = Runner::new(Faulty::new());
    assert!(matches!(fail(resumable.clone()).await, Err(RunError::Work(Failure("no")))));
    assert_eq!(charge(&resumable, &count).await.unwrap(), 1);
    let once = Runner::new(Faulty::new()).at_most_once();
    assert!(matches!(fail(once.clone()).await, Err(RunError::Work(Failure("no")))));
    assert!(matches!(charge(&once, &count).await, Err(RunError::OutcomeUnknown)));
    assert_eq!(count.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_can_not_be_stored_is_given_and_stored_later() {
    let lab = Lab::new();
    let (runner, count) = (Runner::new(lab.store.clone()), Count::default());
    lab.store.fail(|call| match call {
        Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    assert_eq!(charge(&runner, &count).await.unwrap(), 1);
    lab.store.heal();
    tokio::time::sleep(secs(6)).await;
    assert_eq!((charge(&runner, &count).await.unwrap(), count.get()), (1, 1));
}
