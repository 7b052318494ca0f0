//! What falls due is finished, by one attempt at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tower_idempotency::clock::Clock;
use tower_idempotency::core::{Mode, Resolution};
use tower_idempotency::{IdempotencyLayer, Report, Runner, Scope};

use super::{BACKOFF, app, crashed, layer, once};
use crate::support;
use crate::support::bodies::Failure;
use crate::support::lab::{Inner, Lab, completer, post, reply, secs, send, serve, spawn, stored_key, with};
use crate::support::{Count, settle};

#[tokio::test(start_paused = true)]
async fn what_a_client_gave_up_is_finished_when_it_is_due() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |op, run| async move {
        let order = op.step("order", |_| async move { Ok::<_, Failure>(run) }).await.unwrap();
        if run == 1 { reply(503, "later") } else { reply(201, format!("order {order} of attempt {}", op.attempt())) }
    });
    let completer = completer(&layer, &app);
    assert_eq!(once(&completer).await, Report::default());
    send(&app, post("k")).await.assert_first(503, "later");
    clock.advance(secs(10));
    let report = once(&completer).await;
    assert_eq!((report.found, report.completed), (1, 1), "{report:?}");
    send(&app, post("k")).await.assert_replay(201, "order 1 of attempt 2");
    assert_eq!(once(&completer).await, Report::default());
}

/// The request that is run again is the one that was stored.
#[tokio::test(start_paused = true)]
async fn the_stored_request_comes_back_without_its_credentials() {
    let (lab, clock) = Lab::manual();
    let (layer, runs) = (layer(&lab), Count::default());
    let app = serve(&layer, move |request: Inner| {
        let first = runs.up() == 1;
        async move {
            let (parts, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
            let seen = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let text =
                format!("{} {} {:?} {:?} {body:?}", parts.method, parts.uri, seen("x-user"), seen("authorization"));
            Ok(if first { reply(503, text) } else { reply(200, text) })
        }
    });
    let request = with(with(post("k"), "x-user", "ann"), "authorization", "Bearer s3cret");
    // What the first run saw, the second one sees, whatever the client calls hop-by-hop.
    let request = with(request, "connection", "close, x-user");
    assert!(send(&app, request).await.text().contains("s3cret"));
    clock.advance(secs(10));
    assert_eq!(once(&completer(&layer, &app)).await.completed, 1);
    let again = with(post("k"), "x-user", "ann");
    let text = send(&app, again).await.text();
    assert_eq!(text, r#"POST /pay Some("ann") None b"{\"amount\":100}""#);
}

#[tokio::test(start_paused = true)]
async fn an_operation_whose_holder_died_is_finished_after_its_lease() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(201, "paid") });
    let completer = completer(&layer, &app);
    crashed(&lab, "k", Mode::Resumable, b"{\"amount\":100}").await;
    assert_eq!(once(&completer).await.found, 0, "held");
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.completed, 1);
    send(&app, post("k")).await.assert_replay(201, "paid");
}

/// In two processes, that is: they share nothing but the store.
#[tokio::test(start_paused = true)]
async fn two_completers_never_run_one_operation_twice_at_a_time() {
    let (lab, clock) = Lab::manual();
    crashed(&lab, "k", Mode::Resumable, b"{}").await;
    clock.advance(secs(60));
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Count::default());
    let completers = [(), ()].map(|()| {
        let other = Lab::over(lab.store.clone());
        let (layer, gate, runs) = (layer(&other), gate.clone(), runs.clone());
        let app = app(&layer, move |_, _| {
            let (gate, runs) = (gate.clone(), runs.clone());
            async move {
                runs.up();
                gate.acquire().await.unwrap().forget();
                reply(200, "done")
            }
        });
        completer(&layer, &app)
    });
    let [first, second] = completers.map(|completer| tokio::spawn(async move { once(&completer).await }));
    settle().await;
    assert_eq!(runs.get(), 1);
    gate.add_permits(2);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!((first.completed + second.completed, first.failed + second.failed), (1, 0), "{first:?} {second:?}");
    assert_eq!(runs.get(), 1);
}

/// When to try again is in the store, so it holds for every machine. A client
/// need not wait.
#[tokio::test(start_paused = true)]
async fn the_back_off_is_kept_in_the_store() {
    let (lab, clock) = Lab::manual();
    let mut longest = Duration::ZERO;
    for run in 0..20 {
        let layer = layer(&lab);
        let app = app(&layer, |_, _| async { reply(503, "later") });
        let elsewhere = completer(&layer, &app);
        let key = format!("k{run}");
        for tries in 1..4 {
            send(&app, post(&key)).await.assert_first(503, "later");
            let record = lab.store.peek(&stored_key(&key)).await.unwrap();
            assert_eq!(record.tries(), tries);
            let pause = record.due().since(clock.now());
            assert!(pause <= BACKOFF.longest(tries), "{pause:?} after {tries} tries");
            longest = longest.max(pause);
            if !pause.is_zero() {
                assert_eq!(once(&elsewhere).await.found, 0, "not before its time");
            }
        }
        clock.advance(secs(40));
        assert_eq!(once(&elsewhere).await.released, 1);
        // Out of the way of the next one.
        lab.decide(&key, Resolution::Park { why: "enough".into() }).await;
    }
    assert!(longest > secs(10), "it grows: {longest:?}");
}

/// The identity that authentication would have put there.
#[derive(Clone)]
struct User(&'static str);

#[tokio::test(start_paused = true)]
async fn a_hook_puts_back_what_is_not_stored() {
    for knows in [true, false] {
        let (lab, clock) = Lab::manual();
        let scope = Scope::by(|parts| parts.extensions.get::<User>().map(|user| user.0));
        let engine = lab.engine().backoff(BACKOFF);
        let (layer, runs) = (IdempotencyLayer::new(engine, scope).resumable(), Count::default());
        let app = serve(&layer, move |request: Inner| {
            let user = request.extensions().get::<User>().expect("a user").0;
            let first = runs.up() == 1;
            async move { Ok(if first { reply(503, user) } else { reply(200, user) }) }
        });
        let request = || {
            let mut request = post("k");
            request.extensions_mut().insert(User("ann"));
            request
        };
        send(&app, request()).await.assert_first(503, "ann");
        clock.advance(secs(10));
        let completer = completer(&layer, &app).prepare(move |mut parts| async move {
            parts.extensions.insert(User("ann"));
            if knows { Ok(parts) } else { Err("the user is gone".to_owned()) }
        });
        let report = once(&completer).await;
        assert_eq!((report.completed, report.parked), if knows { (1, 0) } else { (0, 1) });
        let answer = send(&app, request()).await;
        if knows { answer.assert_replay(200, "ann") } else { answer.assert_problem("outcome-unknown", 500) }
    }
}

/// Work that only its caller can go on with is met once, and left.
#[tokio::test(start_paused = true)]
async fn what_has_no_request_is_left_to_its_caller() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    let completer = completer(&layer, &app);
    let runner = Runner::new(lab.store.clone());
    let failed = runner.run("jobs", "a", "", |_| async { Err::<(), _>(Failure("no")) }).await;
    assert!(failed.is_err());
    let mut hung = Box::pin(runner.run("jobs", "b", "", |_| std::future::pending::<Result<u8, Failure>>()));
    assert!(support::poll_once(&mut hung).await.is_none());
    // As if its process had died: the lease is not renewed in a stopped world.
    clock.advance(secs(60));
    let report = once(&completer).await;
    assert_eq!((report.found, report.skipped), (1, 1), "{report:?}");
    clock.advance(secs(24 * 3600));
    assert_eq!(once(&completer).await.found, 0);
    for key in ["a", "b"] {
        let done = runner.run("jobs", key, "", |op| async move { Ok::<_, Failure>(op.attempt()) }).await;
        assert_eq!(done.unwrap(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_and_a_completer_meet_and_one_runs() {
    let (lab, clock) = Lab::manual();
    let (gate, runs) = (Arc::new(Semaphore::new(0)), Count::default());
    let (layer, door, count) = (layer(&lab), gate.clone(), runs.clone());
    let app = app(&layer, move |_, _| {
        let (door, count) = (door.clone(), count.clone());
        async move {
            count.up();
            door.acquire().await.unwrap().forget();
            reply(200, "done")
        }
    });
    crashed(&lab, "k", Mode::Resumable, b"{\"amount\":100}").await;
    clock.advance(secs(60));
    let completer = completer(&layer, &app);
    let work = tokio::spawn(async move { once(&completer).await });
    settle().await;
    send(&app, post("k")).await.assert_problem("in-progress", 409);
    let stranger = spawn(&app, support::lab::post_body("k", "other"));
    settle().await;
    stranger.await.unwrap().unwrap().assert_problem("key-reused", 422);
    gate.add_permits(1);
    assert_eq!((work.await.unwrap().completed, runs.get()), (1, 1));
    send(&app, post("k")).await.assert_replay(200, "done");
}
