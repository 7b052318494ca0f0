//! Where a process dies, and what is on record then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tower_idempotency::testing::{Crash, Found, Process, TestBed};
use tower_idempotency::{Operation, Operator, RunError, Runner, StepError};

type Failure = RunError<StepError<String>>;
type Assertion = fn(&Found);

/// How often each of two works ran.
#[derive(Clone, Default)]
struct Works(Arc<[AtomicUsize; 2]>);

impl Works {
    fn runs(&self) -> [usize; 2] {
        [0, 1].map(|at| self.0[at].load(Ordering::SeqCst))
    }

    async fn work(self, operation: Operation) -> Result<u64, StepError<String>> {
        let up = |at: usize| {
            let works = self.0.clone();
            async move { Ok::<_, String>(works[at].fetch_add(1, Ordering::SeqCst)) }
        };
        operation.step("order", |_| up(0)).await?;
        operation.pay("charge", |_| up(1)).await?;
        Ok(17)
    }
}

/// A job in this process, as far as it gets.
async fn run(process: &Process, works: &Works) -> Option<Result<u64, Failure>> {
    let (runner, works) = (Runner::new(process.clone()), works.clone());
    process.run(runner.run("jobs", "k", "input", move |operation| works.work(operation))).await
}

async fn found(bed: &TestBed) -> Found {
    bed.find_of_runner("jobs", "k").await
}

/// How often each work ran before a process died at `crash`, and when another one was done.
async fn die(crash: Crash) -> ([usize; 2], [usize; 2]) {
    let (bed, works) = (TestBed::new(), Works::default());
    let process = bed.process();
    process.crash_at(crash);
    assert!(!process.is_dead());
    assert!(run(&process, &works).await.is_none());
    assert!(process.is_dead());
    let before = works.runs();
    assert!(run(&process, &works).await.is_none(), "a dead process runs nothing");
    assert_eq!(works.runs(), before);
    bed.advance(Duration::from_secs(60));
    assert_eq!(run(&bed.process(), &works).await.unwrap().unwrap(), 17);
    found(&bed).await.assert_complete(200).assert_done(["order", "charge"]);
    (before, works.runs())
}

#[tokio::test]
async fn it_dies_where_it_is_told() {
    for (crash, before, all) in [
        (Crash::after_work("order"), [1, 0], [2, 1]),
        (Crash::after_step("order"), [1, 0], [1, 1]),
        (Crash::before_work("charge"), [1, 0], [1, 1]),
        (Crash::after_work("charge"), [1, 1], [1, 2]),
        (Crash::after_step("charge"), [1, 1], [1, 1]),
        (Crash::before_response(), [1, 1], [1, 1]),
        (Crash::after_response(), [1, 1], [1, 1]),
    ] {
        assert_eq!(die(crash.clone()).await, (before, all), "{crash:?}");
    }
}

#[tokio::test]
async fn what_is_on_record_is_what_was_stored_before_it_died() {
    let at = |crash| async {
        let bed = TestBed::new();
        let process = bed.process();
        process.crash_at(crash);
        assert!(run(&process, &Works::default()).await.is_none());
        found(&bed).await
    };
    at(Crash::after_work("order")).await.assert_unfinished().assert_done([]).assert_in_doubt([]);
    at(Crash::after_step("order")).await.assert_unfinished().assert_done(["order"]);
    at(Crash::before_work("charge")).await.assert_done(["order"]).assert_in_doubt(["charge"]);
    at(Crash::after_work("charge")).await.assert_done(["order"]).assert_in_doubt(["charge"]);
    at(Crash::after_step("charge")).await.assert_done(["order", "charge"]).assert_in_doubt([]);
    at(Crash::before_response()).await.assert_unfinished().assert_done(["order", "charge"]);
    let complete = at(Crash::after_response()).await;
    complete.assert_complete(200).assert_done(["order", "charge"]);
    assert_eq!(complete.record().unwrap().attempts(), 1);
}

#[tokio::test]
async fn a_once_in_doubt_is_parked() {
    let bed = TestBed::new();
    let (first, second) = (bed.process(), bed.process());
    let mail = |process: &Process| {
        let runner = Runner::new(process.clone());
        let mailed = runner.run("jobs", "k", "input", |operation| async move {
            operation.once("mail", || async { Ok::<_, String>(()) }).await
        });
        let process = process.clone();
        async move { process.run(mailed).await }
    };
    first.crash_at(Crash::after_work("mail"));
    assert!(mail(&first).await.is_none());
    bed.advance(Duration::from_secs(60));
    assert!(matches!(mail(&second).await, Some(Err(RunError::Work(StepError::InDoubt { .. })))));
    found(&bed).await.assert_parked("mail").assert_in_doubt(["mail"]).assert_unfinished();
}

/// Until the clock is moved, the dead process counts as the holder.
#[tokio::test]
async fn a_dead_process_keeps_its_lease_and_does_not_renew_it() {
    let (bed, works) = (TestBed::new(), Works::default());
    let process = bed.process();
    process.crash_at(Crash::after_step("order"));
    run(&process, &works).await;
    let other = bed.process();
    assert!(matches!(run(&other, &works).await, Some(Err(RunError::Busy(_)))));
    bed.advance(Duration::from_secs(60));
    assert!(matches!(run(&other, &works).await, Some(Ok(17))));
}

/// What it left running gets no further than its next call of the store.
#[tokio::test(start_paused = true)]
async fn no_call_of_a_dead_process_returns_or_has_an_effect() {
    let bed = TestBed::new();
    let process = bed.process();
    process.crash_at(Crash::after_step("order"));
    run(&process, &Works::default()).await;
    let hour = Duration::from_secs(60 * 60);
    bed.advance(hour);
    let left = Runner::new(process.clone()).run("jobs", "k", "input", |operation| Works::default().work(operation));
    assert!(tokio::time::timeout(hour, left).await.is_err());
    let operator = Operator::new(process.clone());
    assert!(tokio::time::timeout(hour, operator.find_of_runner("jobs", "k")).await.is_err());
    found(&bed).await.assert_done(["order"]).assert_unfinished();
}

/// A step has no intent, and what is not there is never reached.
#[tokio::test]
async fn a_process_that_never_gets_there_lives() {
    for crash in [Crash::before_work("order"), Crash::after_step("other")] {
        let bed = TestBed::new();
        let process = bed.process();
        process.crash_at(crash);
        assert!(matches!(run(&process, &Works::default()).await, Some(Ok(17))));
        assert!(!process.is_dead());
    }
}

#[tokio::test]
async fn an_assertion_that_does_not_hold_says_what_is_there() {
    let bed = TestBed::new();
    found(&bed).await.assert_absent();
    run(&bed.process(), &Works::default()).await;
    let found = found(&bed).await;
    let wrong: [(&str, Assertion); 6] = [
        ("there is a record", |found| drop(found.assert_absent().clone())),
        ("not complete with 201", |found| drop(found.assert_complete(201).clone())),
        ("not unfinished", |found| drop(found.assert_unfinished().clone())),
        ("not parked", |found| drop(found.assert_parked("").clone())),
        ("other steps", |found| drop(found.assert_done(["charge", "order"]).clone())),
        ("are in doubt", |found| drop(found.assert_in_doubt(["charge"]).clone())),
    ];
    for (complaint, assertion) in wrong {
        let panic = std::panic::catch_unwind(|| assertion(&found)).unwrap_err();
        let text = panic.downcast::<String>().unwrap();
        assert!(text.contains(complaint) && text.contains("done [\"order\", \"charge\"]"), "{text}");
    }
}
