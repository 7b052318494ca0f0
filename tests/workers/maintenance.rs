//! What a maintenance window is to those that work beside the requests.

use std::time::Duration;

use tower_idempotency::core::{Claim, Fingerprint, Labels, Mode, Status};
use tower_idempotency::maintenance::{Covers, PlannedWindow, Window};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Callback, Completer, Operator, Reconciled, Scope, Stopped, Sweeper, Watcher};

use crate::support::lab::{
    App, Lab, completer, numbered, operation, post, reply, request, secs, send, serve, stored_key, with,
};
use crate::support::store::{Call, Fault};
use crate::support::{Count, settle};

/// How long it takes at most until every process sees what was planned.
const SEEN: Duration = secs(6);

/// Plans a window that covers this, begins so many seconds from now, and lasts ten minutes.
async fn plan(lab: &Lab, begins: u64, lead: u64, covers: Covers) -> (Operator, PlannedWindow) {
    let operator = Operator::new(lab.store.clone());
    let (_, now) = operator.windows().await.unwrap();
    let from = now.after(secs(begins));
    let window = Window::new(from, from.after(secs(600)), "the database moves").lead(secs(lead)).covers(covers);
    let id = operator.plan(window).await.unwrap();
    let (windows, _) = operator.windows().await.unwrap();
    (operator, windows.into_iter().find(|planned| planned.id == id).unwrap())
}

/// A resumable service that fails each request once, and its completer.
fn fails_first(lab: &Lab, scope: Scope) -> (App, Count, Completer) {
    let layer = lab.layer_for(scope).resumable();
    let (runs, count) = (Count::default(), Count::default());
    let (fails, all) = (runs, count.clone());
    let app = serve(&layer, move |_| {
        all.up();
        let status = if fails.up() == 1 { 503 } else { 201 };
        async move { Ok(reply(status, "paid")) }
    });
    let completer = completer(&layer, &app);
    (app, count, completer)
}

#[tokio::test(start_paused = true)]
async fn a_completer_goes_on_in_the_lead_and_rests_in_the_window() {
    let lab = Lab::new();
    let (app, runs, completer) = fails_first(&lab, Scope::shared());
    send(&app, post("k")).await.assert_first(503, "paid");
    let _ = plan(&lab, 60, 60, Covers::All).await;
    tokio::time::sleep(secs(30)).await;
    assert_eq!(completer.run_once().await.unwrap().completed, 1);
    assert_eq!(runs.get(), 2);
    assert_eq!(lab.store.peek(&stored_key("k")).await.unwrap().status(), Status::Complete);
}

#[tokio::test(start_paused = true)]
async fn all_rest_in_the_window_and_go_on_after_it() {
    let lab = Lab::new();
    let (app, runs, completer) = fails_first(&lab, Scope::shared());
    let (sweeper, watcher) = (Sweeper::new(lab.engine()), Watcher::new(lab.engine()));
    send(&app, post("k")).await.assert_first(503, "paid");
    let (operator, planned) = plan(&lab, 10, 0, Covers::All).await;
    tokio::time::sleep(secs(20)).await;
    let (calls, scans) = (lab.store.calls(), lab.store.scans());
    let working = tokio::spawn(async move { completer.run(std::future::pending()).await });
    settle().await;
    assert_eq!(sweeper.run_once().await.unwrap().removed, 0);
    assert_eq!(watcher.run_once().await.open, 0);
    tokio::time::sleep(secs(300)).await;
    assert_eq!((lab.store.calls(), lab.store.scans()), (calls, scans), "the store is not touched");
    operator.end(&planned).await.unwrap();
    tokio::time::sleep(secs(60)).await;
    assert_eq!((runs.get(), lab.store.peek(&stored_key("k")).await.unwrap().status()), (2, Status::Complete));
    assert!(lab.store.scans() > scans);
    working.abort();
}

/// A watcher has nothing to say of a window.
#[tokio::test(start_paused = true)]
async fn a_window_is_no_finding() {
    let lab = Lab::new();
    let _ = plan(&lab, 3600, 0, Covers::All).await;
    let watcher = Watcher::new(lab.engine());
    tokio::time::sleep(secs(24 * 3600)).await;
    assert_eq!(watcher.run_once().await.open, 0);
    assert_eq!(Sweeper::new(lab.engine()).run_once().await.unwrap().removed, 0);
    assert_eq!(lab.store.len(), 1);
}

/// What is in its own memory it sees without the store.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_stored_is_a_finding_in_a_window_too() {
    let lab = Lab::new();
    let layer = lab.layer();
    let app = serve(&layer, |_| async { Ok(reply(201, "paid")) });
    let _ = plan(&lab, 30, 0, Covers::All).await;
    lab.store.fail(|call| match call {
        Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_first(201, "paid");
    tokio::time::sleep(secs(60)).await;
    let watcher = Watcher::new(&layer);
    let loads = lab.store.loads();
    assert_eq!(watcher.run_once().await.open, 1);
    assert_eq!(lab.store.loads(), loads);
    assert_eq!(lab.events.count("Found"), 1);
}

/// It is left alone before it is claimed: that costs it no try.
#[tokio::test(start_paused = true)]
async fn a_completer_leaves_alone_what_a_route_or_a_scope_covers() {
    let scope = || Scope::header("x-user".parse().unwrap());
    let covered = [Covers::Route("/payments".to_owned()), Covers::Scope("ann".to_owned())];
    for covers in covered {
        let lab = Lab::new();
        let (app, _, completer) = fails_first(&lab, scope());
        let (other, _, others) = fails_first(&lab, scope());
        send(&app, with(request("POST", "/payments", "a", "{}"), "x-user", "ann")).await.assert_first(503, "paid");
        send(&other, with(request("POST", "/orders", "b", "{}"), "x-user", "ben")).await.assert_first(503, "paid");
        let (operator, planned) = plan(&lab, 0, 0, covers).await;
        tokio::time::sleep(secs(60)).await;
        let report = completer.run_once().await.unwrap();
        assert_eq!((report.completed, report.found), (1, 2), "only what is not covered");
        operator.end(&planned).await.unwrap();
        tokio::time::sleep(SEEN).await;
        assert_eq!(others.run_once().await.unwrap().completed, 1);
    }
}

/// A completer with one slot, which an operation holds for so long.
async fn one_slot(lab: &Lab, holds: u64) -> Completer {
    let layer = lab.layer().resumable();
    let app = serve(&layer, move |request| async move {
        let is_retry = operation(&request).attempt() > 1;
        tokio::time::sleep(secs(if is_retry { holds } else { 0 })).await;
        Ok(reply(if is_retry { 201 } else { 503 }, "paid"))
    });
    send(&app, post("first")).await.assert_first(503, "paid");
    completer(&layer, &app).concurrency(1)
}

/// Its operation waits for the slot as the window begins.
#[tokio::test(start_paused = true)]
async fn a_reconciler_that_waits_in_line_rests() {
    let (lab, asked) = (Lab::new(), Count::default());
    let count = asked.clone();
    let completer = one_slot(&lab, 100).await.reconcile(move |_| {
        count.up();
        async { Reconciled::DidNotHappen }
    });
    tokio::time::sleep(secs(10)).await;
    let fingerprint = Fingerprint::of([b"POST".as_slice()]);
    let claim = Claim { fingerprint, mode: Mode::AtMostOnce, lease: secs(1), request: None, labels: Labels::new() };
    Ledger::new(lab.store.clone()).apply(&stored_key("second"), None, claim).await.unwrap();
    tokio::time::sleep(secs(20)).await;
    let (operator, window) = plan(&lab, 30, 0, Covers::All).await;
    let working = tokio::spawn(async move { completer.run(std::future::pending()).await });
    tokio::time::sleep(secs(150)).await;
    assert_eq!(lab.store.peek(&stored_key("first")).await.unwrap().status(), Status::Complete, "it ran to its end");
    assert_eq!(asked.get(), 0);
    operator.end(&window).await.unwrap();
    tokio::time::sleep(secs(30)).await;
    assert_eq!(asked.get(), 1);
    working.abort();
}

/// One hangs, and the others that are due wait for its slot as the window begins.
#[tokio::test(start_paused = true)]
async fn a_callback_that_waits_in_line_rests() {
    let (lab, calls) = (Lab::new(), Count::default());
    let count = calls.clone();
    let callback = Callback::new(move |_| {
        count.up();
        async {
            tokio::time::sleep(secs(60)).await;
            Ok::<_, String>(())
        }
    });
    let layer = lab.layer().resumable().callback(callback.deadline(secs(100)));
    let app = serve(&layer, |_| async { Ok(reply(201, "paid")) });
    for key in ["a", "b", "c"] {
        send(&app, post(key)).await.assert_first(201, "paid");
    }
    let completer = completer(&layer, &app).concurrency(1);
    let (operator, window) = plan(&lab, 30, 0, Covers::All).await;
    let working = tokio::spawn(async move { completer.run(std::future::pending()).await });
    tokio::time::sleep(secs(200)).await;
    assert_eq!(calls.get(), 1, "the one that was under way");
    operator.end(&window).await.unwrap();
    tokio::time::sleep(secs(200)).await;
    assert_eq!(calls.get(), 3);
    working.abort();
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_is_under_way_stops() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer_with(|engine| engine.retention(secs(3600))));
    for number in 0..250 {
        send(&app, post(&number.to_string())).await;
    }
    tokio::time::sleep(secs(2 * 3600)).await;
    let sweeper = Sweeper::new(lab.engine());
    let (operator, window) = plan(&lab, 3, 0, Covers::All).await;
    lab.store.fail(|call| if call == Call::Scan { Fault::Slow(secs(4)) } else { Fault::None });
    let swept = sweeper.run_once().await.unwrap();
    assert_eq!(swept.removed, 100, "what the first page had");
    assert!(matches!(swept.stopped, Some(Stopped::Maintenance { until }) if until == window.window.until), "{swept:?}");
    operator.end(&window).await.unwrap();
    lab.store.fail(|_| Fault::None);
    tokio::time::sleep(secs(10)).await;
    let swept = sweeper.run_once().await.unwrap();
    assert_eq!((swept.removed, swept.stopped), (150, None));
}

/// What rests is looked at once, however much of it there is, until the windows change.
#[tokio::test(start_paused = true)]
async fn what_rests_is_looked_at_once() {
    let lab = Lab::new();
    let layer = lab.layer().resumable();
    let (runs, count) = (Count::default(), Count::default());
    let all = count.clone();
    let app = serve(&layer, move |_| {
        all.up();
        let status = if runs.up() <= 2500 { 503 } else { 201 };
        async move { Ok(reply(status, "paid")) }
    });
    for number in 0..2500 {
        send(&app, post(&number.to_string())).await;
    }
    let (operator, window) = plan(&lab, 0, 0, Covers::Route("/pay".to_owned())).await;
    tokio::time::sleep(secs(60)).await;
    let loads = lab.store.loads();
    let completer = completer(&layer, &app);
    let working = tokio::spawn(async move { completer.run(std::future::pending()).await });
    tokio::time::sleep(secs(120)).await;
    assert_eq!((lab.store.loads() - loads, count.get()), (2500, 2500), "looked at once, and not run");
    operator.end(&window).await.unwrap();
    tokio::time::sleep(secs(20)).await;
    assert_eq!(count.get(), 5000, "each of them goes on");
    working.abort();
}
