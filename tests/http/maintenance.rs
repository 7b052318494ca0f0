//! Maintenance windows: what clients get before, in and after one.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{Status, Timestamp};
use tower_idempotency::maintenance::{Covers, Maintenance, PlannedWindow, Window, WindowState};
use tower_idempotency::store::{Filter, Query, Store, StoreErrorKind};
use tower_idempotency::{
    Background, Engine, IdempotencyLayer, Operator, OperatorError, Refusal, RunError, Runner, Scope, StatusService,
};

use crate::support::lab::{
    Lab, gated, numbered, post, reply, request, secs, send, send_now, serve, spawn, stored_key, unkeyed, with,
};
use crate::support::store::{Call, Fault, Faulty};
use crate::support::{Count, poll_once, settle};

/// How long it takes at most until every process sees what was planned.
const SEEN: Duration = secs(6);

/// An operator in a process of its own.
fn operator(lab: &Lab) -> Operator {
    Operator::new(Engine::new(lab.store.clone()).instance("eve"))
}

/// A window that begins so many seconds from now on the store's clock, for so many.
async fn window(lab: &Lab, begins: u64, lasts: u64, lead: u64) -> Window {
    let (_, now) = operator(lab).windows().await.unwrap();
    let from = now.after(secs(begins));
    Window::new(from, from.after(secs(lasts)), "the database moves").lead(secs(lead))
}

async fn plan(lab: &Lab, begins: u64, lasts: u64, lead: u64) -> String {
    operator(lab).plan(window(lab, begins, lasts, lead).await).await.unwrap()
}

/// As an operator sees it now.
async fn shown(lab: &Lab, id: &str) -> PlannedWindow {
    let (windows, _) = operator(lab).windows().await.unwrap();
    windows.into_iter().find(|planned| planned.id == id).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_lead_refuses_new_work_and_the_window_all() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, runs, door) = gated(&layer, |number| reply(201, format!("run {number}")));
    door.add_permits(1);
    send(&app, post("done")).await.assert_first(201, "run 1");
    plan(&lab, 60, 600, 30).await;
    tokio::time::sleep(secs(20)).await;
    let runs_on = spawn(&app, post("runs"));
    settle().await;
    assert_eq!(runs.get(), 2, "the lead has not begun");
    tokio::time::sleep(secs(20)).await;
    // 20 seconds before it begins, and 620 before it ends.
    let refused = send_now(&app, post("new")).await;
    refused.assert_problem("maintenance", 503);
    assert_eq!(refused.headers["retry-after"], "620");
    send_now(&app, post("done")).await.assert_replay(201, "run 1");
    send_now(&app, post("runs")).await.assert_problem("in-progress", 409);
    assert_eq!(lab.store.peek(&stored_key("new")).await, None, "nothing is stored");
    door.add_permits(1);
    runs_on.await.unwrap().unwrap().assert_first(201, "run 2");
    tokio::time::sleep(secs(20)).await;
    let calls = lab.store.calls();
    for key in ["new", "done", "runs"] {
        send_now(&app, post(key)).await.assert_problem("maintenance", 503);
    }
    assert_eq!(send_now(&app, post("done")).await.headers["retry-after"], "600");
    assert_eq!(lab.store.calls(), calls, "the store is not touched");
    // What has no key is none of its business.
    door.add_permits(1);
    assert_eq!(send(&app, unkeyed("POST")).await.status, 201);
    tokio::time::sleep(secs(600)).await;
    door.add_permits(1);
    send_now(&app, post("done")).await.assert_replay(201, "run 1");
    send(&app, post("new")).await.assert_first(201, "run 4");
    tokio::time::sleep(SEEN).await;
    let told: Vec<_> = lab.events.names().into_iter().filter(|name| name.starts_with("Maintenance")).collect();
    assert_eq!(told, ["MaintenanceBegun", "MaintenanceEnded"]);
    assert!(!lab.events.all().iter().any(|event| event.kind.needs_attention()));
}

/// The lead is there to finish what was begun.
#[tokio::test(start_paused = true)]
async fn a_retry_resumes_in_the_lead_and_not_in_the_window() {
    let lab = Lab::new();
    let layer = lab.layer().resumable();
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&layer, move |_| {
        let status = if count.up() < 3 { 503 } else { 201 };
        async move { Ok(reply(status, "charged")) }
    });
    send(&app, post("k")).await.assert_first(503, "charged");
    plan(&lab, 20, 600, 20).await;
    tokio::time::sleep(SEEN).await;
    send_now(&app, post("new")).await.assert_problem("maintenance", 503);
    send_now(&app, post("k")).await.assert_first(503, "charged");
    assert_eq!(runs.get(), 2, "it was resumed");
    tokio::time::sleep(secs(20)).await;
    send_now(&app, post("k")).await.assert_problem("maintenance", 503);
    assert_eq!(runs.get(), 2);
    tokio::time::sleep(secs(600)).await;
    send_now(&app, post("k")).await.assert_first(201, "charged");
}

#[tokio::test(start_paused = true)]
async fn what_was_read_holds_while_the_store_is_away() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    send(&app, post("a")).await.assert_first(201, "charge 1");
    plan(&lab, 60, 600, 0).await;
    tokio::time::sleep(SEEN).await;
    lab.store.down();
    tokio::time::sleep(secs(120)).await;
    send_now(&app, post("b")).await.assert_problem("maintenance", 503);
    tokio::time::sleep(secs(600)).await;
    lab.store.heal();
    send_now(&app, post("b")).await.assert_first(201, "charge 2");
    assert_eq!(runs.get(), 2);
}

/// Its first request waits for the first look.
#[tokio::test(start_paused = true)]
async fn a_process_that_starts_in_a_window_obeys_it() {
    let lab = Lab::new();
    let id = plan(&lab, 0, 600, 0).await;
    let (app, runs) = numbered(&lab.layer());
    send_now(&app, post("a")).await.assert_problem("maintenance", 503);
    let runner = Runner::new(lab.engine());
    let refused = runner.run("jobs", "17", "", |_| async { Ok::<_, std::io::Error>(42) }).await;
    let Err(RunError::Maintenance { retry_in, reason }) = refused else { panic!("{refused:?}") };
    assert_eq!((retry_in, &*reason), (secs(600), "the database moves"));
    assert_eq!((lab.store.calls() - lab.store.swaps(), runs.get()), (0, 0));
    operator(&lab).end(&shown(&lab, &id).await).await.unwrap();
    tokio::time::sleep(SEEN).await;
    send_now(&app, post("a")).await.assert_first(201, "charge 1");
    assert_eq!(runner.run("jobs", "17", "", |_| async { Ok::<_, std::io::Error>(42) }).await.unwrap(), 42);
}

/// A process that has never read the windows asks again with each request.
#[tokio::test(start_paused = true)]
async fn a_process_that_starts_while_the_store_is_away_obeys_the_window_once_it_is_back() {
    let lab = Lab::new();
    plan(&lab, 0, 600, 0).await;
    let (app, runs) = numbered(&lab.layer());
    lab.store.down();
    send(&app, post("a")).await.assert_problem("store-unavailable", 503);
    lab.store.heal();
    send_now(&app, post("a")).await.assert_problem("maintenance", 503);
    assert_eq!(runs.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_ended_early_and_extended() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("a")).await.assert_first(201, "charge 1");
    let (id, operator) = (plan(&lab, 10, 60, 0).await, operator(&lab));
    tokio::time::sleep(secs(16)).await;
    assert_eq!(send_now(&app, post("b")).await.headers["retry-after"], "54");
    let (windows, now) = operator.windows().await.unwrap();
    assert_eq!(windows[0].state(now), WindowState::Closed);
    operator.extend(&windows[0], windows[0].window.until.after(secs(60))).await.unwrap();
    tokio::time::sleep(SEEN).await;
    assert_eq!(send_now(&app, post("b")).await.headers["retry-after"], "108");
    operator.end(&shown(&lab, &id).await).await.unwrap();
    tokio::time::sleep(SEEN).await;
    send_now(&app, post("b")).await.assert_first(201, "charge 2");
    let (windows, now) = operator.windows().await.unwrap();
    assert_eq!((windows[0].state(now), windows[0].by.as_deref()), (WindowState::Over, Some("eve")));
    let over = &windows[0];
    for refused in [operator.end(over).await, operator.extend(over, now.after(secs(60))).await] {
        assert!(matches!(refused, Err(OperatorError::NoSuchWindow)), "{refused:?}");
    }
    // After a day it is forgotten.
    tokio::time::sleep(secs(24 * 3600)).await;
    assert!(operator.windows().await.unwrap().0.is_empty());
    // One that has not begun is taken off the list.
    let id = plan(&lab, 60, 60, 30).await;
    let gone = shown(&lab, &id).await;
    operator.end(&gone).await.unwrap();
    assert!(operator.windows().await.unwrap().0.is_empty());
    assert!(matches!(operator.end(&gone).await, Err(OperatorError::NoSuchWindow)));
}

/// Each of two operators saw the same, and changes it: the later one learns that it is another
/// one by now.
#[tokio::test(start_paused = true)]
async fn a_window_that_another_operator_changed_meanwhile_is_not_changed_again() {
    let lab = Lab::new();
    let (id, eve) = (plan(&lab, 600, 600, 0).await, operator(&lab));
    let bob = Operator::new(lab.engine().instance("bob"));
    let seen = shown(&lab, &id).await;
    let later = |seconds| seen.window.until.after(secs(seconds));
    eve.extend(&seen, later(60)).await.unwrap();
    let after = shown(&lab, &id).await;
    for refused in [bob.extend(&seen, later(30)).await, bob.extend(&seen, later(60)).await, bob.end(&seen).await] {
        assert!(matches!(refused, Err(OperatorError::Overtaken)), "{refused:?}");
    }
    assert_eq!(shown(&lab, &id).await, after);
    let other = plan(&lab, 700, 600, 0).await;
    bob.extend(&after, later(90)).await.unwrap();
    assert_eq!(shown(&lab, &other).await.by.as_deref(), Some("eve"), "what happens to others is none of its business");
    let both = shown(&lab, &id).await;
    let (one, two) = tokio::join!(eve.end(&both), bob.extend(&both, later(120)));
    let refused = [one, two].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert!(matches!(refused[..], [OperatorError::Overtaken | OperatorError::NoSuchWindow]), "{refused:?}");
}

/// The store took the change, and its reply was lost.
#[tokio::test(start_paused = true)]
async fn a_change_whose_reply_is_lost_is_not_overtaken_by_itself() {
    for ends in [false, true] {
        let lab = Lab::new();
        let (id, operator) = (plan(&lab, 600, 600, 0).await, operator(&lab));
        let seen = shown(&lab, &id).await;
        lab.store.fail_once(Call::Swap(Status::Complete), Fault::After);
        let done = if ends {
            operator.end(&seen).await
        } else {
            operator.extend(&seen, seen.window.until.after(secs(60))).await
        };
        done.unwrap();
        let left = operator.windows().await.unwrap().0.len();
        assert_eq!(left, usize::from(!ends));
    }
}

#[tokio::test(start_paused = true)]
async fn windows_that_overlap_count_together() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    plan(&lab, 0, 60, 0).await;
    plan(&lab, 30, 60, 0).await;
    plan(&lab, 90, 10, 0).await;
    assert_eq!(send_now(&app, post("b")).await.headers["retry-after"], "100");
    tokio::time::sleep(secs(99)).await;
    send_now(&app, post("b")).await.assert_problem("maintenance", 503);
    tokio::time::sleep(secs(1)).await;
    send_now(&app, post("b")).await.assert_first(201, "charge 1");
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused() {
    let (lab, second) = (Lab::new(), secs(1));
    let operator = operator(&lab);
    let (_, now) = operator.windows().await.unwrap();
    let ago = Timestamp::from_millis(now.as_millis() - 60_000);
    let nonsense = [
        Window::new(now.after(second), now.after(second), "ends as it begins"),
        Window::new(now.after(second), now, "ends before"),
        Window::new(ago, ago.after(second), "is over"),
        Window::new(now, now.after(secs(60)), "  "),
        Window::new(now, now.after(secs(60)), "long".repeat(1000)),
        Window::new(now, now.after(secs(60)), "no path").covers(Covers::Route("payments".to_owned())),
    ];
    for window in nonsense {
        let refused = operator.plan(window.clone()).await;
        assert!(matches!(refused, Err(OperatorError::InvalidWindow(_))), "{window:?}: {refused:?}");
    }
    assert!(operator.windows().await.unwrap().0.is_empty());
    // One that began in the past, and is not over, counts.
    let id = operator.plan(Window::new(ago, now.after(secs(60)), "has begun")).await.unwrap();
    assert!(matches!(operator.extend(&shown(&lab, &id).await, ago).await, Err(OperatorError::InvalidWindow(_))));
    for _ in 1..64 {
        operator.plan(Window::new(ago, now.after(secs(60)), "one more")).await.unwrap();
    }
    let refused = operator.plan(Window::new(ago, now.after(secs(60)), "too many")).await;
    assert!(matches!(refused, Err(OperatorError::InvalidWindow(_))), "{refused:?}");
}

/// The process's own clock has no say: here the store's is a day behind, or ahead.
#[tokio::test(start_paused = true)]
async fn windows_go_by_the_clock_of_the_store() {
    for millis in [1_000_000_000_000, 4_000_000_000_000] {
        let clock = ManualClock::new();
        clock.set(Timestamp::from_millis(millis));
        let lab = Lab::over(Faulty::on(&clock));
        let (app, _) = numbered(&lab.layer());
        send(&app, post("a")).await.assert_first(201, "charge 1");
        plan(&lab, 60, 60, 0).await;
        tokio::time::sleep(SEEN).await;
        clock.advance(SEEN);
        send(&app, post("b")).await.assert_first(201, "charge 2");
        clock.advance(secs(60));
        tokio::time::sleep(SEEN).await;
        send_now(&app, post("c")).await.assert_problem("maintenance", 503);
        clock.advance(secs(60));
        tokio::time::sleep(SEEN).await;
        send_now(&app, post("c")).await.assert_first(201, "charge 3");
    }
}

/// A request pays for a look at one number, however many there are.
#[tokio::test(start_paused = true)]
async fn requests_do_not_ask_the_store() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    for planned in [false, true] {
        if planned {
            plan(&lab, 3600, 60, 0).await;
        }
        send(&app, post("a")).await;
        let looks = lab.store.looks();
        for number in 0..1000 {
            send_now(&app, post(&format!("{planned}-{number}"))).await;
        }
        assert_eq!(lab.store.looks(), looks);
        tokio::time::sleep(secs(60)).await;
        let looks = lab.store.looks() - looks;
        assert!((12..=30).contains(&looks), "{looks} in a minute");
    }
}

#[tokio::test(start_paused = true)]
async fn it_covers_a_route_or_a_scope() {
    let lab = Lab::new();
    let layer = lab.layer_for(Scope::header("x-user".parse().unwrap()));
    let (app, _) = numbered(&layer);
    let ask = |path: &str, user: &str, key: &str| with(request("POST", path, key, "{}"), "x-user", user);
    let (now, ids) = (window(&lab, 0, 600, 0).await, operator(&lab));
    let id = ids.plan(now.clone().covers(Covers::Route("/payments".to_owned()))).await.unwrap();
    send_now(&app, ask("/payments", "ann", "1")).await.assert_problem("maintenance", 503);
    send_now(&app, ask("/payments/17?now", "ann", "2")).await.assert_problem("maintenance", 503);
    assert_eq!(send_now(&app, ask("/payments-old", "ann", "3")).await.status, 201);
    ids.end(&shown(&lab, &id).await).await.unwrap();
    ids.plan(now.covers(Covers::Scope("ann".to_owned()))).await.unwrap();
    tokio::time::sleep(SEEN).await;
    send_now(&app, ask("/orders", "ann", "4")).await.assert_problem("maintenance", 503);
    assert_eq!(send_now(&app, ask("/payments", "ben", "4")).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn status_and_acknowledgement_go_on_until_it_begins() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, _) = numbered(&layer);
    let status = StatusService::new(&layer);
    let ask = |method: &str| {
        let request = Request::builder().method(method).uri("/operations/k").body(()).unwrap();
        let status = status.clone();
        async move { status.oneshot(request).await.unwrap() }
    };
    send(&app, post("k")).await.assert_first(201, "charge 1");
    plan(&lab, 20, 600, 20).await;
    tokio::time::sleep(SEEN).await;
    assert_eq!((ask("GET").await.status().as_u16(), ask("DELETE").await.status().as_u16()), (200, 204));
    tokio::time::sleep(secs(20)).await;
    let calls = lab.store.calls();
    for method in ["GET", "HEAD", "DELETE"] {
        let response = ask(method).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.extensions().get::<Refusal>(), Some(&Refusal::Maintenance));
        assert!(response.headers().contains_key("retry-after"));
    }
    assert_eq!(lab.store.calls(), calls, "the store is not touched");
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_for_later_is_new_work_too() {
    let lab = Lab::new();
    let layer = lab.layer().resumable().background(Background::at("/operations").always());
    let (app, _) = numbered(&layer);
    assert_eq!(send(&app, post("a")).await.status, 202);
    plan(&lab, 20, 600, 20).await;
    tokio::time::sleep(SEEN).await;
    assert_eq!(send_now(&app, post("a")).await.status, 202, "it is on record");
    send_now(&app, post("b")).await.assert_problem("maintenance", 503);
    tokio::time::sleep(secs(20)).await;
    send_now(&app, post("a")).await.assert_problem("maintenance", 503);
}

/// What a handler asks of another one belongs to what runs.
#[tokio::test(start_paused = true)]
async fn what_runs_may_ask_others_in_the_lead() {
    let lab = Lab::new();
    let (inner, asked) = numbered(&lab.layer());
    let outer = serve(&lab.layer(), move |request| {
        let inner = inner.clone();
        async move {
            tokio::time::sleep(secs(20)).await;
            let mut nested = post("nested");
            *nested.extensions_mut() = request.extensions().clone();
            let answer = send(&inner, nested).await;
            Ok(reply(answer.status.as_u16(), "asked"))
        }
    });
    plan(&lab, 60, 600, 50).await;
    tokio::time::sleep(secs(5)).await;
    let client = spawn(&outer, post("k"));
    tokio::time::sleep(secs(15)).await;
    send_now(&outer, post("new")).await.assert_problem("maintenance", 503);
    client.await.unwrap().unwrap().assert_first(201, "asked");
    assert_eq!(asked.get(), 1);
}

/// The hook for problems makes the user's page.
#[tokio::test(start_paused = true)]
async fn the_user_has_a_page_of_their_own() {
    let lab = Lab::new();
    let layer = lab.layer().problems(|problem, response: Response<Bytes>| {
        let page = response
            .extensions()
            .get::<Maintenance>()
            .map(|notice| format!("<h1>Back in {} seconds</h1><!-- {} -->", notice.left.as_secs(), notice.reason));
        assert_eq!(page.is_some(), problem.refusal() == Refusal::Maintenance);
        match page {
            Some(page) => response.map(|_| page.into()),
            None => response,
        }
    });
    let (app, _) = numbered(&layer);
    plan(&lab, 0, 600, 0).await;
    let refused = send_now(&app, post("k")).await;
    let page = "<h1>Back in 600 seconds</h1><!-- the database moves -->";
    assert_eq!((refused.status.as_u16(), &*refused.text()), (503, page));
    assert_eq!(
        (&refused.headers["retry-after"], &refused.headers["cache-control"]),
        (&"600".parse().unwrap(), &"no-store".parse().unwrap())
    );
}

/// The record of the windows is complete and does not expire, so that no build takes it for
/// work. A store in memory that is full drops others.
#[tokio::test(start_paused = true)]
async fn a_build_that_knows_no_windows_leaves_their_record_alone() {
    let lab = Lab::over(Faulty::over(tower_idempotency::store::MemoryStore::new().max_entries(10)));
    plan(&lab, 3600, 60, 0).await;
    let found = |filter| {
        let store = lab.store.clone();
        async move { store.scan(&Query::new(filter, 10)).await.unwrap().found.len() }
    };
    for _ in 0..2 {
        assert_eq!(
            (found(Filter::Unfinished).await, found(Filter::Lapsed).await, found(Filter::Expired).await),
            (0, 0, 0)
        );
        tokio::time::sleep(secs(100 * 365 * 24 * 3600)).await;
    }
    let layer: IdempotencyLayer = lab.layer();
    let (app, _) = numbered(&layer);
    for number in 0..200 {
        assert_eq!(send(&app, post(&number.to_string())).await.status, 201);
    }
    assert_eq!(lab.store.len(), 10, "it is full");
    let (windows, _) = operator(&lab).windows().await.unwrap();
    assert!(windows.is_empty(), "it was over a hundred years ago");
    plan(&lab, 3600, 60, 0).await;
    for number in 0..200 {
        assert_eq!(send(&app, post(&format!("more-{number}"))).await.status, 201);
    }
    assert_eq!(operator(&lab).windows().await.unwrap().0.len(), 1);
}

/// Two operators who plan at the same time both do.
#[tokio::test(start_paused = true)]
async fn plans_made_at_once_both_count() {
    let lab = Lab::new();
    let window = window(&lab, 60, 60, 0).await;
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::Slow(secs(1)));
    let (slow, quick) = (operator(&lab), operator(&lab));
    let first = tokio::spawn({
        let window = window.clone();
        async move { slow.plan(window).await.unwrap() }
    });
    settle().await;
    let second = quick.plan(window).await.unwrap();
    let first = first.await.unwrap();
    let ids: Vec<_> = quick.windows().await.unwrap().0.into_iter().map(|planned| planned.id).collect();
    assert!(ids.len() == 2 && ids.contains(&first) && ids.contains(&second), "{ids:?}");
}

/// Whichever of them looked first: a process goes on looking for the others.
#[tokio::test(start_paused = true)]
async fn an_engine_that_is_gone_leaves_the_windows_to_its_kin() {
    let lab = Lab::new();
    let engine = lab.engine();
    let layer = IdempotencyLayer::new(&engine, Scope::shared());
    let (app, runs) = numbered(&layer);
    let runner = Runner::new(engine.clone().retention(secs(3600)));
    assert_eq!(runner.run("jobs", "17", "", |_| async { Ok::<_, std::io::Error>(42) }).await.unwrap(), 42);
    drop(runner);
    settle().await;
    plan(&lab, 0, 600, 0).await;
    tokio::time::sleep(SEEN).await;
    send_now(&app, post("a")).await.assert_problem("maintenance", 503);
    assert_eq!(runs.get(), 0);
}

/// What an operator of the same process read is not what the process goes by from then on.
#[tokio::test(start_paused = true)]
async fn a_process_whose_operator_looked_first_goes_on_looking() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, runs) = numbered(&layer);
    assert!(Operator::new(&layer).windows().await.unwrap().0.is_empty());
    send(&app, post("a")).await.assert_first(201, "charge 1");
    plan(&lab, 0, 600, 0).await;
    tokio::time::sleep(SEEN).await;
    send_now(&app, post("b")).await.assert_problem("maintenance", 503);
    assert_eq!(runs.get(), 1);
}

/// The task that looks keeps nothing alive.
#[tokio::test(start_paused = true)]
async fn it_stops_looking_once_the_last_engine_is_gone() {
    let lab = Lab::new();
    let layer = lab.layer();
    let (app, _) = numbered(&layer);
    send(&app, post("a")).await.assert_first(201, "charge 1");
    let metrics = tokio::runtime::Handle::current().metrics();
    settle().await;
    assert_eq!(metrics.num_alive_tasks(), 1, "the one that looks");
    drop((app, layer));
    settle().await;
    assert_eq!(metrics.num_alive_tasks(), 0);
    let looks = lab.store.looks();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(lab.store.looks(), looks);
}

/// A runtime with a clock of its own, which runs only inside of `block_on`.
fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// The task that looks may be on a runtime that lives and does not run it.
#[test]
fn a_task_that_stands_still_is_not_waited_for() {
    let (lab, still, runs) = (Lab::new(), paused(), paused());
    let (app, count) = numbered(&lab.layer());
    let unanswered = still.block_on(async { poll_once(&mut Box::pin(send(&app, post("a")))).await });
    assert!(unanswered.is_none(), "it waits for the first look");
    runs.block_on(async {
        let answer = tokio::time::timeout(secs(60), send(&app, post("b"))).await;
        answer.expect("an answer, as it can look for itself").assert_first(201, "charge 1");
    });
    assert_eq!(count.get(), 1);
}

#[test]
fn a_task_that_stands_still_is_replaced() {
    let (lab, still, runs) = (Lab::new(), paused(), paused());
    let (app, count) = numbered(&lab.layer());
    still.block_on(async { send(&app, post("a")).await.assert_first(201, "charge 1") });
    runs.block_on(async {
        plan(&lab, 0, 600, 0).await;
        tokio::time::sleep(secs(20)).await;
        send_now(&app, post("b")).await.assert_problem("maintenance", 503);
        let looks = lab.store.looks();
        tokio::time::sleep(secs(60)).await;
        let looks = lab.store.looks() - looks;
        assert!((12..=30).contains(&looks), "{looks} in a minute");
    });
    // The one that stood still finds another in its place.
    still.block_on(async {
        settle().await;
        let looks = lab.store.looks();
        tokio::time::sleep(secs(60)).await;
        assert!(lab.store.looks() - looks <= 1, "both of them look");
    });
    assert_eq!(count.get(), 1);
}

/// Its write took, its reply was lost, and another operator's came before it could look.
#[tokio::test(start_paused = true)]
async fn a_plan_whose_reply_is_lost_is_planned_once() {
    let lab = Lab::new();
    let window = window(&lab, 60, 60, 0).await;
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::LostAfter(Duration::from_millis(500)));
    let (first, second) = (operator(&lab), operator(&lab));
    let planned = tokio::spawn({
        let window = window.clone();
        async move { first.plan(window).await.unwrap() }
    });
    settle().await;
    let mut expected = vec![second.plan(window).await.unwrap(), planned.await.unwrap()];
    let mut ids: Vec<_> = second.windows().await.unwrap().0.into_iter().map(|planned| planned.id).collect();
    expected.sort();
    ids.sort();
    assert_eq!(ids, expected);
}

/// The same of a window that is changed: it is as this operator wrote it.
#[tokio::test(start_paused = true)]
async fn a_change_whose_reply_is_lost_and_that_another_follows_is_done() {
    for ends in [false, true] {
        let lab = Lab::new();
        let id = plan(&lab, 600, 600, 0).await;
        let (first, second) = (operator(&lab), operator(&lab));
        let (seen, other) = (shown(&lab, &id).await, window(&lab, 60, 60, 0).await);
        lab.store.fail_once(Call::Swap(Status::Complete), Fault::LostAfter(Duration::from_millis(500)));
        let until = seen.window.until.after(secs(60));
        let changing =
            tokio::spawn(async move { if ends { first.end(&seen).await } else { first.extend(&seen, until).await } });
        settle().await;
        second.plan(other).await.unwrap();
        changing.await.unwrap().unwrap();
        let left = second.windows().await.unwrap().0;
        let changed = left.iter().find(|planned| planned.id == id);
        assert_eq!(changed.map(|planned| planned.window.until), (!ends).then_some(until));
        assert_eq!(left.len(), 1 + usize::from(!ends), "the other operator's is there");
    }
}

/// A newer release wrote it. What can be told goes on, and no request asks again.
#[tokio::test(start_paused = true)]
async fn windows_that_cannot_be_read_cost_one_look() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    lab.store.fail_looks(Some(StoreErrorKind::NewerFormat));
    for number in 1..100 {
        send(&app, post(&number.to_string())).await.assert_first(201, &format!("charge {number}"));
    }
    assert_eq!((lab.store.looks(), lab.events.count("Unreadable")), (1, 1));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(lab.events.count("Unreadable"), 1, "told once");
    // The process goes by them once they can be read.
    lab.store.fail_looks(None);
    plan(&lab, 0, 600, 0).await;
    tokio::time::sleep(SEEN).await;
    send_now(&app, post("new")).await.assert_problem("maintenance", 503);
}

/// Whether a call of a runner rests is told when it begins to run, not when it is made.
#[tokio::test(start_paused = true)]
async fn a_call_of_a_runner_that_waits_to_run_rests_too() {
    let lab = Lab::new();
    let runner = Runner::new(lab.engine());
    assert_eq!(runner.run("jobs", "1", "", |_| async { Ok::<_, std::io::Error>(1) }).await.unwrap(), 1);
    let made = runner.run("jobs", "2", "", |_| async { Ok::<_, std::io::Error>(2) });
    plan(&lab, 0, 600, 0).await;
    tokio::time::sleep(SEEN).await;
    let refused = made.await;
    assert!(matches!(refused, Err(RunError::Maintenance { .. })), "{refused:?}");
}
