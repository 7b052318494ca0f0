//! An attempt that did not come to what was paid can't say that it failed.

use std::time::Duration;

use tower_idempotency::core::{Hold, Record, Status};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Backoff, Engine, IdempotencyLayer, Operation, Outcome, RunError, Runner, StepError};

use crate::support::Count;
use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{
    App, Inner, Lab, completer, grpc, operation, post, reply, secs, send, serve, stored_key, with,
};
use crate::support::store::{Call, Fault};

type Said = http::Response<TestBody>;

fn layer(lab: &Lab) -> IdempotencyLayer {
    lab.layer_with(|engine| engine.backoff(Backoff::new(secs(10), secs(40)))).resumable()
}

async fn pay(op: &Operation, step: &'static str) {
    op.pay(step, |_| async { Ok::<_, Failure>(17) }).await.unwrap();
}

fn with_outcome(mut said: Said, outcome: Outcome) -> Said {
    said.extensions_mut().insert(outcome);
    said
}

/// Pays, and is to be tried again; from then on it answers `then` without coming
/// to any step.
fn pays_once(layer: &IdempotencyLayer, then: impl Fn() -> Said + Clone + Send + Sync + 'static) -> App {
    serve(layer, move |request: Inner| {
        let (op, then) = (operation(&request), then.clone());
        async move {
            if op.is_resumed() {
                return Ok(then());
            }
            pay(&op, "charge").await;
            Ok(reply(503, "later"))
        }
    })
}

async fn stored(lab: &Lab) -> Record {
    lab.store.peek(&stored_key("k")).await.unwrap()
}

fn parked_why(record: &Record) -> String {
    match record.hold() {
        Hold::Parked { why } => why.to_string(),
        other => panic!("not parked: {other:?}, {:?}", record.status()),
    }
}

const WHY: &str = "its response was 400, and this attempt did not reach step \"charge\", which was paid";

#[tokio::test(start_paused = true)]
async fn a_payment_that_was_not_reached_is_not_answered_with_a_failure_by_a_completer() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    // What a typed extractor says whose header was a credential.
    let app = serve(&layer, |request: Inner| {
        let (op, known) = (operation(&request), request.headers().contains_key("authorization"));
        async move {
            if !known {
                return Ok(reply(400, "who are you?"));
            }
            pay(&op, "charge").await;
            Ok(reply(503, "later"))
        }
    });
    let request = || with(post("k"), "authorization", "Bearer s3cret");
    send(&app, request()).await.assert_first(503, "later");
    clock.advance(secs(10));
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().parked, 1);
    let record = stored(&lab).await;
    assert_eq!((parked_why(&record).as_str(), record.status()), (WHY, Status::Paid));
    assert!(record.step("charge").is_some() && record.request().is_some(), "it can go on when a human says so");
    assert_eq!(lab.events.count("Parked"), 1);
    send(&app, request()).await.assert_problem("outcome-unknown", 500);
}

#[tokio::test]
async fn a_payment_that_was_not_reached_is_not_answered_with_a_failure_by_a_client() {
    let lab = Lab::new();
    let app = pays_once(&layer(&lab), || reply(404, "no such order"));
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(parked_why(&stored(&lab).await), WHY.replace("400", "404"));
}

/// Whether it happened is not even known.
#[tokio::test]
async fn a_step_in_doubt_that_was_not_reached_is_not_answered_with_a_failure() {
    for once in [false, true] {
        let lab = Lab::new();
        let app = serve(&layer(&lab), move |request: Inner| {
            let op = operation(&request);
            async move {
                if op.is_resumed() {
                    return Ok(reply(422, "no"));
                }
                let lost = || async { Err::<(), _>(Failure("lost")) };
                let outcome = if once { op.once("mail", lost).await } else { op.pay("mail", |_| lost()).await };
                assert!(outcome.is_err());
                Ok(reply(503, "later"))
            }
        });
        send(&app, post("k")).await.assert_first(503, "later");
        send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
        let why = "its response was 422, and this attempt did not reach step \"mail\", which was begun";
        assert_eq!(parked_why(&stored(&lab).await), why);
    }
}

/// HTTP says 200 whatever happened: what gRPC says counts.
#[tokio::test(start_paused = true)]
async fn a_failure_of_grpc_does_not_hide_a_payment() {
    for (status, alone, by_client) in [("3", true, true), ("3", false, true), ("5", true, false), ("9", false, false)] {
        let (lab, clock) = Lab::manual();
        let layer = layer(&lab);
        // tonic's answer to a call that lacks its metadata.
        let app = pays_once(&layer, move || grpc(status, alone));
        send(&app, post("k")).await.assert_first(503, "later");
        if by_client {
            send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
        } else {
            clock.advance(secs(10));
            assert_eq!(completer(&layer, &app).run_once().await.unwrap().parked, 1);
        }
        let record = stored(&lab).await;
        let why = WHY.replace("was 400", "was a gRPC status that counts as 400");
        assert_eq!((parked_why(&record), record.status()), (why, Status::Paid), "{status} {alone}");
    }
    // What is no failure is none, and what is not final is tried again.
    for alone in [true, false] {
        let lab = Lab::new();
        let app = pays_once(&layer(&lab), move || grpc("0", alone));
        send(&app, post("k")).await.assert_first(503, "later");
        assert_eq!(send(&app, post("k")).await.status, 200);
        assert_eq!((lab.events.count("NotReached"), lab.events.count("Completed")), (1, 1));
        let lab = Lab::new();
        let app = pays_once(&layer(&lab), move || grpc("14", alone));
        send(&app, post("k")).await.assert_first(503, "later");
        assert_eq!(send(&app, post("k")).await.status, 200);
        assert_eq!((lab.events.count("Parked"), lab.events.count("Released")), (0, 2));
        let lab = Lab::new();
        let app = pays_once(&layer(&lab), move || with_outcome(grpc("9", alone), Outcome::Final));
        send(&app, post("k")).await.assert_first(503, "later");
        assert_eq!(send(&app, post("k")).await.status, 200);
        assert_eq!(lab.events.count("Completed"), 1);
    }
}

/// At most once, after a human let it run again.
#[tokio::test(start_paused = true)]
async fn at_most_once_a_failure_does_not_hide_a_payment_either() {
    use tower_idempotency::core::Resolution;
    for (in_grpc, answer) in [
        (None, "500"),
        (Some(true), "a gRPC status that counts as 500"),
        (Some(false), "a gRPC status that counts as 500"),
    ] {
        let (lab, clock) = Lab::manual();
        let app = serve(&lab.layer(), move |request: Inner| {
            let op = operation(&request);
            async move {
                if !op.is_resumed() {
                    pay(&op, "charge").await;
                    panic!("a planned panic");
                }
                Ok(in_grpc.map_or_else(|| reply(500, "no"), |alone| grpc("13", alone)))
            }
        });
        send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
        clock.advance(secs(60));
        lab.decide("k", Resolution::RunAgain).await;
        send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
        assert_eq!(parked_why(&stored(&lab).await), WHY.replace("400", answer));
    }
}

#[tokio::test]
async fn an_answer_that_is_no_failure_completes_and_names_what_was_not_reached() {
    for status in [201, 303] {
        let lab = Lab::new();
        let app = pays_once(&layer(&lab), move || reply(status, "done"));
        send(&app, post("k")).await.assert_first(503, "later");
        lab.events.clear();
        send(&app, post("k")).await.assert_first(status, "done");
        assert_eq!(lab.events.names(), ["Resumed", "NotReached", "Completed"]);
        assert!(format!("{:?}", lab.events.all()).contains("[\"charge\"]"));
        send(&app, post("k")).await.assert_replay(status, "done");
    }
}

/// The handler knows what it leaves out.
#[tokio::test]
async fn an_answer_that_is_said_to_be_final_is_final() {
    let lab = Lab::new();
    let app = pays_once(&layer(&lab), || with_outcome(reply(409, "sold out"), Outcome::Final));
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(409, "sold out");
    assert_eq!(lab.events.count("NotReached"), 1);
    send(&app, post("k")).await.assert_replay(409, "sold out");
}

/// What was reached, and what was never paid, is no obstacle.
#[tokio::test]
async fn a_failure_after_all_that_was_paid_completes() {
    let lab = Lab::new();
    let app = serve(&layer(&lab), |request: Inner| {
        let op = operation(&request);
        async move {
            let resumed = op.is_resumed();
            if !resumed {
                op.step("order", |_| async { Ok::<_, Failure>(1) }).await.unwrap();
                let declined = op.pay("first card", |_| async { Err::<(), _>("declined".to_owned()) });
                assert!(declined.final_when(|_| true).await.unwrap_err().is_final());
            }
            pay(&op, "charge").await;
            Ok(if resumed { reply(409, "sold out") } else { reply(503, "later") })
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(409, "sold out");
    assert_eq!((lab.events.count("NotReached"), lab.events.count("Parked")), (0, 0));
    send(&app, post("k")).await.assert_replay(409, "sold out");
}

/// With half of what is to be undone, nothing is.
#[tokio::test]
async fn nothing_is_undone_while_a_payment_was_not_reached() {
    for skips in ["flight", "hotel"] {
        let (lab, undone) = (Lab::new(), Count::default());
        let count = undone.clone();
        let app = serve(&layer(&lab), move |request: Inner| {
            let (op, count) = (operation(&request), count.clone());
            async move {
                for step in ["flight", "hotel"] {
                    let count = count.clone();
                    if op.is_resumed() && step == skips {
                        continue;
                    }
                    let booked = op.pay(step, |_| async { Ok::<_, Failure>(17) });
                    let undo = move |_, _| async move {
                        count.up();
                        Ok(())
                    };
                    booked.undo_with(undo).await.unwrap();
                }
                Ok(if op.is_resumed() { reply(409, "no car") } else { reply(503, "later") })
            }
        });
        send(&app, post("k")).await.assert_first(503, "later");
        send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
        assert_eq!(undone.get(), 0, "{skips}");
        let why = WHY.replace("400", "409").replace("charge", skips);
        assert_eq!(parked_why(&stored(&lab).await), why);
        assert_eq!(lab.events.count("Undoing"), 0);
    }
}

/// The store is away when it is to be parked: no client is told of a failure that
/// is not going to be the answer.
#[tokio::test(start_paused = true)]
async fn a_failure_that_can_not_be_parked_yet_is_not_given() {
    let lab = Lab::new();
    let app = pays_once(&layer(&lab), || reply(400, "no"));
    send(&app, post("k")).await.assert_first(503, "later");
    lab.store.fail(|call| match call {
        Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    lab.store.heal();
    let writes = Count::default();
    let again = Lab::new();
    let app = pays_once(&layer(&again), || reply(400, "no"));
    send(&app, post("k")).await.assert_first(503, "later");
    // The claim is stored, what comes after it is not.
    again.store.fail(move |call| match call {
        Call::Swap(_) if writes.up() > 2 && writes.get() < 9 => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(parked_why(&stored(&again).await), WHY);
}

/// A call has no failures that are stored: it completes, and says what it left out.
#[tokio::test]
async fn a_call_that_leaves_out_a_payment_says_so() {
    let lab = Lab::new();
    let runner = Runner::new(Engine::new(lab.store.clone()).on_event({
        let events = lab.events.clone();
        move |event| events.add(event)
    }));
    let work = |op: Operation| async move {
        if op.is_resumed() {
            return Ok::<u8, StepError<Failure>>(2);
        }
        op.pay("charge", |_| async { Ok::<_, Failure>(1) }).await?;
        Err(StepError::Retry(Failure("later")))
    };
    assert!(matches!(runner.run("jobs", "k", "", work).await, Err(RunError::Work(_))));
    assert_eq!(runner.run("jobs", "k", "", work).await.unwrap(), 2);
    assert_eq!(lab.events.count("NotReached"), 1);
}
