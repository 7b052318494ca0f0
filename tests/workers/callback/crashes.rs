//! An end is delivered at least once, whatever dies or is lost.

use std::sync::{Arc, Mutex};

use tower_idempotency::core::{Acknowledge, Status};
use tower_idempotency::spi::Ledger;
use tower_idempotency::{Callback, Ended, Report};

use super::{Receiver, once, over};
use crate::support::bodies::Failure;
use crate::support::lab::{Lab, post, secs, send};
use crate::support::store::{Call, Fault};
use crate::support::{Count, settle};

/// The process died after the answer was stored: another one tells.
#[tokio::test(start_paused = true)]
async fn a_crash_before_the_call_loses_nothing() {
    let (lab, _) = Lab::manual();
    let (app, _) = over(&lab, Receiver::default().callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    let (other, receiver) = (Lab::over(lab.store.clone()), Receiver::default());
    let (_, elsewhere) = over(&other, receiver.callback(), 201);
    assert_eq!(once(&elsewhere).await.callbacks_delivered, 1);
    assert_eq!(receiver.delivered().len(), 1);
}

/// The process died in the call: another one tells, with the same id, once it is
/// sure that the first one does not.
#[tokio::test(start_paused = true)]
async fn a_crash_in_the_call_repeats_it_under_the_same_id() {
    let (lab, clock) = Lab::manual();
    let ids = Arc::new(Mutex::new(Vec::new()));
    let seen = ids.clone();
    let hanging = Callback::new(move |ended: Ended| {
        seen.lock().unwrap().push(ended.id);
        std::future::pending::<Result<(), Failure>>()
    });
    let (app, completer) = over(&lab, hanging, 201);
    send(&app, post("k")).await.assert_first(201, "done");
    let crashing = tokio::spawn(async move { once(&completer).await });
    settle().await;
    crashing.abort();
    assert!(crashing.await.unwrap_err().is_cancelled());
    let (other, receiver) = (Lab::over(lab.store.clone()), Receiver::default());
    let (_, elsewhere) = over(&other, receiver.callback(), 201);
    assert_eq!(once(&elsewhere).await, Report::default(), "it may still be called");
    clock.advance(secs(60));
    assert_eq!(once(&elsewhere).await.callbacks_delivered, 1);
    assert_eq!(receiver.delivered()[0].call, 2);
    assert_eq!(receiver.ids(), *ids.lock().unwrap());
}

/// The call was made, and that could not be stored.
#[tokio::test(start_paused = true)]
async fn a_call_whose_end_is_not_stored_is_repeated() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    let swaps = Count::default();
    lab.store.fail(move |call| match call {
        Call::Swap(_) if swaps.up() > 1 => Fault::Before(tower_idempotency::store::StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    assert_eq!(once(&completer).await.failed, 1);
    assert_eq!(lab.events.count("CallbackDelivered"), 1, "who listens hears of it all the same");
    lab.store.heal();
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
    let ids = receiver.ids();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

/// A lost reply to the write that ends it leaves its callback owed all the same.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_does_not_lose_the_callback() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::After);
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
}

/// The client thanks for its answer just then.
#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_during_the_call_is_told_once() {
    let (lab, clock) = Lab::manual();
    let (calls, store) = (Count::default(), lab.store.clone());
    let counted = calls.clone();
    let callback = Callback::new(move |ended: Ended| {
        counted.up();
        let ledger = Ledger::new(store.clone());
        async move { ledger.apply(&ended.key, None, Acknowledge { grace: secs(600) }).await.map(|_| ()) }
    });
    let (app, completer) = over(&lab, callback, 201);
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
    clock.advance(secs(100));
    assert_eq!((once(&completer).await, calls.get()), (Report::default(), 1));
    assert_eq!(lab.events.count("CallbackDelivered"), 1);
}

/// The answer was stored, its holder did not hear of it, and its callback went on with the
/// record before anyone looked.
#[tokio::test(start_paused = true)]
async fn an_answer_that_was_told_of_is_known_to_be_stored() {
    let lab = Lab::new();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    let storing = Count::default();
    lab.store.fail(move |call| match call {
        Call::Swap(Status::Pending) => Fault::None,
        Call::Swap(Status::Complete) if storing.up() == 1 => Fault::After,
        _ => Fault::Before(tower_idempotency::store::StoreErrorKind::Unavailable),
    });
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(lab.events.count("Unsaved"), 1);
    // It tried once more, and rests.
    settle().await;
    lab.store.heal();
    assert_eq!((once(&completer).await.callbacks_delivered, lab.events.count("SavedLate")), (1, 0));
    tokio::time::sleep(secs(10)).await;
    assert_eq!((lab.events.count("SavedLate"), lab.events.count("SaveFailed")), (1, 0));
}
