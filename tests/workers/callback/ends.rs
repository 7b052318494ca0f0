//! Which ends are delivered, and what is delivered of them.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use tokio::sync::oneshot;
use tower_idempotency::core::{
    Acknowledge, Claim, Fingerprint, HistoryEvent, Hold, IdempotencyKey, Key, Labels, Mode, Record, Resolution,
};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::KeptRecord;
use tower_idempotency::{Background, Operation, Reconciled, Report};

use super::{BACKOFF, Receiver, decide, once, over, stored};
use crate::support;
use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{Lab, completer, operation, post, reply, secs, send, serve, stored_key, with};
use crate::support::settle;

#[tokio::test(start_paused = true)]
async fn a_completion_is_told_with_its_answer() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    assert!(receiver.delivered().is_empty(), "not on the request's path");
    let report = once(&completer).await;
    assert_eq!((report.found, report.callbacks_delivered), (1, 1), "{report:?}");
    let delivered = receiver.delivered();
    let [ended] = &delivered[..] else { panic!("delivered {} times", delivered.len()) };
    assert_eq!((ended.key, ended.call, ended.id.len()), (stored_key("k"), 1, 40));
    assert_eq!(ended.response().unwrap().status(), 201);
    assert_eq!(ended.response().unwrap().body().unwrap(), "done");
    assert_eq!(ended.parked(), None);
    assert_eq!(once(&completer).await, Report::default(), "once is enough");
    assert_eq!(lab.events.count("CallbackDelivered"), 1);
    send(&app, post("k")).await.assert_replay(201, "done");
}

/// Of a parked operation: why, and which step is in doubt.
#[tokio::test(start_paused = true)]
async fn a_parked_operation_is_told_with_its_reason_and_its_step() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::default();
    let layer = lab.layer_with(|engine| engine.backoff(BACKOFF)).resumable().callback(receiver.callback());
    let app = serve(&layer, |request| {
        let op: Operation = operation(&request);
        async move {
            let mail = op.once("mail", std::future::pending::<Result<(), Failure>>).await;
            Ok(reply(503, format!("{mail:?}")))
        }
    });
    let completer = completer(&layer, &app).deadline(secs(1));
    let claimed = tokio::time::timeout(secs(1), send(&app, post("k"))).await;
    assert!(claimed.is_err(), "it hangs");
    // The holder that began the step is gone, and so is its lease.
    clock.advance(secs(3600));
    let report = once(&completer).await;
    assert_eq!((report.parked, report.callbacks_delivered), (1, 1), "{report:?}");
    let delivered = receiver.delivered();
    let [ended] = &delivered[..] else { panic!("delivered {} times", delivered.len()) };
    assert!(ended.response().is_none());
    assert!(ended.parked().unwrap().contains("mail"), "{:?}", ended.parked());
    assert_eq!(ended.in_doubt().collect::<Vec<_>>(), ["mail"]);
    assert_eq!(once(&completer).await, Report::default());
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_told() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 503);
    let completer = completer.max_tries(1);
    send(&app, post("k")).await.assert_first(503, "done");
    clock.advance(secs(10));
    let report = once(&completer).await;
    assert_eq!((report.found, report.parked, report.callbacks_delivered), (1, 1, 1), "{report:?}");
    assert_eq!(receiver.delivered()[0].parked(), Some("it was tried 1 times"));
}

/// At most once, by what its reconciler says.
#[tokio::test(start_paused = true)]
async fn what_a_reconciler_found_out_is_told() {
    for happened in [true, false] {
        let (lab, clock) = Lab::manual();
        let receiver = Receiver::default();
        let layer = lab.layer().callback(receiver.callback());
        let app = serve(&layer, |_| std::future::pending::<Result<Response<TestBody>, Failure>>());
        let completer = completer(&layer, &app).reconcile(move |_| async move {
            if happened { Reconciled::Happened(Response::new(Bytes::from("found"))) } else { Reconciled::Unknown }
        });
        let client = support::lab::spawn(&app, post("k"));
        settle().await;
        clock.advance(secs(60));
        let report = once(&completer).await;
        assert_eq!((report.reconciled + report.parked, report.callbacks_delivered), (1, 1), "{report:?}");
        assert_eq!(receiver.delivered()[0].response().is_some(), happened);
        assert_eq!(receiver.delivered()[0].parked().is_some(), !happened);
        client.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn work_in_the_background_is_told_in_the_same_round() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let layer = lab.layer().resumable().background(Background::at("/ops").always()).callback(receiver.callback());
    let app = serve(&layer, |_| async { Ok(reply(200, "later")) });
    let completer = completer(&layer, &app);
    assert_eq!(send(&app, post("k")).await.status, 202);
    let report = once(&completer).await;
    assert_eq!((report.found, report.completed, report.callbacks_delivered), (1, 1, 1), "{report:?}");
    assert_eq!(receiver.delivered()[0].response().unwrap().body().unwrap(), "later");
}

/// Who asks for no callback pays nothing: no write, and no byte of a record.
#[tokio::test(start_paused = true)]
async fn without_a_callback_nothing_is_written_for_it() {
    let (lab, _) = Lab::manual();
    let layer = lab.layer().resumable();
    let app = serve(&layer, |_| async { Ok(reply(201, "done")) });
    let completer = completer(&layer, &app);
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(once(&completer).await, Report::default());
    assert_eq!(lab.store.calls(), 2, "claimed and completed");
    let plain = stored(&lab).await.encode().head.len();

    // With one: that it begins, and that it is made.
    let (lab, _) = Lab::manual();
    let (app, completer) = over(&lab, Receiver::default().callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(lab.store.calls(), 2, "the client waits for nothing more");
    once(&completer).await;
    assert_eq!((lab.store.loads(), lab.store.swaps()), (1, 4));
    assert!(plain < stored(&lab).await.encode().head.len(), "{plain} bytes without one");
}

/// A completer that runs in the same process need not poll for it.
#[tokio::test(start_paused = true)]
async fn in_the_same_process_it_is_told_at_once() {
    let lab = Lab::new();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = completer.poll(secs(3600));
    let running = tokio::spawn(async move { running.run(async { stopped.await.unwrap_or(()) }).await });
    settle().await;
    send(&app, post("k")).await.assert_first(201, "done");
    settle().await;
    assert_eq!(receiver.delivered().len(), 1);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

/// Its record outlives its retention, for as long as its callback is owed.
#[tokio::test(start_paused = true)]
async fn what_is_to_be_told_does_not_expire() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    let acknowledge = Acknowledge { grace: secs(1) };
    Ledger::new(lab.store.clone()).apply(&stored_key("k"), None, acknowledge).await.unwrap().output.unwrap();
    clock.advance(secs(7 * 24 * 3600));
    // The store drops what has expired when something else is written.
    send(&app, post("other")).await;
    assert_eq!(tower_idempotency::Sweeper::new(lab.store.clone()).run_once().await.unwrap().removed, 0);
    assert_eq!(once(&completer).await.callbacks_delivered, 2);
    assert_eq!(receiver.delivered()[0].response().unwrap().body().unwrap(), "done");
    assert_eq!(stored(&lab).await.due().since(tower_idempotency::clock::Clock::now(&clock)), secs(1));
}

/// Each end has its own id, be it a handler or an operator that brings it about.
#[tokio::test(start_paused = true)]
async fn what_goes_on_after_it_was_parked_is_told_again_when_it_ends() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 503);
    let completer = completer.max_tries(1);
    send(&app, post("k")).await.assert_first(503, "done");
    clock.advance(secs(10));
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
    let response = stored_answer();
    decide(&lab, Resolution::Respond { response, retention: secs(60) }).await;
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
    let delivered = receiver.delivered();
    assert!(delivered[0].parked().is_some() && delivered[1].response().is_some());
    assert_ne!(delivered[0].id, delivered[1].id);
}

fn stored_answer() -> Arc<tower_idempotency::core::StoredResponse> {
    let response = Response::new(());
    let answer = tower_idempotency::core::StoredResponse::capture(response.status(), response.headers(), None);
    Arc::new(answer)
}

/// News that is out of date by then is not delivered.
#[tokio::test(start_paused = true)]
async fn what_went_on_before_it_was_told_is_told_once_it_ends() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 503);
    send(&app, post("k")).await.assert_first(503, "done");
    decide(&lab, Resolution::Park { why: "let us see".into() }).await;
    decide(&lab, Resolution::RunAgain).await;
    let report = once(&completer).await;
    assert_eq!((report.released, report.callbacks_delivered), (1, 0), "{report:?}");
    assert!(receiver.delivered().is_empty());
    decide(&lab, Resolution::Park { why: "enough".into() }).await;
    assert_eq!(once(&completer).await.callbacks_delivered, 1);
    assert_eq!(receiver.delivered()[0].parked(), Some("enough"));
}

/// The next operation under the same key has ids of its own.
#[tokio::test(start_paused = true)]
async fn a_new_operation_under_an_old_key_is_told_under_another_id() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    for _ in 0..2 {
        send(&app, post("k")).await.assert_first(201, "done");
        assert_eq!(once(&completer).await.callbacks_delivered, 1);
        clock.advance(secs(25 * 3600));
    }
    let ids = receiver.ids();
    assert_ne!(ids[0], ids[1]);
}

/// What was begun under no callback has none.
#[tokio::test(start_paused = true)]
async fn what_began_without_a_callback_has_none() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    let body = Bytes::from_static(b"{\"amount\":100}");
    let claim = Claim {
        fingerprint: Fingerprint::of([b"POST".as_slice(), b"/pay", b"", b"", &body]),
        mode: Mode::Resumable,
        lease: secs(60),
        request: None,
        labels: Labels::new(),
    };
    Ledger::new(lab.store.clone()).apply(&stored_key("k"), None, claim).await.unwrap();
    clock.advance(secs(60));
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(once(&completer).await, Report::default());
}

/// When it ended, and when that was delivered.
#[tokio::test(start_paused = true)]
async fn the_history_has_both_times() {
    let (lab, clock) = Lab::manual();
    let (app, completer) = over(&lab, Receiver::failing(1).callback(), 201);
    let start = tower_idempotency::clock::Clock::now(&clock);
    clock.advance(secs(1));
    send(&app, post("k")).await.assert_first(201, "done");
    clock.advance(secs(1));
    let moments = |record: Record| -> Vec<_> {
        record.history().iter().map(|entry| (entry.event, entry.at.since(start))).collect()
    };
    once(&completer).await;
    let (claimed, completed) = ((HistoryEvent::Claimed, secs(1)), (HistoryEvent::Completed, secs(1)));
    assert_eq!(moments(stored(&lab).await), [claimed, completed, (HistoryEvent::CallbackTried, secs(2))]);
    clock.advance(secs(40));
    once(&completer).await;
    assert_eq!(moments(stored(&lab).await), [claimed, completed, (HistoryEvent::CallbackDelivered, secs(42))]);
}

/// What is refused, released or withdrawn did not end.
#[tokio::test(start_paused = true)]
async fn what_did_not_end_is_not_told() {
    for status in [503, 401] {
        let (lab, _) = Lab::manual();
        let receiver = Receiver::default();
        let (app, completer) = over(&lab, receiver.callback(), status);
        send(&app, post("k")).await.assert_first(status, "done");
        once(&completer.max_tries(99)).await;
        assert!(receiver.delivered().is_empty());
    }
}

/// The hook can find the operation it knows by scope and key.
#[tokio::test]
async fn the_key_is_that_of_scope_and_idempotency_key() {
    let lab = Lab::new();
    let receiver = Receiver::default();
    let layer = lab.layer_for(tower_idempotency::Scope::header("x-user".parse().unwrap()));
    let layer = layer.callback(receiver.callback());
    let app = serve(&layer, |_| async { Ok(reply(200, "")) });
    send(&app, with(post("k"), "x-user", "ann")).await;
    once(&completer(&layer, &app)).await;
    let key = Key::new("ann", &IdempotencyKey::parse(b"k").unwrap());
    assert_eq!(receiver.delivered()[0].key, key);
    assert!(matches!(receiver.delivered()[0].record.hold(), Hold::Released));
}
