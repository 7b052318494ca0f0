//! Who is told of the end of an operation, and that nobody is forgotten.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use tokio::sync::{Semaphore, oneshot};
use tower_idempotency::core::{
    Acknowledge, Claim, Fingerprint, Hold, IdempotencyKey, Key, Mode, Record, Resolution, Status, What,
};
use tower_idempotency::spi::Ledger;
use tower_idempotency::{Background, Backoff, Callback, Completer, Ended, EventKind, Operation, Reconciled, Report};

use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{App, Lab, completer, operation, post, reply, secs, send, serve, stored_key, with};
use crate::support::store::{Call, Fault};
use crate::support::{self, Count, settle};

const BACKOFF: Backoff = Backoff::new(secs(10), secs(40));

/// What the hook was told, and what it says: `Err` while there are failures.
#[derive(Clone, Default)]
struct Receiver {
    told: Arc<Mutex<Vec<Ended>>>,
    failures: Arc<Mutex<usize>>,
}

impl Receiver {
    fn failing(times: usize) -> Self {
        Self { failures: Arc::new(Mutex::new(times)), ..Self::default() }
    }

    fn callback(&self) -> Callback {
        let this = self.clone();
        let hook = move |ended| {
            this.told.lock().unwrap().push(ended);
            let mut failures = this.failures.lock().unwrap();
            let fails = *failures > 0;
            *failures = failures.saturating_sub(1);
            async move { if fails { Err("planned") } else { Ok(()) } }
        };
        Callback::new(hook).backoff(BACKOFF)
    }

    fn told(&self) -> Vec<Ended> {
        self.told.lock().unwrap().clone()
    }

    fn ids(&self) -> Vec<String> {
        self.told().into_iter().map(|ended| ended.id).collect()
    }
}

/// A layer, a handler behind it that answers this, and a completer.
fn over(lab: &Lab, callback: Callback, status: u16) -> (App, Completer) {
    let layer = lab.layer_with(|engine| engine.backoff(BACKOFF)).resumable().callback(callback);
    let app = serve(&layer, move |_| async move { Ok(reply(status, "done")) });
    let completer = completer(&layer, &app);
    (app, completer)
}

async fn once(completer: &Completer) -> Report {
    completer.run_once().await.unwrap()
}

async fn stored(lab: &Lab) -> Record {
    lab.store.peek(&stored_key("k")).await.unwrap()
}

async fn decide(lab: &Lab, resolution: Resolution) {
    // By a tool that knows nothing of callbacks.
    lab.decide("k", resolution).await;
}

#[tokio::test(start_paused = true)]
async fn a_completion_is_told_with_its_answer() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    assert!(receiver.told().is_empty(), "not on the request's path");
    let report = once(&completer).await;
    assert_eq!((report.found, report.told), (1, 1), "{report:?}");
    let told = receiver.told();
    let [ended] = &told[..] else { panic!("told {} times", told.len()) };
    assert_eq!((ended.key, ended.call, ended.id.len()), (stored_key("k"), 1, 40));
    assert_eq!(ended.answer().unwrap().status(), 201);
    assert_eq!(ended.answer().unwrap().body().unwrap(), "done");
    assert_eq!(ended.parked(), None);
    assert_eq!(once(&completer).await, Report::default(), "once is enough");
    assert_eq!(lab.events.count("CallbackDelivered"), 1);
    send(&app, post("k")).await.assert_replay(201, "done");
}

/// Of a parked operation: why, and which step nobody knows about.
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
    // Whoever began the step is gone, and so is its lease.
    clock.advance(secs(3600));
    let report = once(&completer).await;
    assert_eq!((report.parked, report.told), (1, 1), "{report:?}");
    let told = receiver.told();
    let [ended] = &told[..] else { panic!("told {} times", told.len()) };
    assert!(ended.answer().is_none());
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
    assert_eq!((report.found, report.parked, report.told), (1, 1, 1), "{report:?}");
    assert_eq!(receiver.told()[0].parked(), Some("it was tried 1 times"));
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
        assert_eq!((report.reconciled + report.parked, report.told), (1, 1), "{report:?}");
        assert_eq!(receiver.told()[0].answer().is_some(), happened);
        assert_eq!(receiver.told()[0].parked().is_some(), !happened);
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
    assert_eq!((report.found, report.completed, report.told), (1, 1, 1), "{report:?}");
    assert_eq!(receiver.told()[0].answer().unwrap().body().unwrap(), "later");
}

#[tokio::test(start_paused = true)]
async fn what_only_owes_a_callback_does_not_fill_the_queue() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::failing(100);
    let background = Background::at("/ops").always().queue(2);
    let layer = lab
        .layer_with(|engine| engine.backoff(BACKOFF))
        .resumable()
        .background(background)
        .callback(receiver.callback());
    let app = serve(&layer, |_| async { Ok(reply(200, "later")) });
    let completer = completer(&layer, &app);
    for key in ["a", "b"] {
        assert_eq!(send(&app, post(key)).await.status, 202);
    }
    let report = once(&completer).await;
    assert_eq!((report.completed, report.untold), (2, 2), "{report:?}");
    clock.advance(secs(100));
    assert_eq!(send(&app, post("c")).await.status, 202);
}

/// The process died after the answer was stored: another one tells.
#[tokio::test(start_paused = true)]
async fn a_crash_before_the_call_loses_nothing() {
    let (lab, _) = Lab::manual();
    let (app, _) = over(&lab, Receiver::default().callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    let (other, receiver) = (Lab::over(lab.store.clone()), Receiver::default());
    let (_, elsewhere) = over(&other, receiver.callback(), 201);
    assert_eq!(once(&elsewhere).await.told, 1);
    assert_eq!(receiver.told().len(), 1);
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
    assert_eq!(once(&elsewhere).await.told, 1);
    assert_eq!(receiver.told()[0].call, 2);
    assert_eq!(receiver.ids(), *ids.lock().unwrap());
}

/// The call was made, and nobody could be told so.
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
    assert_eq!(once(&completer).await.told, 1);
    let ids = receiver.ids();
    assert!(ids.len() == 2 && ids[0] == ids[1], "{ids:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_is_called_again_with_the_same_id_after_a_pause() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::failing(2);
    let (app, completer) = over(&lab, receiver.callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    for call in 1..=2 {
        assert_eq!(once(&completer).await.untold, 1);
        let record = stored(&lab).await;
        let pause = record.due().since(record.written_at());
        assert!(pause <= BACKOFF.longest(call), "{pause:?} after call {call}");
        if !pause.is_zero() {
            assert_eq!(once(&completer).await, Report::default(), "not before its time");
        }
        clock.advance(secs(40));
    }
    assert_eq!(once(&completer).await.told, 1);
    let ids = receiver.ids();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(receiver.told().iter().map(|ended| ended.call).collect::<Vec<_>>(), [1, 2, 3]);
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
        assert_eq!(once(&completer).await.untold, 1);
        clock.advance(secs(40));
    }
    assert_eq!(once(&completer).await.told, 1);
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
    assert_eq!(receiver.told().len(), 3);
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

/// In two processes, that is: they share nothing but the store.
#[tokio::test(start_paused = true)]
async fn two_completers_never_call_at_the_same_time() {
    let (lab, _) = Lab::manual();
    let (gate, calls) = (Arc::new(Semaphore::new(0)), Count::default());
    let waiting = || {
        let (gate, calls) = (gate.clone(), calls.clone());
        Callback::new(move |_| {
            calls.up();
            let gate = gate.clone();
            async move { gate.acquire().await.map(|permit| permit.forget()) }
        })
    };
    let (app, first) = over(&lab, waiting(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    // Both have looked before either writes.
    let (_, second) = over(&Lab::over(lab.store.clone()), waiting(), 201);
    lab.store.fail(|call| {
        if let Call::Swap(_) = call { Fault::Slow(std::time::Duration::from_millis(2)) } else { Fault::None }
    });
    let [first, second] = [first, second].map(|completer| tokio::spawn(async move { once(&completer).await }));
    // Time is paused: this is until nothing else can happen.
    tokio::time::sleep(secs(1)).await;
    assert_eq!(calls.get(), 1);
    gate.add_permits(2);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.told + second.told, calls.get()), (1, 1), "{first:?} {second:?}");
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
    assert_eq!(receiver.told().len(), 1);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

/// Its record outlives its retention, for as long as somebody is to be told.
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
    assert_eq!(once(&completer).await.told, 2);
    assert_eq!(receiver.told()[0].answer().unwrap().body().unwrap(), "done");
    assert_eq!(stored(&lab).await.due().since(tower_idempotency::clock::Clock::now(&clock)), secs(1));
}

/// Each end has its own id, whoever brings it about.
#[tokio::test(start_paused = true)]
async fn what_goes_on_after_it_was_parked_is_told_again_when_it_ends() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 503);
    let completer = completer.max_tries(1);
    send(&app, post("k")).await.assert_first(503, "done");
    clock.advance(secs(10));
    assert_eq!(once(&completer).await.told, 1);
    let response = stored_answer();
    decide(&lab, Resolution::Answer { response, retention: secs(60) }).await;
    assert_eq!(once(&completer).await.told, 1);
    let told = receiver.told();
    assert!(told[0].parked().is_some() && told[1].answer().is_some());
    assert_ne!(told[0].id, told[1].id);
}

fn stored_answer() -> Arc<tower_idempotency::core::StoredResponse> {
    let response = Response::new(());
    let answer = tower_idempotency::core::StoredResponse::capture(response.status(), response.headers(), None);
    Arc::new(answer)
}

/// News that is out of date by then is not told.
#[tokio::test(start_paused = true)]
async fn what_went_on_before_it_was_told_is_told_once_it_ends() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 503);
    send(&app, post("k")).await.assert_first(503, "done");
    decide(&lab, Resolution::Park { why: "let us see".into() }).await;
    decide(&lab, Resolution::RunAgain).await;
    let report = once(&completer).await;
    assert_eq!((report.released, report.told), (1, 0), "{report:?}");
    assert!(receiver.told().is_empty());
    decide(&lab, Resolution::Park { why: "enough".into() }).await;
    assert_eq!(once(&completer).await.told, 1);
    assert_eq!(receiver.told()[0].parked(), Some("enough"));
}

/// The next operation under the same key has ids of its own.
#[tokio::test(start_paused = true)]
async fn a_new_operation_under_an_old_key_is_told_under_another_id() {
    let (lab, clock) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    for _ in 0..2 {
        send(&app, post("k")).await.assert_first(201, "done");
        assert_eq!(once(&completer).await.told, 1);
        clock.advance(secs(25 * 3600));
    }
    let ids = receiver.ids();
    assert_ne!(ids[0], ids[1]);
}

/// A completer without a callback leaves them to others, and is not held up.
#[tokio::test(start_paused = true)]
async fn who_has_no_callback_leaves_it_to_others() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, ours) = over(&lab, receiver.callback(), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    let other = Lab::over(lab.store.clone());
    let layer = other.layer().resumable();
    let theirs = completer(&layer, &serve(&layer, |_| async { Ok(reply(200, "")) }));
    assert_eq!(once(&theirs).await.skipped, 1);
    assert_eq!(once(&theirs).await, Report::default(), "it is left alone for a while");
    assert_eq!(once(&ours).await.told, 1);
    assert_eq!(receiver.told()[0].call, 1);
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
    };
    Ledger::new(lab.store.clone()).apply(&stored_key("k"), None, claim).await.unwrap();
    clock.advance(secs(60));
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(once(&completer).await, Report::default());
}

/// When it ended, and when that was told.
#[tokio::test(start_paused = true)]
async fn the_history_has_both_times() {
    let (lab, clock) = Lab::manual();
    let (app, completer) = over(&lab, Receiver::failing(1).callback(), 201);
    let start = tower_idempotency::clock::Clock::now(&clock);
    clock.advance(secs(1));
    send(&app, post("k")).await.assert_first(201, "done");
    clock.advance(secs(1));
    let moments = |record: Record| -> Vec<_> {
        record.history().iter().map(|moment| (moment.what, moment.at.since(start))).collect()
    };
    once(&completer).await;
    let (claimed, completed) = ((What::Claimed, secs(1)), (What::Completed, secs(1)));
    assert_eq!(moments(stored(&lab).await), [claimed, completed, (What::Called, secs(2))]);
    clock.advance(secs(40));
    once(&completer).await;
    assert_eq!(moments(stored(&lab).await), [claimed, completed, (What::Told, secs(42))]);
}

/// A lost reply to the write that ends it leaves its callback owed all the same.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_does_not_lose_the_callback() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback(), 201);
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::After);
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(once(&completer).await.told, 1);
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
    assert_eq!(once(&completer).await.told, 1);
    clock.advance(secs(100));
    assert_eq!((once(&completer).await, calls.get()), (Report::default(), 1));
    assert_eq!(lab.events.count("CallbackDelivered"), 1);
}

/// The answer was stored, nobody heard of it, and its callback went on with the
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
    assert_eq!((once(&completer).await.told, lab.events.count("SavedLate")), (1, 0));
    tokio::time::sleep(secs(10)).await;
    assert_eq!((lab.events.count("SavedLate"), lab.events.count("SaveFailed")), (1, 0));
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
        assert!(receiver.told().is_empty());
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
    assert_eq!(receiver.told()[0].key, key);
    assert!(matches!(receiver.told()[0].record.hold(), Hold::Free));
}

/// A hook that counts its calls and returns when it may.
fn gated(gate: &Arc<Semaphore>, calls: &Count) -> Callback {
    let (gate, calls) = (gate.clone(), calls.clone());
    Callback::new(move |_| {
        calls.up();
        let gate = gate.clone();
        async move { gate.acquire().await.map(|permit| permit.forget()) }
    })
}

/// Time is paused, and nobody waits for it: all of it is before any deadline.
#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_keeps_no_operation_waiting() {
    let (lab, clock) = Lab::manual();
    let (gate, calls, runs) = (Arc::new(Semaphore::new(0)), Count::default(), Count::default());
    let layer = lab.layer_with(|engine| engine.backoff(BACKOFF)).resumable().callback(gated(&gate, &calls));
    let app = serve(&layer, move |_| {
        let status = if (2..=3).contains(&runs.up()) { 503 } else { 201 };
        async move { Ok(reply(status, "done")) }
    });
    for key in ["told", "one", "other"] {
        send(&app, post(key)).await;
    }
    clock.advance(secs(40));
    let completer = completer(&layer, &app).concurrency(1);
    let running = tokio::spawn(async move { once(&completer).await });
    settle().await;
    for key in ["one", "other"] {
        assert_eq!(lab.store.peek(&stored_key(key)).await.unwrap().status(), Status::Complete, "{key}");
    }
    assert_eq!(calls.get(), 1, "as many at once as operations");
    gate.add_permits(3);
    let report = running.await.unwrap();
    assert_eq!((report.completed, report.told, calls.get()), (2, 3, 3), "{report:?}");
}

/// What was not begun is left to whoever runs next.
#[tokio::test(start_paused = true)]
async fn a_completer_that_stops_makes_no_more_callbacks() {
    let (lab, _) = Lab::manual();
    let (gate, calls) = (Arc::new(Semaphore::new(0)), Count::default());
    let (app, completer) = over(&lab, gated(&gate, &calls), 201);
    for key in ["one", "other"] {
        send(&app, post(key)).await;
    }
    let completer = completer.concurrency(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = completer.clone();
    let running = tokio::spawn(async move { running.run(async { stopped.await.unwrap_or(()) }).await });
    settle().await;
    stop.send(()).unwrap();
    settle().await;
    gate.add_permits(2);
    running.await.unwrap().unwrap();
    assert_eq!((calls.get(), lab.events.count("CallbackDelivered")), (1, 1));
    assert_eq!(once(&completer).await.told, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_may_be_any_time() {
    let (lab, _) = Lab::manual();
    let receiver = Receiver::default();
    let (app, completer) = over(&lab, receiver.callback().deadline(std::time::Duration::MAX), 201);
    send(&app, post("k")).await.assert_first(201, "done");
    assert_eq!(once(&completer).await.told, 1);
}

/// Many of them, which it can do nothing about, keep it neither busy nor from its
/// own work.
#[tokio::test(start_paused = true)]
async fn callbacks_of_others_do_not_keep_a_completer_busy() {
    const THEIRS: u64 = 10_500;
    let (lab, clock) = Lab::manual();
    let (app, _) = over(&lab, Receiver::default().callback(), 201);
    for n in 0..THEIRS {
        send(&app, post(&format!("k{n}"))).await;
    }
    clock.advance(secs(1));
    let other = Lab::over(lab.store.clone());
    let layer = other.layer_with(|engine| engine.backoff(Backoff::new(secs(0), secs(0)))).resumable();
    let runs = Count::default();
    let service = serve(&layer, move |_| {
        let status = if runs.up() == 1 { 503 } else { 201 };
        async move { Ok(reply(status, "")) }
    });
    send(&service, post("ours")).await;
    clock.advance(secs(1));
    let before = lab.store.loads();
    let theirs = completer(&layer, &service).poll(secs(20));
    let running = tokio::spawn(async move { theirs.run(std::future::pending()).await });
    // Time is paused: this is until it rests.
    tokio::time::sleep(secs(1)).await;
    assert_eq!(lab.store.peek(&stored_key("ours")).await.unwrap().status(), Status::Complete);
    let loads = lab.store.loads() - before;
    assert!((THEIRS..THEIRS + 10).contains(&loads), "looked {loads} times");
    running.abort();
}
