//! The keys that go downstream with steps: for how long they may be sent again,
//! and how they are written.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use tower_idempotency::core::{Hold, KeyForm};
use tower_idempotency::{NotUndone, Reconciled, StepError, StepFuture, StepKey};

use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{App, Lab, operation, post, reply, send, serve, stored_key};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// What a receiver got.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<String>>>);

impl Receiver {
    fn charge(&self, key: &StepKey) -> Result<u8, Failure> {
        self.0.lock().unwrap().push(key.to_string());
        Err(Failure("timed out"))
    }

    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn said(step: Result<u8, StepError<Failure>>) -> Response<TestBody> {
    reply(503, step.map_or_else(|error| error.to_string(), |value| value.to_string()))
}

/// A service that charges, and gets no answer.
fn charging<F>(lab: &Lab, receiver: &Receiver, more: F) -> App
where
    F: for<'a> Fn(StepFuture<'a, u8, Failure>) -> StepFuture<'a, u8, Failure> + Clone + Send + Sync + 'static,
{
    let receiver = receiver.clone();
    serve(&lab.layer().resumable(), move |request| {
        let (op, receiver, more) = (operation(&request), receiver.clone(), more.clone());
        async move { Ok(said(more(op.pay("charge", |key| async move { receiver.charge(&key) })).await)) }
    })
}

/// Sends once, waits on the store's clock, and sends again; how often the
/// receiver heard of it.
async fn heard_after<F>(wait: Duration, more: F) -> usize
where
    F: for<'a> Fn(StepFuture<'a, u8, Failure>) -> StepFuture<'a, u8, Failure> + Clone + Send + Sync + 'static,
{
    let ((lab, clock), receiver) = (Lab::manual(), Receiver::default());
    let app = charging(&lab, &receiver, more);
    send(&app, post("k")).await.assert_first(503, "timed out");
    clock.advance(wait);
    let again = send(&app, post("k")).await;
    let keys = receiver.keys();
    if keys.len() == 1 {
        again.assert_problem("outcome-unknown", 500);
        let record = lab.store.peek(&stored_key("k")).await.unwrap();
        let Hold::Parked { why } = record.hold() else { panic!("not parked: {:?}", record.hold()) };
        assert!(why.contains("\"charge\"") && why.contains("forgotten"), "{why}");
    } else {
        again.assert_first(503, "timed out");
        assert_eq!(keys[0], keys[1], "the same key");
    }
    keys.len()
}

/// To the very millisecond: only the store's clock moves.
#[tokio::test(start_paused = true)]
async fn a_key_is_not_sent_again_once_its_receiver_may_have_forgotten_it() {
    assert_eq!(heard_after(22 * HOUR, |step| step).await, 2);
    assert_eq!(heard_after(23 * HOUR, |step| step).await, 1);
    assert_eq!(heard_after(72 * HOUR, |step| step).await, 1);
    // The call itself may take as long as its time-out.
    assert_eq!(heard_after(22 * HOUR, |step| step.timeout(HOUR)).await, 1);
    assert_eq!(heard_after(21 * HOUR, |step| step.timeout(HOUR)).await, 2);
    assert_eq!(heard_after(Duration::ZERO, |step| step.timeout(Duration::MAX)).await, 1);
    // As long as this receiver says.
    assert_eq!(heard_after(6 * 24 * HOUR, |step| step.key_lifetime(7 * 24 * HOUR)).await, 2);
    assert_eq!(heard_after(7 * 24 * HOUR, |step| step.key_lifetime(7 * 24 * HOUR)).await, 1);
    assert_eq!(heard_after(72 * HOUR, |step| step.key_lifetime(Duration::MAX)).await, 2);
    assert_eq!(heard_after(Duration::ZERO, |step| step.key_lifetime(Duration::ZERO)).await, 1);
}

/// Counted from when it was begun first, through attempts that fail in turn.
#[tokio::test(start_paused = true)]
async fn each_try_does_not_give_the_key_another_day() {
    let ((lab, clock), receiver) = (Lab::manual(), Receiver::default());
    let app = charging(&lab, &receiver, |step| step);
    for _ in 0..23 {
        send(&app, post("k")).await.assert_first(503, "timed out");
        clock.advance(HOUR);
    }
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(receiver.keys().len(), 23);
}

/// Very many attempts: the history forgets those in the middle, and the step's
/// age is then too long rather than too short.
#[tokio::test(start_paused = true)]
async fn a_step_is_never_younger_than_it_is() {
    let ((lab, clock), receiver) = (Lab::manual(), Receiver::default());
    let late = receiver.clone();
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, receiver) = (operation(&request), late.clone());
        async move {
            if op.attempt() < 30 {
                return Ok(reply(503, "later"));
            }
            Ok(said(op.pay("charge", |key| async move { receiver.charge(&key) }).await))
        }
    });
    for _ in 0..29 {
        send(&app, post("k")).await.assert_first(503, "later");
    }
    for _ in 0..40 {
        send(&app, post("k")).await.assert_first(503, "timed out");
    }
    clock.advance(23 * HOUR);
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
}

/// The time of this machine is not the store's, and says nothing.
#[tokio::test(start_paused = true)]
async fn the_stores_clock_counts() {
    let ((lab, _clock), receiver) = (Lab::manual(), Receiver::default());
    let app = charging(&lab, &receiver, |step| step);
    send(&app, post("k")).await.assert_first(503, "timed out");
    tokio::time::advance(48 * HOUR).await;
    send(&app, post("k")).await.assert_first(503, "timed out");
    assert_eq!(receiver.keys().len(), 2);
}

/// One attempt that tries for longer than a day.
#[tokio::test(start_paused = true)]
async fn tries_within_one_attempt_are_counted_too() {
    let ((lab, _clock), receiver) = (Lab::manual(), Receiver::default());
    let told = receiver.clone();
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, receiver) = (operation(&request), told.clone());
        async move {
            let charge = || {
                op.pay("charge", |key| {
                    let receiver = receiver.clone();
                    async move { receiver.charge(&key) }
                })
            };
            charge().await.unwrap_err();
            tokio::time::advance(22 * HOUR).await;
            charge().await.unwrap_err();
            tokio::time::advance(HOUR).await;
            Ok(said(charge().await))
        }
    });
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(receiver.keys().len(), 2);
}

/// What a reconciler finds out counts, as under `once`.
#[tokio::test(start_paused = true)]
async fn a_forgotten_key_is_reconciled_first() {
    for (found, heard) in [(Reconciled::Happened(7), 1), (Reconciled::DidNotHappen, 2)] {
        let ((lab, clock), receiver) = (Lab::manual(), Receiver::default());
        let app = charging(&lab, &receiver, move |step| step.reconcile(move || async move { found }));
        send(&app, post("k")).await.assert_first(503, "timed out");
        clock.advance(48 * HOUR);
        let expected = if heard == 1 { "7" } else { "timed out" };
        send(&app, post("k")).await.assert_first(503, expected);
        assert_eq!(receiver.keys().len(), heard);
    }
}

/// A service that charges and then fails for good; the refund gets no answer.
fn refunding(lab: &Lab, refunds: &Receiver) -> App {
    let refunds = refunds.clone();
    serve(&lab.layer().resumable(), move |request| {
        let (op, refunds) = (operation(&request), refunds.clone());
        async move {
            let charge = op.pay("charge", |_| async { Ok::<_, Failure>(1) }).uuid_key();
            let refund = move |_, key: StepKey| async move {
                refunds.charge(&key).map_err(|_| NotUndone::Later("timed out".into()))?;
                Ok(())
            };
            charge.undo_with(refund).await.unwrap();
            Ok(reply(409, "sold out"))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_key_that_undoes_is_not_sent_again_for_longer_either() {
    let ((lab, clock), refunds) = (Lab::manual(), Receiver::default());
    let app = refunding(&lab, &refunds);
    for _ in 0..2 {
        send(&app, post("k")).await.assert_problem("interrupted", 500);
        clock.advance(22 * HOUR);
    }
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    let keys = refunds.keys();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    assert_eq!(keys[0].len(), 36, "in the form of the step's key");
}

/// What was begun under one form of its key keeps it, whatever a later release of
/// the handler says.
#[tokio::test]
async fn a_begun_step_keeps_the_form_of_its_key() {
    for uuid_first in [true, false] {
        let (lab, receiver) = (Lab::new(), Receiver::default());
        let told = receiver.clone();
        let app = serve(&lab.layer().resumable(), move |request| {
            let (op, receiver) = (operation(&request), told.clone());
            async move {
                let uuid = (op.attempt() == 1) == uuid_first;
                let step = op.pay("charge", |key| async move { receiver.charge(&key) });
                Ok(said(if uuid { step.uuid_key() } else { step }.await))
            }
        });
        for _ in 0..3 {
            send(&app, post("k")).await.assert_first(503, "timed out");
        }
        let keys = receiver.keys();
        let plain = StepKey::new(&stored_key("k"), "charge");
        let expected = if uuid_first { plain.to_uuid() } else { plain };
        assert_eq!(keys, vec![expected.to_string(); 3]);
        let form = if uuid_first { KeyForm::Uuid } else { KeyForm::Hex };
        let record = lab.store.peek(&stored_key("k")).await.unwrap();
        assert_eq!(record.step("charge").unwrap().key_form(), form);
    }
}

/// A harmless error takes the intent back, and with it the form and the time.
#[tokio::test(start_paused = true)]
async fn a_cleared_intent_is_begun_anew() {
    let ((lab, clock), receiver) = (Lab::manual(), Receiver::default());
    let told = receiver.clone();
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, receiver) = (operation(&request), told.clone());
        async move {
            let step = op.pay("charge", |key| async move { receiver.charge(&key) });
            let step = if op.attempt() == 1 { step.harmless_when(|_| true) } else { step.uuid_key() };
            Ok(said(step.await))
        }
    });
    send(&app, post("k")).await.assert_first(503, "timed out");
    clock.advance(48 * HOUR);
    send(&app, post("k")).await.assert_first(503, "timed out");
    assert_eq!(receiver.keys().iter().map(String::len).collect::<Vec<_>>(), [40, 36]);
}
