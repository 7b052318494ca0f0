//! What an operator sees and decides.

mod decisions;
mod lists;

use bytes::Bytes;
use tower_idempotency::core::{HistoryEvent, Hold, Key, Resolution, Status};
use tower_idempotency::store::{Filter, Query, StoreError, StoreErrorKind};
use tower_idempotency::{Callback, Engine, Operator, OperatorError, Runner};

use crate::support::bodies::Failure;
use crate::support::lab::{Lab, numbered, operation, post, reply, secs, send, serve, stored_key};
use crate::support::store::{Call, Fault};
use crate::support::{self, Count};

fn panics() -> Result<String, Failure> {
    panic!("a planned panic")
}

/// An operation in at-most-once mode whose process died: it waits for a decision.
async fn abandoned(lab: &Lab) -> (support::lab::App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer(), move |_| {
        let run = count.up();
        async move {
            assert!(run > 1, "a planned panic");
            Ok(reply(201, format!("run {run}")))
        }
    });
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    (app, runs)
}

#[tokio::test(start_paused = true)]
async fn it_is_found_by_what_the_client_sent_and_by_what_logs_show() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("order-17")).await.assert_first(201, "charge 1");
    let operator = Operator::new(lab.store.clone());
    let shown = operator.find("", "order-17").await.unwrap();
    assert_eq!((shown.key, shown.record.status()), (stored_key("order-17"), Status::Complete));
    // The quoted form is the same key, as it is on the wire.
    assert_eq!(operator.find("", "\"order-17\"").await.unwrap().key, shown.key);
    for hash in [shown.key.to_string(), shown.key.to_string().to_uppercase()] {
        assert_eq!(operator.find_by_hash(&hash).await.unwrap().key, shown.key);
    }
    let elsewhere = operator.find("ann", "order-17").await;
    assert!(matches!(elsewhere, Err(OperatorError::Absent)), "{elsewhere:?}");
    for hash in ["", "order-17", &shown.key.to_string()[1..], &"ß".repeat(32), &"+1".repeat(32)] {
        let found = operator.find_by_hash(hash).await;
        assert!(matches!(found, Err(OperatorError::InvalidHash)), "{hash}: {found:?}");
    }
    let empty = operator.find("", "").await;
    assert!(matches!(empty, Err(OperatorError::InvalidKey(_))), "{empty:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_runner_ran_is_found_as_its_own() {
    let lab = Lab::new();
    let runner = Runner::new(lab.engine());
    runner.run("jobs", "17", "", |_| async { Ok::<_, Failure>(42) }).await.unwrap();
    let operator = Operator::new(lab.store.clone());
    assert_eq!(operator.find_of_runner("jobs", "17").await.unwrap().record.status(), Status::Complete);
    assert!(matches!(operator.find("jobs", "17").await, Err(OperatorError::Absent)));
}

#[tokio::test(start_paused = true)]
async fn a_retry_runs_what_an_operator_lets_run_again() {
    let (lab, clock) = Lab::manual();
    let (app, runs) = abandoned(&lab).await;
    let operator = Operator::new(Engine::new(lab.store.clone()).instance("eve"));
    let shown = operator.find("", "k").await.unwrap();
    operator.retry(&shown).await.unwrap();
    clock.advance(secs(1));
    send(&app, post("k")).await.assert_first(201, "run 2");
    let record = operator.find("", "k").await.unwrap().record;
    let by: Vec<_> = record.history().into_iter().filter_map(|entry| entry.by).collect();
    assert_eq!((runs.get(), by.iter().any(|by| **by == *"eve")), (2, true), "{by:?}");
    let decided = record.history().into_iter().filter(|entry| entry.event == HistoryEvent::Decided);
    let decided: Vec<_> = decided.map(|entry| (entry.by.unwrap().to_string(), entry.text.is_some())).collect();
    assert_eq!(decided, [("eve".to_owned(), true)], "what she decided, once");
}

#[tokio::test(start_paused = true)]
async fn a_decision_about_what_moved_on_is_refused() {
    let (lab, _) = Lab::manual();
    let (app, runs) = abandoned(&lab).await;
    let operator = Operator::new(lab.store.clone());
    let (one, other) = (operator.find("", "k").await.unwrap(), operator.find("", "k").await.unwrap());
    operator.resolve(&one, Resolution::Park { why: "accounting asks the bank".into() }).await.unwrap();
    let refused = operator.retry(&other).await;
    assert!(matches!(refused, Err(OperatorError::Overtaken)), "{refused:?}");
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(runs.get(), 1);
    let shown = operator.find("", "k").await.unwrap();
    assert_eq!(shown.parked(), Some("accounting asks the bank"));
}

#[tokio::test(start_paused = true)]
async fn what_an_attempt_holds_is_not_decided() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| std::future::pending());
    let client = support::lab::spawn(&app, post("k"));
    support::settle().await;
    let operator = Operator::new(lab.store.clone());
    let refused = operator.retry(&operator.find("", "k").await.unwrap()).await;
    assert!(matches!(refused, Err(OperatorError::Busy(left)) if left <= secs(60)), "{refused:?}");
    client.abort();
}

/// The lease is over, and this process still has the response.
#[tokio::test(start_paused = true)]
async fn what_this_process_still_has_to_save_is_not_decided() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, runs) = numbered(&layer);
    lab.store.fail(|call| match call {
        Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(secs(90)).await;
    let operator = Operator::new(&layer);
    let refused = operator.retry(&operator.find("", "k").await.unwrap()).await;
    assert!(matches!(refused, Err(OperatorError::InHand)), "{refused:?}");
    lab.store.heal();
    tokio::time::sleep(secs(60)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_in_doubt_is_decided_by_its_name() {
    let lab = Lab::new();
    let app = serve(&lab.layer().resumable(), |request| {
        let op = operation(&request);
        async move {
            let charge = op.once("charge", || async { panics() });
            Ok(charge.await.map_or_else(|_| reply(503, "later"), |charge| reply(201, charge)))
        }
    });
    send(&app, post("k")).await;
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    let operator = Operator::new(lab.store.clone());
    let shown = operator.find("", "k").await.unwrap();
    assert_eq!(shown.in_doubt().collect::<Vec<_>>(), ["charge"]);
    assert!(matches!(shown.record.hold(), Hold::Parked { .. }));
    let unknown = operator.resolve(&shown, Resolution::DidNotHappen { step: "refund".into() }).await;
    assert!(matches!(unknown, Err(OperatorError::NotInDoubt)), "{unknown:?}");
    let done = Resolution::StepDone { step: "charge".into(), value: Bytes::from_static(b"\"ch_1\"") };
    operator.resolve(&shown, done).await.unwrap();
    send(&app, post("k")).await.assert_first(201, "ch_1");
}

#[tokio::test(start_paused = true)]
async fn what_is_complete_can_be_forgotten_and_nothing_else() {
    let (lab, _) = Lab::manual();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("k")).await.assert_first(201, "charge 1");
    let operator = Operator::new(lab.store.clone());
    let shown = operator.find("", "k").await.unwrap();
    assert!(matches!(operator.retry(&shown).await, Err(OperatorError::Complete)));
    operator.forget(&shown).await.unwrap();
    assert!(matches!(operator.forget(&shown).await, Err(OperatorError::Overtaken)));
    assert!(matches!(operator.find("", "k").await, Err(OperatorError::Absent)));
    send(&app, post("k")).await.assert_first(201, "charge 2");

    let (lab, _) = Lab::manual();
    let (app, _) = abandoned(&lab).await;
    let operator = Operator::new(lab.store.clone());
    let refused = operator.forget(&operator.find("", "k").await.unwrap()).await;
    assert!(matches!(refused, Err(OperatorError::Unfinished)), "{refused:?}");
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
}

/// The version that was shown is the one that is removed.
#[tokio::test(start_paused = true)]
async fn what_runs_anew_is_not_forgotten_for_what_it_was() {
    let (lab, clock) = Lab::manual();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("k")).await.assert_first(201, "charge 1");
    let operator = Operator::new(lab.store.clone());
    let shown = operator.find("", "k").await.unwrap();
    clock.advance(secs(24 * 60 * 60));
    assert!(matches!(operator.find("", "k").await, Err(OperatorError::Absent)), "its retention is over");
    send(&app, post("k")).await.assert_first(201, "charge 2");
    assert!(matches!(operator.forget(&shown).await, Err(OperatorError::Overtaken)));
    send(&app, post("k")).await.assert_replay(201, "charge 2");
}

#[tokio::test(start_paused = true)]
async fn a_callback_is_made_before_its_operation_is_forgotten() {
    let lab = Lab::new();
    let calls = Count::default();
    let counted = calls.clone();
    let layer = lab.layer().callback(Callback::new(move |_| {
        counted.up();
        std::future::ready(Ok::<_, Failure>(()))
    }));
    let (app, _) = numbered(&layer);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    let operator = Operator::new(&layer);
    let refused = operator.forget(&operator.find("", "k").await.unwrap()).await;
    assert!(matches!(refused, Err(OperatorError::CallbackPending)), "{refused:?}");
    support::lab::completer(&layer, &app).run_once().await.unwrap();
    assert_eq!(calls.get(), 1);
    operator.forget(&operator.find("", "k").await.unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_scan_goes_on_page_by_page() {
    let lab = Lab::new();
    let app = serve(&lab.layer().resumable(), |_| async { Ok(reply(503, "later")) });
    let mut keys: Vec<Key> = Vec::new();
    for n in 0..5 {
        send(&app, post(&format!("k{n}"))).await.assert_first(503, "later");
        keys.push(stored_key(&format!("k{n}")));
    }
    let operator = Operator::new(lab.store.clone());
    let (mut query, mut found) = (Query::new(Filter::Unfinished, 2), Vec::new());
    loop {
        let page = operator.scan(&query).await.unwrap();
        found.extend(page.found.iter().map(|found| found.key));
        let Some(next) = page.next else { break };
        query = query.after(next);
    }
    keys.sort();
    found.sort();
    assert_eq!(found, keys);
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_done_comes_with_advice() {
    let lab = Lab::new();
    lab.store.fail(|_| Fault::Before(StoreErrorKind::Unavailable));
    let operator = Operator::new(lab.store.clone());
    let error = operator.find("", "k").await.unwrap_err();
    assert!(matches!(error, OperatorError::Store(_)), "{error:?}");
    let all = [
        error,
        operator.find("", "").await.unwrap_err(),
        OperatorError::InvalidHash,
        OperatorError::InvalidReference,
        OperatorError::Absent,
        OperatorError::Busy(secs(3)),
        OperatorError::InHand,
        OperatorError::Complete,
        OperatorError::Unfinished,
        OperatorError::NotInDoubt,
        OperatorError::CallbackPending,
        OperatorError::NoCallback,
        OperatorError::NotIndexed(StoreError::new(StoreErrorKind::NotIndexed, "set the option")),
        OperatorError::Overtaken,
    ];
    for error in all {
        // What is wrong; what to do about it.
        assert!(error.to_string().contains("; "), "{error}");
    }
}
