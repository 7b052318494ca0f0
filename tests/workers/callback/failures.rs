//! What becomes of a callback whose hook fails.

use tower_idempotency::{Callback, EventKind, Report};

use super::{BACKOFF, Receiver, once, over, stored};
use crate::support::bodies::Failure;
use crate::support::lab::{Lab, post, secs, send};
use crate::support::{Count, settle};

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_is_called_again_with_the_same_id_after_a_pause() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::failing(2);
    let (app, completer) = over(&lab, receiver.callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    for call in 1..=2 {
        assert_eq!(once(&completer).await.callbacks_failed, 1);
        let record = stored(&lab).await;
        let pause = record.due().since(record.written_at());
        assert!(pause <= BACKOFF.longest(call), "{pause:?} after call {call}");
        if !pause.is_zero() {
            assert_eq!(once(&completer).await, Report::default(), "not before its time");
        }
        clock.advance(secs(40));
    }
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
    let ids = receiver.ids();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(receiver.delivered().iter().map(|ended| ended.call).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((lab.events.count("CallbackFailed"), lab.events.count("CallbackDelivered")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_or_hangs_has_failed() {
    let (lab, clock) = Lab::manual();
    let calls = Count::default();
    let counted = calls.clone();
    let callback = Callback::new(move |_| {
        let call = counted.up();
        async move {
            match call {
                1 => panic!("a planned panic"),
                2 => std::future::pending::<Result<(), Failure>>().await,
                _ => Ok(()),
            }
        }
    });
    let (app, completer) = over(&lab, callback.backoff(BACKOFF), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    for _ in 0..2 {
        assert_eq!(once(&completer).await.callbacks_failed, 1);
        clock.advance(secs(40));
    }
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_always_fails_is_given_up_and_a_human_is_called() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::failing(99);
    let (app, completer) = over(&lab, receiver.callback().max_tries(3), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    for _ in 0..5 {
        once(&completer).await;
        clock.advance(secs(40));
    }
    assert_eq!(receiver.delivered().len(), 3);
    let given_up = |kind: &EventKind| match kind {
        EventKind::CallbackFailed { call: 3, error, given_up: true } => error == "planned",
        _ => false,
    };
    let events = lab.events.all();
    let last: Vec<_> = events.iter().map(|event| &event.kind).filter(|kind| given_up(kind)).collect();
    assert!(last.len() == 1 && last[0].needs_attention(), "{last:?}");
    // Its answer is forgotten in its time, as any other.
    clock.advance(secs(25 * 3600));
    assert!(stored(&lab).await.is_expired(tower_idempotency::clock::Clock::now(&clock)));
}

/// A hook that takes its process down does not do so for ever.
#[tokio::test(start_paused = true)]
async fn calls_of_which_nobody_heard_count() {
    let (lab, clock) = Lab::manual();
    let calls = Count::default();
    for _ in 0..4 {
        let calls = calls.clone();
        let deadly = Callback::new(move |_| {
            calls.up();
            std::future::pending::<Result<(), Failure>>()
        });
        let (app, completer) = over(&lab, deadly.max_tries(2), 201);
        send(&app, post("k")).await;
        let crashing = tokio::spawn(async move { once(&completer).await });
        settle().await;
        crashing.abort();
        let _ = crashing.await;
        clock.advance(secs(60));
    }
    assert_eq!(calls.get(), 2);
    assert_eq!(lab.events.count("CallbackFailed"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_may_be_any_time() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback().deadline(std::time::Duration::MAX), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
}
