//! Stores that fail, before, after, late and for ever. (Peer bugs 1, 7, 8 and
//! 9, faults D1 to D10.)

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower_idempotency::core::Status;
use tower_idempotency::store::{MemoryStore, StoreErrorKind};

use crate::support::bodies::Failure;
use crate::support::lab::{Lab, numbered, post, reply, secs, send, send_now, serve, spawn};
use crate::support::store::{Call, Fault, Faulty};
use crate::support::{Count, settle};

const CLAIM: Call = Call::Swap(Status::Pending);
const COMPLETE: Call = Call::Swap(Status::Complete);

/// Fails every call of this kind.
fn failing(kind: Call, fault: Fault) -> impl FnMut(Call) -> Fault + Send + 'static {
    move |call| if call == kind { fault } else { Fault::None }
}

/// Peer bug 7: fail closed.
#[tokio::test(start_paused = true)]
async fn when_the_store_is_down_nothing_runs_unprotected() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    lab.store.down();
    for _ in 0..3 {
        send(&app, post("k")).await.assert_problem("store-unavailable", 503);
    }
    assert_eq!(runs.get(), 0);
    // Other requests do not need it.
    send(&app, crate::support::lab::unkeyed("POST")).await.assert_first(201, "charge 1");
    lab.store.heal();
    send(&app, post("k")).await.assert_first(201, "charge 2");
}

/// Peer bug 8: the claim recognises itself.
#[tokio::test]
async fn a_claim_whose_acknowledgement_was_lost_runs_once() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    lab.store.fail_once(CLAIM, Fault::After);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn a_claim_that_failed_once_is_tried_again() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    lab.store.fail_once(CLAIM, Fault::Before(StoreErrorKind::Unavailable));
    send(&app, post("k")).await.assert_first(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

/// Faults D4: we gave up, and then it took.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_applied_after_we_gave_up_is_withdrawn() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    let mut first = true;
    lab.store.fail(move |call| match call {
        CLAIM if std::mem::take(&mut first) => Fault::Late(secs(3)),
        _ if first => Fault::None,
        _ => Fault::Before(StoreErrorKind::Unavailable),
    });
    send(&app, post("k")).await.assert_problem("store-unavailable", 503);
    lab.store.heal();
    tokio::time::sleep(secs(20)).await;
    assert_eq!((runs.get(), lab.store.len()), (0, 0));
    assert_eq!(lab.events.count("Withdrawn"), 1);
    send(&app, post("k")).await.assert_first(201, "charge 1");
}

/// The claim was there all the time, and only the answers were lost.
#[tokio::test(start_paused = true)]
async fn a_claim_that_took_while_the_store_looked_dead_is_withdrawn() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    lab.store.fail(|call| if call == CLAIM { Fault::After } else { Fault::Before(StoreErrorKind::Unavailable) });
    send(&app, post("k")).await.assert_problem("store-unavailable", 503);
    assert_eq!((runs.get(), lab.store.len()), (0, 1));
    lab.store.heal();
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    tokio::time::sleep(secs(2)).await;
    send(&app, post("k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(secs(120)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

/// Peer bugs 1 and 9, and faults D6: the effect is done, the record is not saved.
#[tokio::test(start_paused = true)]
async fn an_answer_that_can_not_be_stored_is_given_and_stored_later() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    lab.store.fail(failing(COMPLETE, Fault::Before(StoreErrorKind::Unavailable)));
    send(&app, post("k")).await.assert_first(201, "charge 1");
    assert_eq!((lab.events.count("Unsaved"), lab.events.count("SavedLate")), (1, 0));
    tokio::time::sleep(secs(10)).await;
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    lab.store.heal();
    tokio::time::sleep(secs(6)).await;
    assert_eq!(lab.events.count("SavedLate"), 1);
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

/// The lease is over long before the store is back, and still nobody runs it.
#[tokio::test(start_paused = true)]
async fn at_most_once_a_late_save_takes_even_after_the_lease() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer_with(|engine| engine.lease(secs(2))));
    lab.store.fail(failing(COMPLETE, Fault::Before(StoreErrorKind::Unavailable)));
    send(&app, post("k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(secs(60)).await;
    send(&app, post("k")).await.assert_problem("in-progress", 409);
    let elsewhere = numbered(&Lab::over(lab.store.clone()).layer()).0;
    send(&elsewhere, post("k")).await.assert_problem("outcome-unknown", 500);
    lab.store.heal();
    tokio::time::sleep(secs(6)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_never_stored_is_reported_and_never_run_again() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer_with(|engine| engine.max_execution(secs(120))));
    lab.store.fail(failing(COMPLETE, Fault::Before(StoreErrorKind::Unavailable)));
    send(&app, post("k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(secs(130)).await;
    assert_eq!((lab.events.count("SavedLate"), lab.events.count("SaveFailed")), (0, 1));
    lab.store.heal();
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    let calls = lab.store.calls();
    tokio::time::sleep(secs(3600)).await;
    assert_eq!((runs.get(), lab.store.calls()), (1, calls), "it gave up for good");
}

/// Someone else took over while the store was down: the late save is refused.
#[tokio::test(start_paused = true)]
async fn a_late_save_does_not_overwrite_the_answer_of_an_heir() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer_with(|engine| engine.lease(secs(2))).resumable());
    lab.store.fail(failing(COMPLETE, Fault::Before(StoreErrorKind::Unavailable)));
    send(&app, post("k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(secs(30)).await;
    lab.store.heal();
    // Another process, before the background save wakes up: its lease is over.
    let (heir, its_runs) = numbered(&Lab::over(lab.store.clone()).layer().resumable());
    its_runs.up();
    send(&heir, post("k")).await.assert_first(201, "charge 2");
    tokio::time::sleep(secs(60)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 2");
    assert_eq!((runs.get(), lab.events.count("SaveFailed")), (1, 1));
}

#[tokio::test]
async fn when_every_acknowledgement_is_lost_nothing_changes_for_the_client() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    lab.store.fail(|call| if call == Call::Load { Fault::None } else { Fault::After });
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!((runs.get(), lab.events.count("Unsaved")), (1, 0));
}

#[tokio::test]
async fn a_withdrawal_whose_acknowledgement_was_lost_is_a_withdrawal() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(429, "later")) });
    lab.store.fail_once(Call::Remove, Fault::After);
    send(&app, post("k")).await.assert_first(429, "later");
    assert_eq!((lab.store.len(), lab.events.count("Withdrawn")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_at_the_claim_is_a_store_that_is_down() {
    for fault in [Fault::Hang, Fault::HangAfter] {
        let lab = Lab::new();
        let (app, runs) = numbered(&lab.layer());
        lab.store.fail(move |_| fault);
        let started = Instant::now();
        send(&app, post("k")).await.assert_problem("store-unavailable", 503);
        assert!(started.elapsed() <= secs(16), "{:?}", started.elapsed());
        assert_eq!(runs.get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_at_the_end_delays_the_true_answer_but_not_for_ever() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    lab.store.fail(failing(COMPLETE, Fault::Hang));
    let started = Instant::now();
    send(&app, post("k")).await.assert_first(201, "charge 1");
    assert!(started.elapsed() <= secs(16), "{:?}", started.elapsed());
    lab.store.heal();
    tokio::time::sleep(secs(20)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

/// A renewal that is stuck must not keep the answer.
#[tokio::test(start_paused = true)]
async fn a_store_that_went_down_at_a_renewal_does_not_hold_back_the_answer() {
    let lab = Lab::new();
    let gate = Arc::new(Semaphore::new(0));
    let wait = gate.clone();
    let app = serve(&lab.layer_with(|engine| engine.lease(secs(60))), move |_| {
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            Ok(reply(201, "charge"))
        }
    });
    let first = spawn(&app, post("k"));
    settle().await;
    lab.store.down();
    // The first renewal is at a third of the lease.
    tokio::time::sleep(secs(21)).await;
    let started = Instant::now();
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "charge");
    assert!(started.elapsed() <= secs(16), "the answer came after {:?}", started.elapsed());
    lab.store.heal();
    tokio::time::sleep(secs(20)).await;
    send(&app, post("k")).await.assert_replay(201, "charge");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_is_not_run() {
    for (kind, name, status) in [
        (StoreErrorKind::Corrupt, "record-corrupt", 500),
        (StoreErrorKind::NewerFormat, "record-newer", 409),
        (StoreErrorKind::Full, "store-unavailable", 503),
    ] {
        let lab = Lab::new();
        let (app, runs) = numbered(&lab.layer());
        lab.store.fail(move |_| Fault::Before(kind));
        for _ in 0..2 {
            send(&app, post("k")).await.assert_problem(name, status);
        }
        assert_eq!(runs.get(), 0);
        assert!(lab.events.count("StoreFailed") >= 1);
        // The background does not go on about it for ever.
        tokio::time::sleep(secs(600)).await;
        let calls = lab.store.calls();
        tokio::time::sleep(secs(3600)).await;
        assert_eq!(lab.store.calls(), calls);
    }
}

/// Peer bugs 23 and 60: full of unfinished work, it refuses; it never evicts it.
#[tokio::test]
async fn a_full_store_refuses_new_work_and_keeps_what_runs() {
    let lab = Lab::over(Faulty::over(MemoryStore::new().max_entries(2)));
    let gate = Arc::new(Semaphore::new(0));
    let wait = gate.clone();
    let app = serve(&lab.layer(), move |_| {
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            Ok(reply(201, "charge"))
        }
    });
    let running = [spawn(&app, post("k1")), spawn(&app, post("k2"))];
    settle().await;
    send(&app, post("k3")).await.assert_problem("store-unavailable", 503);
    send_now(&app, post("k1")).await.assert_problem("in-progress", 409);
    gate.add_permits(3);
    for first in running {
        first.await.unwrap().unwrap().assert_first(201, "charge");
    }
    send(&app, post("k3")).await.assert_first(201, "charge");
    assert_eq!(lab.store.len(), 2);
}

/// The end of an attempt without an answer is saved as stubbornly as an answer.
#[tokio::test(start_paused = true)]
async fn a_release_that_can_not_be_stored_is_stored_later() {
    let lab = Lab::new();
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer().resumable(), move |_| {
        let number = count.up();
        async move { Ok(if number == 1 { reply(503, "no") } else { reply(200, "yes") }) }
    });
    let mut swaps = 0;
    lab.store.fail(move |call| match call {
        CLAIM => {
            swaps += 1;
            if (2..8).contains(&swaps) { Fault::Before(StoreErrorKind::Unavailable) } else { Fault::None }
        }
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_first(503, "no");
    tokio::time::sleep(secs(10)).await;
    assert_eq!(lab.events.count("SavedLate"), 1);
    send(&app, post("k")).await.assert_first(200, "yes");
}

/// A replay needs no room, so it drops nothing: not even another answer.
#[tokio::test]
async fn a_full_store_still_replays_and_forgets_nothing_by_it() {
    let lab = Lab::over(Faulty::over(MemoryStore::new().max_entries(3)));
    let (app, runs) = numbered(&lab.layer());
    for (key, body) in [("k1", "charge 1"), ("k2", "charge 2"), ("k3", "charge 3")] {
        send(&app, post(key)).await.assert_first(201, body);
    }
    for _ in 0..3 {
        for (key, body) in [("k1", "charge 1"), ("k2", "charge 2"), ("k3", "charge 3")] {
            send(&app, post(key)).await.assert_replay(201, body);
        }
    }
    assert_eq!(runs.get(), 3);
}

/// "As long as it takes" is a length of time, and no overflow.
#[tokio::test(start_paused = true)]
async fn times_without_end_are_times() {
    use std::time::Duration;
    let lab = Lab::new();
    let layer =
        lab.layer_with(|engine| engine.lease(Duration::MAX).max_execution(Duration::MAX).retention(Duration::MAX));
    let app = serve(&layer, |request| async move {
        let op = crate::support::lab::operation(&request);
        op.pay("charge", |_| async { Ok::<_, Failure>(()) }).await.unwrap();
        Ok(reply(201, "paid"))
    });
    lab.store.fail(failing(COMPLETE, Fault::Before(StoreErrorKind::Unavailable)));
    send(&app, post("k")).await.assert_first(201, "paid");
    tokio::time::sleep(secs(3600)).await;
    lab.store.heal();
    tokio::time::sleep(secs(6)).await;
    assert_eq!(lab.events.count("SavedLate"), 1);
    tokio::time::sleep(secs(1_000_000)).await;
    send(&app, post("k")).await.assert_replay(201, "paid");
}
