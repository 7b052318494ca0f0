//! What is finished without its client, and what is not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::sync::{Semaphore, oneshot};
use tower::{ServiceExt, service_fn};
use tower_idempotency::clock::{Clock, ManualClock};
use tower_idempotency::core::{
    Change, Fenced, Fingerprint, Hold, Key, Mode, Moment, Reached, Record, Resolution, Status, StoredRequest,
    StoredResponse, What,
};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::conformance::{Damage, FaultyStore};
use tower_idempotency::store::{MemoryStore, Store, StoreErrorKind};
use tower_idempotency::{
    Backoff, Completer, Engine, EventKind, IdempotencyLayer, Operation, Operator, Reconciled, Refusal, Report, Runner,
    Scope, StoredBody, Sweeper,
};

use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{
    App, Inner, Lab, completer, operation, post, reply, secs, send, serve, spawn, stored_key, with,
};
use crate::support::store::{Call, Fault, Faulty};
use crate::support::{self, Count, settle};

type Said = Response<TestBody>;

const BACKOFF: Backoff = Backoff::new(secs(10), secs(40));

fn layer(lab: &Lab) -> IdempotencyLayer {
    lab.layer_with(|engine| engine.backoff(BACKOFF)).resumable()
}

/// A handler that gets its operation and the number of the run.
fn app<F, Fut>(layer: &IdempotencyLayer, handler: F) -> App
where
    F: Fn(Operation, usize) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Said> + Send + 'static,
{
    let runs = Count::default();
    serve(layer, move |request| {
        let run = handler(operation(&request), runs.up());
        async move { Ok(run.await) }
    })
}

async fn once(completer: &Completer) -> Report {
    completer.run_once().await.unwrap()
}

async fn stored(lab: &Lab) -> Record {
    lab.store.peek(&stored_key("k")).await.unwrap()
}

fn parked_why(record: &Record) -> String {
    match record.hold() {
        Hold::Parked { why } => why.to_string(),
        other => panic!("not parked: {other:?}"),
    }
}

/// A claim whose holder died at once, as the layer would have made it.
async fn crashed(lab: &Lab, key: &str, mode: Mode, body: &'static [u8]) {
    let request = Request::post("/pay").body(()).unwrap().into_parts().0;
    let body = Bytes::from_static(body);
    let request = StoredRequest::capture(&request.method, &request.uri, &request.headers, body.clone());
    let fingerprint = Fingerprint::of([b"POST".as_slice(), b"/pay", b"", b"", &body]);
    let request = (mode == Mode::Resumable).then(|| Arc::new(request));
    let claim = tower_idempotency::core::Claim { fingerprint, mode, lease: secs(60), request };
    Ledger::new(lab.store.clone()).apply(&stored_key(key), None, claim).await.unwrap();
}

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

#[tokio::test(start_paused = true)]
async fn what_fails_too_often_is_parked_and_the_others_go_on() {
    let (lab, clock) = Lab::manual();
    let (layer, runs) = (layer(&lab), Count::default());
    let count = runs.clone();
    let app = serve(&layer, move |request: Inner| {
        let poison = request.headers().contains_key("x-poison");
        let run = if poison { count.up() } else { 0 };
        async move {
            assert!(run % 2 == 0, "a poison pill");
            Ok(if poison { reply(500, "no") } else { reply(200, "fine") })
        }
    });
    let completer = completer(&layer, &app).max_tries(4);
    send(&app, with(post("k"), "x-poison", "yes")).await;
    crashed(&lab, "other", Mode::Resumable, b"{}").await;
    let mut total = (0, 0, 0);
    for _ in 0..6 {
        clock.advance(secs(60));
        let report = once(&completer).await;
        total = (total.0 + report.completed, total.1 + report.released, total.2 + report.parked);
    }
    assert_eq!(total, (1, 3, 1), "the other, three more tries, and the end of them");
    assert_eq!(runs.get(), 4);
    assert_eq!(parked_why(&stored(&lab).await), "it was tried 4 times");
    assert_eq!((lab.events.count("Parked"), lab.events.count("Panicked")), (1, 2));
    send(&app, with(post("k"), "x-poison", "yes")).await.assert_problem("outcome-unknown", 500);
    // A human says that it may go on: the count starts anew.
    lab.decide("k", Resolution::RunAgain).await;
    assert_eq!(once(&completer).await.released, 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_parked() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(503, "later") });
    let completer = completer(&layer, &app).max_age(secs(100));
    send(&app, post("k")).await.assert_first(503, "later");
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.released, 1);
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.parked, 1);
    assert_eq!(parked_why(&stored(&lab).await), "it is 120 seconds old");
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

#[tokio::test(start_paused = true)]
async fn at_most_once_a_reconciler_is_asked_and_nothing_runs_again() {
    let said: [(Option<Reconciled<u16>>, &str); 4] = [
        (Some(Reconciled::Happened(201)), "replayed"),
        (Some(Reconciled::DidNotHappen), "runs"),
        (Some(Reconciled::Unknown), "parked"),
        (None, "parked"),
    ];
    for (said, then) in said {
        let (lab, clock) = Lab::manual();
        let (layer, runs) = (lab.layer(), Count::default());
        let count = runs.clone();
        let app = app(&layer, move |_, _| {
            count.up();
            async { reply(200, "ran") }
        });
        let mut completer = completer(&layer, &app);
        if let Some(said) = said {
            completer = completer.reconcile(move |doubt| async move {
                assert_eq!(doubt.key, stored_key("k"));
                match said {
                    Reconciled::Happened(status) => {
                        Reconciled::Happened(Response::builder().status(status).body(Bytes::from("found")).unwrap())
                    }
                    Reconciled::DidNotHappen => Reconciled::DidNotHappen,
                    Reconciled::Unknown => Reconciled::Unknown,
                }
            });
        }
        crashed(&lab, "k", Mode::AtMostOnce, b"{\"amount\":100}").await;
        assert_eq!(once(&completer).await.found, 0, "held");
        clock.advance(secs(60));
        let report = once(&completer).await;
        assert_eq!((report.found, runs.get()), (1, 0));
        assert_eq!((report.reconciled, report.parked), if then == "parked" { (0, 1) } else { (1, 0) });
        assert_eq!(once(&completer).await.found, 0, "each is asked about once");
        let answer = send(&app, post("k")).await;
        match then {
            "replayed" => answer.assert_replay(201, "found"),
            "runs" => answer.assert_first(200, "ran"),
            _ => answer.assert_problem("outcome-unknown", 500),
        }
    }
}

/// The handler was in time, and the store is slow: what it answered is kept.
#[tokio::test(start_paused = true)]
async fn a_deadline_does_not_cut_off_the_end() {
    for of_the_route in [false, true] {
        let lab = Lab::new();
        let mut layer = lab.layer();
        if of_the_route {
            layer = layer.background(tower_idempotency::Background::at("/ops").deadline(secs(1)));
        } else {
            layer = layer.background(tower_idempotency::Background::at("/ops"));
        }
        let app = app(&layer, |_, _| async { reply(201, "paid") });
        let completer = completer(&layer, &app).deadline(if of_the_route { secs(60) } else { secs(1) });
        assert_eq!(send(&app, with(post("k"), "prefer", "respond-async")).await.status, 202);
        lab.store.fail_once(Call::Swap(Status::Complete), Fault::Slow(secs(2)));
        let report = once(&completer).await;
        assert_eq!((report.completed, report.failed), (1, 0), "of the route: {of_the_route}");
        assert_eq!((lab.events.count("CutOff"), lab.events.count("Completed")), (0, 1));
        send(&app, post("k")).await.assert_replay(201, "paid");
    }
}

/// More is due than one round starts: the next one does not wait for the poll.
#[tokio::test(start_paused = true)]
async fn more_than_one_round_starts_is_run_at_once() {
    let (lab, clock) = Lab::manual();
    let (layer, runs) = (layer(&lab), Count::default());
    let count = runs.clone();
    let app = app(&layer, move |_, _| {
        count.up();
        async { reply(201, "paid") }
    });
    for number in 0..2100 {
        crashed(&lab, &format!("k{number}"), Mode::Resumable, b"{}").await;
    }
    clock.advance(secs(60));
    let completer = completer(&layer, &app).poll(secs(3600));
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async move { completer.run(async { stopped.await.unwrap_or(()) }).await });
    // Time is paused: this is until nothing else can happen.
    tokio::time::sleep(secs(1)).await;
    assert_eq!(runs.get(), 2100);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

/// Whatever is around the layer may hang; the answer is stored by then.
#[tokio::test(start_paused = true)]
async fn what_hangs_after_the_end_is_not_waited_for() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(201, "paid") });
    let inner = app.clone();
    let hanging = service_fn(move |request: Request<StoredBody>| {
        let call = inner.clone().oneshot(request.map(support::bodies::full));
        async move {
            call.await.unwrap();
            std::future::pending::<Result<Response<()>, Failure>>().await
        }
    });
    let completer = Completer::new(&layer, hanging).deadline(secs(1));
    crashed(&lab, "k", Mode::Resumable, b"{\"amount\":100}").await;
    clock.advance(secs(60));
    let report = tokio::time::timeout(secs(60), once(&completer)).await.expect("it does not wait");
    assert_eq!(report.completed, 1);
    send(&app, post("k")).await.assert_replay(201, "paid");
}

#[tokio::test(start_paused = true)]
async fn a_reconciler_that_panics_calls_a_human() {
    let (lab, clock) = Lab::manual();
    let layer = lab.layer();
    let app = app(&layer, |_, _| async { reply(200, "ran") });
    let completer = completer(&layer, &app).reconcile(|_| async { panic!("a planned panic") });
    crashed(&lab, "k", Mode::AtMostOnce, b"{}").await;
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.parked, 1);
    assert_eq!(parked_why(&stored(&lab).await), "its reconciler panicked");
}

#[tokio::test(start_paused = true)]
async fn a_stored_request_that_is_too_large_by_now_is_parked() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab).request_limit(3);
    let app = app(&layer, |_, _| async { reply(200, "ran") });
    crashed(&lab, "k", Mode::Resumable, b"four").await;
    clock.advance(secs(60));
    assert_eq!(once(&completer(&layer, &app)).await.parked, 1);
    assert_eq!(parked_why(&stored(&lab).await), "its request has 4 bytes, more than is read");
}

/// It can't be marked, as it is not overwritten; so it is told once, and left.
#[tokio::test(start_paused = true)]
async fn what_can_not_be_read_is_told_once_and_the_others_go_on() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    let completer = completer(&layer, &app).concurrency(1);
    crashed(&lab, "damaged", Mode::Resumable, b"{}").await;
    clock.advance(secs(1));
    crashed(&lab, "k", Mode::Resumable, b"{}").await;
    clock.advance(secs(60));
    lab.store.fail_once(Call::Load, Fault::Before(StoreErrorKind::Corrupt));
    let report = once(&completer).await;
    assert_eq!((report.found, report.unreadable, report.failed, report.completed), (2, 1, 0, 1));
    for _ in 0..3 {
        assert_eq!(once(&completer).await.found, 0);
    }
    assert_eq!(lab.events.count("Unreadable"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_off_and_counts() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let dropped = Arc::new(());
    let alive = Arc::downgrade(&dropped);
    let guard = Arc::new(Mutex::new(Some(dropped)));
    let app = app(&layer, move |op, run| {
        let held = guard.lock().unwrap().take();
        async move {
            let _held = held;
            if run == 1 {
                let hung = op.step("mail", |_| std::future::pending::<Result<(), Failure>>());
                hung.await.unwrap();
            }
            reply(200, format!("attempt {}", op.attempt()))
        }
    });
    crashed(&lab, "k", Mode::Resumable, b"{\"amount\":100}").await;
    tokio::time::sleep(secs(60)).await;
    let completer = completer(&layer, &app).deadline(secs(200));
    let began = tokio::time::Instant::now();
    assert_eq!((once(&completer).await.released, began.elapsed().as_secs()), (1, 200));
    assert!(alive.upgrade().is_none(), "the handler is gone");
    let cut: Vec<_> = lab
        .events
        .all()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::CutOff { steps } => Some(steps),
            _ => None,
        })
        .collect();
    assert_eq!(cut, [["mail"]]);
    tokio::time::sleep(secs(20)).await;
    assert_eq!(once(&completer).await.completed, 1);
    send(&app, post("k")).await.assert_replay(200, "attempt 3");
}

/// A service that answers before the layer is reached must not make it a loop.
#[tokio::test(start_paused = true)]
async fn an_answer_from_before_the_layer_counts_as_a_try() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let outer = service_fn(|_: Request<StoredBody>| async { Ok::<_, Failure>(reply(401, "who are you?")) });
    let completer = Completer::new(&layer, outer).max_tries(3);
    crashed(&lab, "k", Mode::Resumable, b"{}").await;
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.released, 1);
    assert_eq!(stored(&lab).await.attempts(), 2);
    clock.advance(secs(40));
    assert_eq!(once(&completer).await.released, 1);
    clock.advance(secs(40));
    assert_eq!(once(&completer).await.parked, 1);
}

/// A service that repeats its requests gets one run out of one claim.
#[tokio::test(start_paused = true)]
async fn a_claim_is_run_once_however_often_the_service_asks() {
    let (lab, clock) = Lab::manual();
    let (layer, runs) = (layer(&lab), Count::default());
    let count = runs.clone();
    let app = app(&layer, move |_, _| {
        count.up();
        async { reply(200, "ran") }
    });
    let refusals = Arc::new(Mutex::new(Vec::new()));
    let (inner, seen) = (app.clone(), refusals.clone());
    let twice = service_fn(move |request: Request<StoredBody>| {
        let (app, seen) = (inner.clone(), seen.clone());
        async move {
            let mut last = None;
            for request in [request.clone(), request] {
                let is_work = request.method() == http::Method::POST;
                let answer = app.clone().oneshot(request.map(support::bodies::full)).await?;
                if !is_work {
                    return Ok(answer);
                }
                seen.lock().unwrap().push(answer.extensions().get::<Refusal>().copied());
                last = Some(answer);
            }
            Ok::<_, Failure>(last.unwrap())
        }
    });
    crashed(&lab, "k", Mode::Resumable, b"{}").await;
    clock.advance(secs(60));
    assert_eq!(once(&Completer::new(&layer, twice)).await.completed, 1);
    assert_eq!((runs.get(), refusals.lock().unwrap().as_slice()), (1, [None, Some(Refusal::InProgress)].as_slice()));
}

#[tokio::test(start_paused = true)]
async fn no_more_run_at_once_than_may() {
    let (lab, clock) = Lab::manual();
    let (running, most, gate) = (Count::default(), Count::default(), Arc::new(Semaphore::new(0)));
    let (layer, count, door) = (layer(&lab), running.clone(), gate.clone());
    let app = app(&layer, move |_, _| {
        let (count, most, door) = (count.clone(), most.clone(), door.clone());
        async move {
            let (before, _) = (count.get(), count.up());
            assert!(before < 2 + most.get(), "too many at once");
            door.acquire().await.unwrap().forget();
            most.up();
            reply(200, "done")
        }
    });
    for key in ["a", "b", "c", "d", "e"] {
        crashed(&lab, key, Mode::Resumable, b"{}").await;
    }
    clock.advance(secs(60));
    let completer = completer(&layer, &app).concurrency(2);
    let work = tokio::spawn(async move { once(&completer).await });
    settle().await;
    assert_eq!(running.get(), 2);
    gate.add_permits(5);
    assert_eq!(work.await.unwrap().completed, 5);
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

/// Runs `completer` for as long as `during` takes.
async fn running(completer: &Completer, during: impl Future<Output = ()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = completer.clone();
    let work = tokio::spawn(async move { worker.run(async { stopped.await.unwrap_or(()) }).await });
    during.await;
    stop.send(()).unwrap();
    work.await.unwrap().unwrap();
}

/// However rarely the store is asked: what this process releases wakes it.
#[tokio::test(start_paused = true)]
async fn what_this_process_releases_is_finished_when_it_is_due() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let app = app(&layer, |_, run| async move { if run == 1 { reply(503, "later") } else { reply(200, "done") } });
    let completer = completer(&layer, &app).poll(secs(24 * 3600));
    running(&completer, async {
        settle().await;
        send(&app, post("k")).await.assert_first(503, "later");
        tokio::time::sleep(secs(11)).await;
        send(&app, post("k")).await.assert_replay(200, "done");
    })
    .await;
    assert_eq!(lab.store.scans(), 2, "at the start, and when it was due");
}

#[tokio::test(start_paused = true)]
async fn an_idle_completer_asks_once_a_poll() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    running(&completer(&layer, &app), tokio::time::sleep(secs(5000))).await;
    assert!((750..=1501).contains(&lab.store.scans()), "{} scans in a thousand polls", lab.store.scans());
    assert_eq!(lab.store.calls(), 0, "and nothing else");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_asked_rarely_and_told_of_once() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    crashed(&lab, "k", Mode::Resumable, b"{\"amount\":100}").await;
    lab.store.down();
    running(&completer(&layer, &app), async {
        tokio::time::sleep(secs(3600)).await;
        assert!((40..=150).contains(&lab.store.scans()), "{} scans in an hour", lab.store.scans());
        assert_eq!(lab.events.names(), ["StoreFailed"]);
        lab.store.heal();
        tokio::time::sleep(secs(61)).await;
        send(&app, post("k")).await.assert_replay(200, "done");
    })
    .await;
}

/// One operation that hangs keeps no other waiting; and shutting down waits
/// for what runs.
#[tokio::test(start_paused = true)]
async fn others_go_on_while_one_hangs_and_shutdown_waits() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let app = serve(&layer, |request: Inner| async move {
        if request.headers().contains_key("x-slow") && operation(&request).is_resumed() {
            tokio::time::sleep(secs(200)).await;
        }
        Ok(if operation(&request).is_resumed() { reply(200, "done") } else { reply(503, "later") })
    });
    let slow = || with(post("slow"), "x-slow", "yes");
    send(&app, slow()).await.assert_first(503, "later");
    running(&completer(&layer, &app), async {
        tokio::time::sleep(secs(20)).await;
        send(&app, slow()).await.assert_problem("in-progress", 409);
        send(&app, post("k")).await.assert_first(503, "later");
        tokio::time::sleep(secs(20)).await;
        send(&app, post("k")).await.assert_replay(200, "done");
    })
    .await;
    send(&app, slow()).await.assert_replay(200, "done");
}

#[tokio::test(start_paused = true)]
async fn the_sweeper_removes_what_has_expired_and_nothing_else() {
    let clock = ManualClock::new();
    let store = Faulty::on(&clock);
    let lab = Lab::over(store.clone());
    let short = app(&lab.layer_with(|engine| engine.retention(secs(1))), |_, _| async { reply(200, "done") });
    let long = app(&lab.layer_with(|engine| engine.retention(secs(1000))), |_, _| async { reply(200, "done") });
    for n in 0..200 {
        send(&short, post(&format!("short {n}").replace(' ', "-"))).await;
    }
    send(&long, post("long")).await;
    crashed(&lab, "unfinished", Mode::Resumable, b"{}").await;
    let sweeper = Sweeper::new(store.clone());
    assert_eq!(sweeper.run_once().await.unwrap().removed, 0);
    clock.advance(secs(999));
    assert_eq!((sweeper.run_once().await.unwrap().removed, store.len()), (200, 2));
    clock.advance(secs(365 * 24 * 3600));
    assert_eq!((sweeper.run_once().await.unwrap().removed, store.len()), (1, 1), "unfinished ones stay");
    assert_eq!(store.load(&stored_key("unfinished")).await.unwrap().record.unwrap().attempts(), 1);
}

/// What happened stays with the record: by whom, in which attempt, and when by
/// the store's clock.
#[tokio::test(start_paused = true)]
async fn the_history_of_an_operation_stays_with_it() {
    let lab = Lab::new();
    let handler = |op: Operation, _: usize| async move {
        tokio::time::sleep(secs(2)).await;
        op.step("order", |_| async { Ok::<_, Failure>(17) }).await.unwrap();
        let resumed = op.is_resumed();
        let charge = op.pay("charge", |_| async move { if resumed { Ok(1) } else { Err(Failure("away")) } });
        if charge.await.is_ok() { reply(201, "paid") } else { reply(503, "later") }
    };
    let named = |name| lab.layer_with(|engine| engine.backoff(BACKOFF).instance(name)).resumable();
    let (first, second) = (named("web-1"), named("worker-2"));
    let (web, worker) = (app(&first, handler), app(&second, handler));
    send(&web, post("k")).await.assert_first(503, "later");
    let begin = stored(&lab).await.created_at().unwrap();
    let told = |record: &Record| -> Vec<String> {
        let tell = |moment: Moment| {
            let (text, by) = (moment.text.unwrap_or_default(), moment.by.unwrap_or_default());
            format!("{} {} {text} {by} +{}", moment.attempt, moment.what.name(), moment.at.since(begin).as_secs())
        };
        record.history().into_iter().map(tell).collect()
    };
    let unfinished =
        ["1 claimed  web-1 +0", "1 step-saved order  +2", "1 step-begun charge  +2", "1 released  web-1 +2"];
    assert_eq!(told(&stored(&lab).await), unfinished);
    let operator = Operator::new(Engine::new(lab.store.clone()).instance("eve"));
    tokio::time::sleep(secs(1)).await;
    let shown = operator.find("", "k").await.unwrap();
    operator.resolve(&shown, Resolution::Park { why: "wait".into() }).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    lab.decide("k", Resolution::RunAgain).await;
    tokio::time::sleep(secs(6)).await;
    assert_eq!(once(&completer(&second, &worker)).await.completed, 1);
    let all = [
        "1 claimed  web-1 +0",
        "1 step-saved order  +2",
        "1 released  web-1 +2",
        "1 decided park eve +3",
        "1 parked wait eve +3",
        "1 decided run again  +4",
        "2 resumed  worker-2 +10",
        "2 step-saved charge  +12",
        "2 completed  worker-2 +12",
    ];
    assert_eq!(told(&stored(&lab).await), all);
}

/// However long it takes, a record stays small.
#[tokio::test(start_paused = true)]
async fn a_long_history_leaves_out_its_middle() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |op, run| async move {
        for step in 0..10 {
            op.step(format!("{run} {step}"), |_| async { Ok::<_, Failure>(()) }).await.unwrap();
        }
        if run < 50 { reply(503, "later") } else { reply(200, "done") }
    });
    for _ in 0..50 {
        send(&app, post("k")).await;
        clock.advance(secs(1));
    }
    let record = stored(&lab).await;
    let history = record.history();
    assert_eq!(history.len(), 33, "{history:?}");
    assert_eq!((history[0].attempt, history[0].what), (1, What::Claimed));
    let last = history.last().unwrap();
    assert_eq!((last.attempt, last.what), (50, What::Completed));
    assert!(record.history_dropped() > 500, "{}", record.history_dropped());
    assert!(record.encode().head.len() < 3000, "{} bytes", record.encode().head.len());
}

/// What has no history pays nothing for it.
#[tokio::test]
async fn a_plain_operation_has_its_history_for_nothing() {
    let lab = Lab::new();
    let app = app(&lab.layer(), |_, _| async { reply(200, "done") });
    send(&app, post("k")).await.assert_first(200, "done");
    let record = stored(&lab).await;
    assert_eq!(record.history().iter().map(|moment| moment.what).collect::<Vec<_>>(), [What::Claimed, What::Completed]);
    let head = record.encode().head;
    assert!(head.len() <= 80, "{} bytes: {head:?}", head.len());
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

/// A layer over a store that can be damaged, and how often it was told of it.
fn over_damage(store: &Arc<FaultyStore<MemoryStore>>) -> (IdempotencyLayer, Arc<std::sync::atomic::AtomicUsize>) {
    let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let layer = IdempotencyLayer::new(
        Engine::new(Arc::clone(store)).on_event(move |event| {
            if matches!(event.kind, EventKind::Unreadable { .. }) {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }),
        Scope::shared(),
    )
    .resumable();
    (layer, told)
}

/// Claims that lapse a minute later.
async fn claims(store: &Arc<FaultyStore<MemoryStore>>, keys: std::ops::Range<usize>) -> Vec<Key> {
    let ledger = Ledger::new(Arc::clone(store));
    let request = Request::post("/pay").body(()).unwrap().into_parts().0;
    let request = StoredRequest::capture(&request.method, &request.uri, &request.headers, Bytes::new());
    let fingerprint = Fingerprint::of([b"POST".as_slice(), b"/pay", b"", b"", b""]);
    let claim = tower_idempotency::core::Claim {
        fingerprint,
        mode: Mode::Resumable,
        lease: secs(60),
        request: Some(Arc::new(request)),
    };
    let keys: Vec<_> = keys.map(|n| stored_key(&n.to_string())).collect();
    for key in &keys {
        ledger.apply(key, None, claim.clone()).await.unwrap();
    }
    keys
}

async fn keeps_no_other(hidden: usize, by_scan: bool) {
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    let store = Arc::new(FaultyStore::new(store));
    for key in claims(&store, 0..hidden).await {
        if by_scan {
            store.damage(key, Damage::NewerFormat);
        } else {
            store.damage_unseen(key, Damage::Corrupt);
        }
    }
    clock.advance(secs(1));
    claims(&store, hidden..hidden + 3).await;
    clock.advance(secs(60));
    let (layer, told) = over_damage(&store);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    let completer = completer(&layer, &app);
    let (mut completed, mut unreadable) = (0, 0);
    // A round starts a thousand.
    for _ in 0..=hidden / 1000 {
        let report = once(&completer).await;
        (completed, unreadable) = (completed + report.completed, unreadable + report.unreadable);
        assert_eq!(report.failed, 0, "{report:?}");
    }
    assert_eq!((completed, unreadable), (3, hidden));
    assert_eq!(told.load(std::sync::atomic::Ordering::SeqCst), hidden, "each is told once");
}

#[tokio::test]
async fn ten_thousand_that_a_scan_can_not_read_keep_no_other() {
    keeps_no_other(10_000, true).await;
}

#[tokio::test]
async fn ten_thousand_that_prove_unreadable_keep_no_other() {
    keeps_no_other(10_000, false).await;
}

/// More than are remembered: those that are forgotten are looked at again, and
/// what lies behind them has its turn.
#[tokio::test(start_paused = true)]
async fn more_unreadable_ones_than_are_remembered_keep_no_other() {
    let clock = ManualClock::new();
    let store = Arc::new(FaultyStore::new(MemoryStore::with_clock(clock.clone())));
    for key in claims(&store, 0..12_500).await {
        store.damage(key, Damage::Corrupt);
    }
    clock.advance(secs(1));
    claims(&store, 12_500..12_503).await;
    clock.advance(secs(60));
    let (layer, _) = over_damage(&store);
    let app = app(&layer, |_, _| async { reply(200, "done") });
    let completer = completer(&layer, &app);
    let mut completed = 0;
    for _ in 0..14 {
        completed += once(&completer).await.completed;
    }
    assert_eq!(completed, 3);
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_goes_past_what_it_can_not_read() {
    let clock = ManualClock::new();
    let store = Arc::new(FaultyStore::new(MemoryStore::with_clock(clock.clone())));
    let keys = claims(&store, 0..250).await;
    let ledger = Ledger::new(Arc::clone(&store));
    for key in &keys {
        let record = store.load(key).await.unwrap().record.unwrap();
        let fence = tower_idempotency::core::Fence::of(record.version());
        let response = StoredResponse::capture(http::StatusCode::OK, &http::HeaderMap::new(), Some(Bytes::new()));
        let end = Change::Complete { response: Arc::new(response), retention: secs(60), reached: Reached::All };
        ledger.apply(key, None, Fenced { fence, changes: vec![end] }).await.unwrap().output.unwrap();
    }
    for key in &keys[..150] {
        store.damage(*key, Damage::NewerFormat);
    }
    for key in &keys[150..200] {
        store.damage_unseen(*key, Damage::Corrupt);
    }
    clock.advance(secs(120));
    let swept = Sweeper::new(Arc::clone(&store)).run_once().await.unwrap();
    assert_eq!((swept.removed, swept.unreadable), (50, 200));
    assert_eq!(store.inner().len(), 200, "what can't be read stays");
}
