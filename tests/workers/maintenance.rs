//! What a maintenance window is to those that work beside the requests.

use std::time::Duration;

use tower_idempotency::core::Status;
use tower_idempotency::maintenance::{Covers, Window};
use tower_idempotency::{Completer, Operator, Scope, Sweeper, Watcher};

use crate::support::lab::{App, Lab, completer, post, reply, request, secs, send, serve, stored_key, with};
use crate::support::{Count, settle};

/// How long it takes at most until every process sees what was planned.
const SEEN: Duration = secs(6);

/// Plans a window that covers this, begins so many seconds from now, and lasts ten minutes.
async fn plan(lab: &Lab, begins: u64, lead: u64, covers: Covers) -> (Operator, String) {
    let operator = Operator::new(lab.store.clone());
    let (_, now) = operator.windows().await.unwrap();
    let from = now.after(secs(begins));
    let window = Window::new(from, from.after(secs(600)), "the database moves").lead(secs(lead)).covers(covers);
    let id = operator.plan(window).await.unwrap();
    (operator, id)
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
    let (operator, id) = plan(&lab, 10, 0, Covers::All).await;
    tokio::time::sleep(secs(20)).await;
    let (calls, scans) = (lab.store.calls(), lab.store.scans());
    let working = tokio::spawn(async move { completer.run(std::future::pending()).await });
    settle().await;
    assert_eq!(sweeper.run_once().await.unwrap().removed, 0);
    assert_eq!(watcher.run_once().await.open, 0);
    tokio::time::sleep(secs(300)).await;
    assert_eq!((lab.store.calls(), lab.store.scans()), (calls, scans), "the store is not touched");
    operator.end(&id).await.unwrap();
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
        let (operator, id) = plan(&lab, 0, 0, covers).await;
        tokio::time::sleep(secs(60)).await;
        let report = completer.run_once().await.unwrap();
        assert_eq!((report.completed, report.found), (1, 2), "only what is not covered");
        operator.end(&id).await.unwrap();
        tokio::time::sleep(SEEN).await;
        assert_eq!(others.run_once().await.unwrap().completed, 1);
    }
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
    let (operator, id) = plan(&lab, 0, 0, Covers::Route("/pay".to_owned())).await;
    tokio::time::sleep(secs(60)).await;
    let loads = lab.store.loads();
    let completer = completer(&layer, &app);
    let working = tokio::spawn(async move { completer.run(std::future::pending()).await });
    tokio::time::sleep(secs(120)).await;
    assert_eq!((lab.store.loads() - loads, count.get()), (2500, 2500), "looked at once, and not run");
    operator.end(&id).await.unwrap();
    tokio::time::sleep(secs(20)).await;
    assert_eq!(count.get(), 5000, "each of them goes on");
    working.abort();
}
