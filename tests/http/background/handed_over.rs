//! What a completer of the process has room for is claimed as it is accepted.

use tokio::sync::oneshot;
use tower_idempotency::core::{HistoryEvent, Status};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Background, Backoff, Completer, CompleterError};

use super::{assert_accepted, counting, later, layer, paying};
use crate::support;
use crate::support::lab::{Lab, completer, gated, reply, secs, send, stored_key};
use crate::support::store::{Call, Fault};
use crate::support::{Count, settle};

/// A completer that runs in a task, until it is told to stop.
struct Running {
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), CompleterError>>,
}

impl Running {
    async fn start(completer: Completer) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move { completer.run(async { stopped.await.unwrap_or(()) }).await });
        settle().await;
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// While a completer of the process has room, accepting is claiming: as many
/// round trips as in the foreground.
#[tokio::test(start_paused = true)]
async fn with_room_in_the_process_it_costs_two_writes() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let (app, runs) = paying(&layer);
    let running = Running::start(completer(&layer, &app).poll(secs(3600))).await;
    let scans = lab.store.scans();
    assert_accepted(&send(&app, later("k")).await, "/operations/k");
    settle().await;
    assert_eq!((lab.store.swaps(), lab.store.loads(), lab.store.scans(), runs.get()), (2, 0, scans, 1));
    assert_eq!(lab.events.names(), ["Accepted", "Resumed", "Completed"]);
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    let history: Vec<_> = record.history().iter().map(|entry| (entry.attempt, entry.event)).collect();
    assert_eq!(history, [(0, HistoryEvent::Accepted), (1, HistoryEvent::Claimed), (1, HistoryEvent::Completed)]);
    send(&app, later("k")).await.assert_replay(201, "paid");
    running.end().await;
}

/// The process stood still for longer than the lease: what it runs itself is not
/// taken for that of another holder, which died.
#[tokio::test(start_paused = true)]
async fn a_completer_takes_nothing_from_its_own_process() {
    let (lab, clock) = Lab::manual();
    let layer = lab.layer().background(Background::at("/operations"));
    let (app, runs, gate) = gated(&layer, |_| reply(201, "paid"));
    let running = Running::start(completer(&layer, &app).poll(secs(1))).await;
    assert_accepted(&send(&app, later("k")).await, "/operations/k");
    settle().await;
    let scans = lab.store.scans();
    clock.advance(secs(3600));
    tokio::time::advance(secs(2)).await;
    settle().await;
    assert!(lab.store.scans() > scans, "it looked");
    gate.add_permits(1);
    settle().await;
    send(&app, later("k")).await.assert_replay(201, "paid");
    assert_eq!((runs.get(), lab.events.count("Parked")), (1, 0));
    running.end().await;
}

/// No more at once than the completer may run; those that find no room wait, and
/// are run without a look at the whole store.
#[tokio::test(start_paused = true)]
async fn without_room_it_waits_for_its_turn() {
    let lab = Lab::new();
    let layer = layer(&lab).background(Background::at("/operations").queue(2));
    let (app, runs, gate) = gated(&layer, |_| reply(201, "paid"));
    let running = Running::start(completer(&layer, &app).poll(secs(3600)).concurrency(2)).await;
    for number in 0..4 {
        assert_eq!(send(&app, later(&format!("k{number}"))).await.status, 202);
    }
    settle().await;
    assert_eq!(runs.get(), 2);
    let scans = lab.store.scans();
    send(&app, later("k4")).await.assert_problem("overloaded", 503);
    assert_eq!(lab.store.scans(), scans + 1, "the queue was full, so it looked");
    // What runs is no less accepted than what waits.
    assert_accepted(&send(&app, later("k0")).await, "/operations/k0");
    assert_accepted(&send(&app, later("k3")).await, "/operations/k3");
    gate.add_permits(1);
    settle().await;
    assert_eq!(runs.get(), 3);
    gate.add_permits(3);
    settle().await;
    assert_eq!((runs.get(), lab.store.scans()), (4, scans + 1));
    for number in 0..4 {
        send(&app, later(&format!("k{number}"))).await.assert_replay(201, "paid");
    }
    running.end().await;
}

/// It ends when the last of them has ended, and takes nothing more meanwhile.
#[tokio::test(start_paused = true)]
async fn a_completer_that_stops_ends_what_it_was_handed() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let (app, runs, gate) = gated(&layer, |_| reply(201, "paid"));
    let Running { stop, task } = Running::start(completer(&layer, &app)).await;
    send(&app, later("a")).await;
    settle().await;
    stop.send(()).unwrap();
    settle().await;
    assert!(!task.is_finished() && runs.get() == 1);
    send(&app, later("b")).await;
    gate.add_permits(2);
    task.await.unwrap().unwrap();
    assert_eq!(runs.get(), 1, "b is for somebody else");
    send(&app, later("a")).await.assert_replay(201, "paid");
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1);
}

/// Cut off, as by a crash: another attempt goes on, from the stored request.
#[tokio::test(start_paused = true)]
async fn what_was_handed_over_and_cut_off_is_resumed() {
    for resumable in [true, false] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let layer = layer.background(Background::at("/operations"));
        let (app, runs, gate) = gated(&layer, |_| reply(201, "paid"));
        let running = Running::start(completer(&layer, &app)).await;
        send(&app, later("k")).await;
        settle().await;
        assert_eq!(runs.get(), 1);
        running.task.abort();
        settle().await;
        gate.add_permits(1);
        settle().await;
        assert_eq!(gate.available_permits(), 1, "nothing runs any more");
        tokio::time::advance(secs(60)).await;
        let report = completer(&layer, &app).run_once().await.unwrap();
        assert_eq!((report.completed, report.parked), if resumable { (1, 0) } else { (0, 1) });
        // And no completer is at the desk any more.
        send(&app, later("other")).await;
        settle().await;
        assert_eq!(runs.get(), if resumable { 2 } else { 1 });
    }
}

/// A claim whose process never heard of it is given back, and a completer runs it.
#[tokio::test(start_paused = true)]
async fn a_lost_claim_of_what_is_handed_over_is_given_back() {
    for resumable in [true, false] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let layer = layer.background(Background::at("/operations"));
        let (app, runs) = paying(&layer);
        let running = Running::start(completer(&layer, &app).poll(secs(5))).await;
        let first = Count::default();
        lab.store.fail(move |call| match call {
            Call::Swap(_) if first.up() == 1 => Fault::After,
            Call::Load if first.get() < 4 => {
                first.up();
                Fault::Before(StoreErrorKind::Unavailable)
            }
            _ => Fault::None,
        });
        send(&app, later("k")).await.assert_problem("store-unavailable", 503);
        assert_eq!(runs.get(), 0);
        tokio::time::sleep(secs(30)).await;
        assert_eq!(runs.get(), 1, "resumable: {resumable}");
        send(&app, later("k")).await.assert_replay(201, "paid");
        running.end().await;
    }
}

/// The completer that had room is gone when the claim is stored: another one need
/// not wait for its lease.
#[tokio::test(start_paused = true)]
async fn a_claim_for_a_completer_that_is_gone_is_given_back() {
    for resumable in [true, false] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let layer = layer.background(Background::at("/operations"));
        let (app, runs) = paying(&layer);
        let running = Running::start(completer(&layer, &app)).await;
        lab.store.fail_once(Call::Swap(Status::Pending), Fault::Slow(secs(2)));
        let client = support::lab::spawn(&app, later("k"));
        settle().await;
        running.task.abort();
        assert_accepted(&client.await.unwrap().unwrap(), "/operations/k");
        tokio::time::sleep(secs(1)).await;
        assert_eq!(runs.get(), 0);
        assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1, "resumable: {resumable}");
    }
}

/// What was accepted is not withdrawn, not even by the attempt that came with it.
#[tokio::test(start_paused = true)]
async fn what_was_handed_over_and_did_not_start_is_tried_again() {
    for resumable in [true, false] {
        let lab = Lab::new();
        let layer = lab.layer_with(|engine| engine.backoff(Backoff::new(secs(10), secs(10))));
        let layer = if resumable { layer.resumable() } else { layer }.background(Background::at("/operations"));
        let first = Count::default();
        let (app, runs) = counting(&layer, move |_| {
            let answer = if first.up() == 1 { reply(429, "busy") } else { reply(201, "paid") };
            async move { answer }
        });
        let running = Running::start(completer(&layer, &app).poll(secs(3600))).await;
        send(&app, later("k")).await;
        settle().await;
        assert_eq!(runs.get(), 1);
        assert!(lab.store.peek(&stored_key("k")).await.is_some(), "still accepted");
        tokio::time::sleep(secs(11)).await;
        assert_eq!(runs.get(), 2, "when it is due, without a poll");
        send(&app, later("k")).await.assert_replay(201, "paid");
        running.end().await;
    }
}
