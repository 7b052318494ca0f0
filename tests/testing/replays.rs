//! A handler against what it did before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tower_idempotency::testing::{Crash, Recording, ReplayError, TestBed, verify_replay};
use tower_idempotency::{Operation, Operator, Runner, StepError};

type Done = Result<u64, StepError<String>>;

/// As it was released.
async fn released(operation: Operation) -> Done {
    let order = operation.step("order", |_| async { Ok(17) }).input(&1999).await?;
    operation.pay("charge", |_| async move { Ok(order + 1) }).await
}

async fn recorded() -> Recording {
    let bed = TestBed::new();
    Runner::new(bed.process()).run("jobs", "k", "input", released).await.unwrap();
    bed.find_of_runner("jobs", "k").await.recording().unwrap()
}

async fn verify<F, Fut>(handler: F) -> Result<Done, ReplayError>
where
    F: FnOnce(Operation) -> Fut + Send + 'static,
    Fut: Future<Output = Done> + Send + 'static,
{
    let recording = recorded().await;
    let replayed =
        verify_replay(&recording, |engine| async move { Runner::new(engine).run("jobs", "k", "input", handler).await });
    replayed.await.map(|done| match done {
        Ok(done) => Ok(done),
        Err(tower_idempotency::RunError::Work(error)) => Err(error),
        Err(other) => panic!("{other}"),
    })
}

fn missed(error: &ReplayError) -> Vec<&str> {
    error.missed_steps().collect()
}

#[tokio::test]
async fn the_same_handler_takes_every_result_and_runs_no_work() {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let done = verify(move |operation| async move {
        let up = |value| {
            count.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, String>(value) }
        };
        // In another order: a step is found by its name.
        let charge = operation.pay("charge", |_| up(0)).await?;
        operation.step("order", |_| up(0)).input(&1999).await?;
        Ok(charge)
    });
    assert_eq!(done.await.unwrap().unwrap(), 18);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    assert_eq!(recorded().await.steps().collect::<Vec<_>>(), ["order", "charge"]);
}

#[tokio::test]
async fn a_step_that_was_renamed_is_new_and_its_payment_is_not_made() {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let error = verify(move |operation| async move {
        operation.step("order", |_| async { Ok::<_, String>(0) }).input(&1999).await?;
        let pay = operation.pay("charge card", |_| async move {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(0)
        });
        pay.await
    });
    let error = error.await.unwrap_err();
    assert_eq!((error.new_step(), missed(&error)), (Some("charge card"), vec!["charge"]));
    assert_eq!(
        error.to_string(),
        "the handler has a new step \"charge card\", and had not reached the steps [\"charge\"]"
    );
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_step_that_was_added_at_the_end_is_new() {
    let error = verify(|operation| async move {
        released(operation.clone()).await?;
        operation.step("mail", |_| async { Ok(0) }).await
    });
    let error = error.await.unwrap_err();
    assert_eq!((error.new_step(), missed(&error)), (Some("mail"), vec![]));
    assert_eq!(error.to_string(), "the handler has a new step \"mail\"");
}

#[tokio::test]
async fn a_step_that_was_dropped_is_missed() {
    let error = verify(|operation| async move { operation.pay("charge", |_| async { Ok(0) }).await });
    let error = error.await.unwrap_err();
    assert_eq!((error.new_step(), missed(&error)), (None, vec!["order"]));
    assert_eq!(error.to_string(), "the handler did not take the results of the steps [\"order\"]");
}

#[tokio::test]
async fn a_step_with_another_input_is_missed() {
    let error = verify(|operation| async move {
        let order = operation.step("order", |_| async { Ok(17) }).input(&2000).await?;
        operation.pay("charge", |_| async move { Ok(order + 1) }).await
    });
    let error = error.await.unwrap_err();
    assert_eq!((error.new_step(), missed(&error)), (None, vec!["order", "charge"]));
}

/// What is unfinished in production, as an operator shows it.
#[tokio::test]
async fn what_is_in_doubt_is_no_recording() {
    for (crash, is_whole) in [
        (Crash::after_step("order"), true),
        (Crash::after_work("charge"), false),
        (Crash::after_step("charge"), true),
        (Crash::after_response(), false),
    ] {
        let bed = TestBed::new();
        let (process, operator) = (bed.process(), Operator::new(bed.process()));
        process.crash_at(crash.clone());
        process.run(Runner::new(process.clone()).run("jobs", "k", "input", released)).await;
        let shown = operator.find_of_runner("jobs", "k").await.unwrap();
        let recording = Recording::of(&shown);
        assert_eq!(recording.is_some(), is_whole, "{crash:?}");
        let Some(recording) = recording else { continue };
        let replayed =
            verify_replay(
                &recording,
                |engine| async move { Runner::new(engine).run("jobs", "k", "input", released).await },
            );
        let replayed = replayed.await.map(Result::unwrap);
        match recording.steps().count() {
            // It went on where the first process died.
            1 => assert_eq!(replayed.unwrap_err().new_step(), Some("charge")),
            _ => assert_eq!(replayed, Ok(18)),
        }
    }
}
