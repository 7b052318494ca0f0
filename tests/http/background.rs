//! What is answered 202 and run later, and what the status resource tells.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};
use tower::ServiceExt;
use tower_idempotency::clock::Clock;
use tower_idempotency::core::{Resolution, Status, What};
use tower_idempotency::store::{MemoryStore, StoreErrorKind};
use tower_idempotency::{
    Background, Backoff, Completer, CompleterError, EventKind, IdempotencyLayer, Operation, Reconciled, Refusal, Scope,
    StatusService,
};

use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{
    Answer, App, Inner, Lab, completer, operation, post, post_body, reply, secs, send, serve, stored_key, with,
};
use crate::support::store::{Call, Fault, Faulty};
use crate::support::{self, Count, settle};

fn layer(lab: &Lab) -> IdempotencyLayer {
    lab.layer_with(|engine| engine.backoff(Backoff::new(secs(10), secs(10))))
        .resumable()
        .background(Background::at("/operations"))
}

/// A handler that gets its operation, and the number of times it ran.
fn counting<F, Fut>(layer: &IdempotencyLayer, handler: F) -> (App, Count)
where
    F: Fn(Operation) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<TestBody>> + Send + 'static,
{
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |request: Inner| {
        count.up();
        let run = handler(operation(&request));
        async move { Ok(run.await) }
    });
    (app, runs)
}

fn paying(layer: &IdempotencyLayer) -> (App, Count) {
    counting(layer, |_| async { reply(201, "paid") })
}

fn later(key: &str) -> Request<TestBody> {
    with(post(key), "prefer", "respond-async")
}

#[track_caller]
fn assert_accepted(answer: &Answer, location: &str) {
    assert_eq!((answer.status.as_u16(), answer.refusal), (202, None), "{answer:?}");
    assert_eq!(answer.headers["location"], location);
    assert_eq!(answer.headers["preference-applied"], "respond-async");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert!(!answer.headers.contains_key("idempotent-replayed"), "it is no stored answer");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body, json!({ "state": "accepted", "location": location }));
}

/// An answer of the status resource.
struct Shown {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Shown {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn tag(&self) -> &str {
        self.headers["etag"].to_str().unwrap()
    }
}

async fn ask(service: &StatusService, method: &str, path: &str, headers: &[(&'static str, &str)]) -> Shown {
    let mut request = Request::builder().method(method).uri(path).body(()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let (parts, body) = service.clone().oneshot(request).await.unwrap().into_parts();
    let text = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    Shown { status: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8(text.to_vec()).unwrap() }
}

async fn shown(layer: &IdempotencyLayer, key: &str) -> Shown {
    ask(&StatusService::new(layer), "GET", &format!("/operations/{key}"), &[]).await
}

#[tokio::test(start_paused = true)]
async fn the_client_chooses_and_the_duplicates_get_the_same() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, runs) = paying(&layer);
    let completer = completer(&layer, &app);

    // Without the preference all is as ever, and so with ones nobody knows.
    send(&app, post("now")).await.assert_first(201, "paid");
    send(&app, with(post("now-2"), "prefer", "wait=10, handling=lenient")).await.assert_first(201, "paid");
    assert_eq!(runs.get(), 2);

    let first = send(&app, later("k")).await;
    assert_accepted(&first, "/operations/k");
    let again = send(&app, later("k")).await;
    assert_accepted(&again, "/operations/k");
    assert_eq!((first.headers, first.body), (again.headers, again.body), "byte for byte");
    assert_eq!((runs.get(), lab.events.count("Accepted")), (2, 1));
    send(&app, with(post_body("k", "other"), "prefer", "respond-async")).await.assert_problem("key-reused", 422);

    let report = completer.run_once().await.unwrap();
    assert_eq!((report.found, report.completed, runs.get()), (1, 1, 3), "due at once");
    send(&app, later("k")).await.assert_replay(201, "paid");
    send(&app, post("k")).await.assert_replay(201, "paid");
    assert_eq!(completer.run_once().await.unwrap().found, 0);
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    let history: Vec<_> = record.history().iter().map(|moment| (moment.attempt, moment.what)).collect();
    assert_eq!(history, [(0, What::Accepted), (1, What::Claimed), (1, What::Completed)]);
}

#[tokio::test(start_paused = true)]
async fn a_route_can_always_do_so() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab).background(Background::at("/jobs/").always().retry_after(secs(7)));
    let (app, runs) = paying(&layer);
    let answer = send(&app, post("\"a/b c\"")).await;
    assert_accepted(&answer, "/jobs/a%2Fb%20c");
    assert_eq!(answer.headers["retry-after"], "7");
    assert_eq!(runs.get(), 0);
    let status = ask(&StatusService::new(&layer), "GET", "/jobs/a%2Fb%20c", &[]).await;
    assert_eq!((status.status, status.json()["state"].clone()), (200, json!("queued")));
    assert_eq!(status.headers["retry-after"], "7");
}

/// While it runs, those who prefer so get the 202, the others 409.
#[tokio::test(start_paused = true)]
async fn duplicates_while_it_runs() {
    let (lab, _clock) = Lab::manual();
    let (layer, gate) = (layer(&lab), Arc::new(Semaphore::new(0)));
    let inside = gate.clone();
    let (app, runs) = counting(&layer, move |_| {
        let gate = inside.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            reply(201, "paid")
        }
    });
    let completer = completer(&layer, &app);
    send(&app, later("k")).await;
    let running = tokio::spawn(async move { completer.run_once().await.unwrap() });
    settle().await;
    assert_eq!(runs.get(), 1);
    assert_accepted(&send(&app, later("k")).await, "/operations/k");
    send(&app, post("k")).await.assert_problem("in-progress", 409);
    assert_eq!(shown(&layer, "k").await.json()["state"], "running");
    gate.add_permits(1);
    assert_eq!(running.await.unwrap().completed, 1);
    assert_eq!(runs.get(), 1);
}

/// One that runs in the foreground can be waited for as well.
#[tokio::test(start_paused = true)]
async fn a_duplicate_of_what_runs_in_the_foreground() {
    let (lab, _clock) = Lab::manual();
    let (layer, gate) = (layer(&lab), Arc::new(Semaphore::new(0)));
    let inside = gate.clone();
    let (app, runs) = counting(&layer, move |_| {
        let gate = inside.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            reply(201, "paid")
        }
    });
    let client = support::lab::spawn(&app, post("k"));
    settle().await;
    assert_accepted(&send(&app, later("k")).await, "/operations/k");
    gate.add_permits(1);
    client.await.unwrap().unwrap().assert_first(201, "paid");
    send(&app, later("k")).await.assert_replay(201, "paid");
    assert_eq!(runs.get(), 1);
}

/// Two processes: what one accepted, the completer of the other one runs.
#[tokio::test(start_paused = true)]
async fn instances_that_share_a_store_share_the_work() {
    let (here, _clock) = Lab::manual();
    let there = Lab::over(here.store.clone());
    let (app, runs) = paying(&layer(&here));
    let there = layer(&there);
    let (other, other_runs) = paying(&there);
    for key in ["a", "b"] {
        assert_accepted(&send(&app, later(key)).await, &format!("/operations/{key}"));
    }
    assert_accepted(&send(&other, later("a")).await, "/operations/a");
    let report = completer(&there, &other).run_once().await.unwrap();
    assert_eq!((report.completed, runs.get(), other_runs.get()), (2, 0, 2));
    send(&app, later("a")).await.assert_replay(201, "paid");
}

/// No poll, no scan: whoever accepts it wakes the completer next to it.
#[tokio::test(start_paused = true)]
async fn a_completer_in_the_same_process_starts_at_once() {
    let lab = Lab::new();
    let layer = layer(&lab);
    let (app, runs) = paying(&layer);
    let completer = completer(&layer, &app).poll(secs(3600)).concurrency(4);
    let (stop, stopped) = oneshot::channel::<()>();
    let completing = tokio::spawn(async move { completer.run(async { stopped.await.unwrap_or(()) }).await });
    settle().await;
    let scans = lab.store.scans();
    for number in 0..20 {
        send(&app, later(&format!("k{number}"))).await;
    }
    settle().await;
    settle().await;
    assert_eq!((runs.get(), lab.store.scans()), (20, scans));
    for number in 0..20 {
        send(&app, later(&format!("k{number}"))).await.assert_replay(201, "paid");
    }
    stop.send(()).unwrap();
    completing.await.unwrap().unwrap();
}

/// What it costs: one write to accept it, and what every attempt costs.
#[tokio::test(start_paused = true)]
async fn the_round_trips() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, _) = paying(&layer);
    send(&app, later("k")).await;
    assert_eq!((lab.store.calls(), lab.store.swaps()), (1, 1), "to accept it");
    send(&app, later("k")).await;
    assert_eq!(lab.store.calls(), 2, "a duplicate");
    completer(&layer, &app).run_once().await.unwrap();
    assert_eq!((lab.store.calls(), lab.store.scans()), (5, 1), "look, claim, complete");
    send(&app, later("k")).await;
    assert_eq!(lab.store.calls(), 6, "a replay");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_pushes_back() {
    let lab = Lab::new();
    let layer = layer(&lab).background(Background::at("/operations").queue(2));
    let (app, runs) = paying(&layer);
    for key in ["a", "b"] {
        assert_eq!(send(&app, later(key)).await.status, 202);
    }
    let full = send(&app, later("c")).await;
    full.assert_problem("overloaded", 503);
    assert!(full.headers.contains_key("retry-after"));
    assert!(lab.store.peek(&stored_key("c")).await.is_none(), "nothing is stored");
    // What was accepted stays so; and the foreground is open.
    assert_accepted(&send(&app, later("a")).await, "/operations/a");
    send(&app, post("d")).await.assert_first(201, "paid");
    assert_eq!(lab.store.scans(), 1, "asked at most twice a second");
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 2);
    tokio::time::advance(secs(1)).await;
    assert_eq!(send(&app, later("c")).await.status, 202, "there is room again");
    assert_eq!(runs.get(), 3);
}

/// Its deadline is that of its route; what hung is said by name.
#[tokio::test(start_paused = true)]
async fn what_hangs_is_cut_off_and_tried_again_and_parked_in_the_end() {
    let lab = Lab::new();
    let background = Background::at("/operations").deadline(secs(30)).max_tries(2);
    let layer = layer(&lab).background(background);
    let (app, runs) = counting(&layer, |op| async move {
        op.step("order", |_| async { Ok::<_, Failure>(1) }).await.unwrap();
        let _ = op.step("print", |_| std::future::pending::<Result<u8, Failure>>()).await;
        reply(201, "never")
    });
    let completer = completer(&layer, &app);
    send(&app, later("k")).await;
    for tries in 1..=2 {
        let started = tokio::time::Instant::now();
        assert_eq!(completer.run_once().await.unwrap().released, 1, "try {tries}");
        assert_eq!(started.elapsed(), secs(30));
        tokio::time::advance(secs(10)).await;
    }
    let hung: Vec<_> = lab
        .events
        .all()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::CutOff { steps } => Some(steps),
            _ => None,
        })
        .collect();
    assert_eq!(hung, [["print"], ["print"]]);
    assert_eq!(completer.run_once().await.unwrap().parked, 1);
    assert_eq!(runs.get(), 2, "parked before it ran");
    let status = shown(&layer, "k").await.json();
    assert_eq!((&status["state"], &status["parked"]), (&json!("parked"), &json!("it was tried 2 times")));
    assert_eq!((&status["steps"][0]["name"], &status["steps"][0]["state"]), (&json!("order"), &json!("done")));
    send(&app, later("k")).await.assert_problem("outcome-unknown", 500);
}

/// At most once: run by whoever claims it first, and never again.
#[tokio::test(start_paused = true)]
async fn at_most_once_in_the_background() {
    let lab = Lab::new();
    let layer = lab.layer().background(Background::at("/operations").always().deadline(secs(30)));
    let first = Count::default();
    let count = first.clone();
    let (app, runs) = counting(&layer, move |_| {
        let hangs = count.up() == 2;
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            reply(500, "it says so itself")
        }
    });
    let asked = Count::default();
    let count = asked.clone();
    let completer = completer(&layer, &app).reconcile(move |_| {
        count.up();
        async { Reconciled::Unknown }
    });
    send(&app, post("fails")).await;
    assert_eq!(completer.run_once().await.unwrap().completed, 1, "a 500 is an answer");
    send(&app, post("fails")).await.assert_replay(500, "it says so itself");

    send(&app, post("hangs")).await;
    assert_eq!(completer.run_once().await.unwrap().released, 1);
    assert_eq!(asked.get(), 0);
    assert_eq!(completer.run_once().await.unwrap().parked, 1);
    assert_eq!((runs.get(), asked.get()), (2, 1));
    send(&app, post("hangs")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(completer.run_once().await.unwrap().found, 0);
}

/// Before it was started nothing is lost, in any mode; after that the mode
/// decides.
#[tokio::test(start_paused = true)]
async fn a_process_that_dies() {
    for resumable in [true, false] {
        let lab = Lab::new();
        let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
        let layer = layer.background(Background::at("/operations").always());
        let first = Count::default();
        let count = first.clone();
        let (app, runs) = counting(&layer, move |_| {
            let hangs = count.up() == 1;
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                reply(201, "paid")
            }
        });
        send(&app, post("k")).await;
        // The accepting process is gone; another one begins, and dies as well.
        let completer = completer(&layer, &app);
        let dying = tokio::spawn({
            let completer = completer.clone();
            async move { completer.run_once().await }
        });
        settle().await;
        assert_eq!(runs.get(), 1);
        dying.abort();
        settle().await;
        tokio::time::advance(secs(60)).await;
        let report = completer.run_once().await.unwrap();
        assert_eq!((report.completed, report.parked), if resumable { (1, 0) } else { (0, 1) });
        assert_eq!(runs.get(), if resumable { 2 } else { 1 });
    }
}

/// The reply of the store is lost: it is on record, and found out by looking.
#[tokio::test(start_paused = true)]
async fn lost_replies_while_it_is_accepted() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, runs) = paying(&layer);
    lab.store.fail_once(Call::Swap(Status::Pending), Fault::After);
    assert_accepted(&send(&app, later("k")).await, "/operations/k");
    assert_eq!(lab.events.count("Accepted"), 1);
    lab.store.down();
    send(&app, later("j")).await.assert_problem("store-unavailable", 503);
    lab.store.heal();
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1);
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn a_full_store_accepts_nothing() {
    let lab = Lab::over(Faulty::over(MemoryStore::new().max_entries(1)));
    let layer = layer(&lab);
    let (app, _) = paying(&layer);
    assert_eq!(send(&app, later("a")).await.status, 202);
    send(&app, later("b")).await.assert_problem("store-unavailable", 503);
    let kinds: Vec<_> = lab
        .events
        .all()
        .into_iter()
        .filter_map(|event| match event.kind {
            EventKind::StoreFailed { error } => Some(error.kind()),
            _ => None,
        })
        .collect();
    assert_eq!(kinds, [StoreErrorKind::Full]);
}

#[tokio::test(start_paused = true)]
async fn the_status_of_every_state() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, _) = counting(&layer, |op| async move {
        op.step("order", |_| async { Ok::<_, Failure>(17) }).await.unwrap();
        if op.attempt() == 1 {
            return reply(503, "later");
        }
        op.pay("charge", |_| async { Ok::<_, Failure>("ch_1".to_owned()) }).await.unwrap();
        let mut answer = reply(201, r#"{"charge":"ch_1"}"#);
        answer.headers_mut().insert("content-type", "application/json; charset=utf-8".parse().unwrap());
        answer
    });
    let completer = completer(&layer, &app);

    let unknown = shown(&layer, "k").await;
    assert_eq!((unknown.status, unknown.json()["status"].clone()), (404, json!(404)));
    assert!(unknown.json()["type"].as_str().unwrap().ends_with("no-such-operation"));

    send(&app, later("k")).await;
    let queued = shown(&layer, "k").await;
    assert_eq!(queued.headers["retry-after"], "1");
    assert_eq!(queued.headers["cache-control"], "no-store");
    let now = clock.now().as_millis();
    let expected = json!({
        "state": "queued", "status": "pending", "attempts": 0, "steps_done": 0, "steps": [],
        "created_at_ms": now, "updated_at_ms": now,
    });
    assert_eq!(queued.json(), expected);

    clock.advance(secs(5));
    completer.run_once().await.unwrap();
    let waiting = shown(&layer, "k").await.json();
    assert_eq!(
        (&waiting["state"], &waiting["attempts"], &waiting["steps_done"]),
        (&json!("waiting"), &json!(1), &json!(1))
    );
    let step = &waiting["steps"][0];
    assert_eq!((&step["name"], &step["state"], &step["attempt"]), (&json!("order"), &json!("done"), &json!(1)));
    assert_eq!(step["at_ms"], now + 5000);
    assert_eq!(waiting["created_at_ms"], now, "when it was accepted");
    assert!(!waiting.to_string().contains("17"), "values are the handler's own");

    lab.decide("k", Resolution::Park { why: "ask \"accounting\"".into() }).await;
    let parked = shown(&layer, "k").await.json();
    assert_eq!((&parked["state"], &parked["parked"]), (&json!("parked"), &json!("ask \"accounting\"")));

    lab.decide("k", Resolution::RunAgain).await;
    completer.run_once().await.unwrap();
    let complete = shown(&layer, "k").await;
    assert!(!complete.headers.contains_key("retry-after"));
    let complete = complete.json();
    assert_eq!(
        (&complete["state"], &complete["status"], &complete["steps_done"]),
        (&json!("complete"), &json!("complete"), &json!(2))
    );
    let headers = json!([["content-type", "application/json; charset=utf-8"]]);
    assert_eq!(complete["result"], json!({ "status": 201, "headers": headers, "json": { "charge": "ch_1" } }));

    clock.advance(secs(24 * 60 * 60));
    assert_eq!(shown(&layer, "k").await.status, 404, "forgotten");
}

/// Steps of which a complete record has no moment any more were done, too.
#[tokio::test(start_paused = true)]
async fn the_steps_that_are_done_do_not_become_fewer_when_the_record_completes() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, _) = counting(&layer, |op| async move {
        for n in 0..100 {
            op.step(format!("step-{n}"), move |_| async move { Ok::<_, Failure>(n) }).await.unwrap();
        }
        reply(if op.is_resumed() { 201 } else { 503 }, "")
    });
    send(&app, post("k")).await;
    assert_eq!(shown(&layer, "k").await.json()["steps_done"], 100);
    clock.advance(secs(10));
    completer(&layer, &app).run_once().await.unwrap();
    let complete = shown(&layer, "k").await.json();
    assert_eq!((&complete["state"], &complete["steps_done"]), (&json!("complete"), &json!(100)));
    let listed = complete["steps"].as_array().unwrap().len();
    assert!(listed < 100 && complete["steps_left_out"].as_u64().unwrap() as usize >= 100 - listed);
}

/// The plan of what is undone is on record as a step, and no step of the handler's.
#[tokio::test(start_paused = true)]
async fn a_status_shows_the_handlers_steps_and_their_undoing_alone() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, _) = counting(&layer, |op| async move {
        let refunds = op.is_resumed();
        let charge = op.pay("charge", |_| async { Ok::<_, Failure>(17) });
        let undo = move |_: i32, _| async move { if refunds { Ok(()) } else { Err(Failure("away").into()) } };
        charge.undo_with(undo).await.unwrap();
        reply(409, "sold out")
    });
    send(&app, post("k")).await.assert_problem("interrupted", 500);
    assert!(lab.store.peek(&stored_key("k")).await.unwrap().undoing().is_some());
    let names = |shown: &Value| -> Vec<String> {
        shown["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap().to_owned()).collect()
    };
    let unfinished = shown(&layer, "k").await.json();
    assert_eq!((names(&unfinished), &unfinished["steps_done"]), (vec!["charge".to_owned()], &json!(1)));
    clock.advance(secs(10));
    completer(&layer, &app).run_once().await.unwrap();
    let complete = shown(&layer, "k").await.json();
    assert_eq!(
        (names(&complete), &complete["steps_done"]),
        (vec!["charge".to_owned(), "undo charge".to_owned()], &json!(2))
    );
}

#[tokio::test(start_paused = true)]
async fn results_that_are_no_json() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab).response_limit(10);
    let app = serve(&layer, |request: Inner| async move {
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
        Ok(reply(200, body))
    });
    let cases: [(&str, &'static [u8], Value); 3] = [
        ("text", b"plain \"text\"".split_at(9).0, json!({ "text": "plain \"te" })),
        ("bytes", &[0xff, 0, 0xfe], json!({ "base64": "/wD+" })),
        ("large", b"more than is kept", json!({ "retained": false, "reason": "size-exceeded" })),
    ];
    for (key, body, expected) in cases {
        send(&app, post_body(key, body)).await;
        let mut result = shown(&layer, key).await.json()["result"].clone();
        let members = result.as_object_mut().unwrap();
        assert_eq!((members.remove("status"), members.remove("headers")), (Some(json!(200)), Some(json!([]))));
        assert_eq!(result, expected);
    }
}

/// A foreign operation and one that never was are the same 404.
#[tokio::test(start_paused = true)]
async fn nobody_sees_another_tenants_operation() {
    let (lab, _clock) = Lab::manual();
    let scope = Scope::header("x-user".parse().unwrap());
    let layer = lab.layer_for(scope).resumable().background(Background::at("/operations"));
    let (app, _) = paying(&layer);
    send(&app, with(later("k"), "x-user", "ann")).await;
    send(&app, with(post("done"), "x-user", "ann")).await;
    let service = StatusService::new(&layer);
    for key in ["k", "done"] {
        let path = format!("/operations/{key}");
        assert_eq!(ask(&service, "GET", &path, &[("x-user", "ann")]).await.status, 200);
        for method in ["GET", "HEAD", "DELETE"] {
            let foreign = ask(&service, method, &path, &[("x-user", "bob")]).await;
            let never = ask(&service, method, "/operations/never", &[("x-user", "bob")]).await;
            assert_eq!(foreign.status, 404);
            assert_eq!((foreign.text, foreign.headers), (never.text, never.headers), "{method}");
        }
        assert_eq!(ask(&service, "GET", &path, &[]).await.status, 403, "nobody's");
    }
    send(&app, with(post("done"), "x-user", "ann")).await.assert_replay(201, "paid");
}

#[tokio::test(start_paused = true)]
async fn what_has_not_changed_is_not_sent_again() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, _) = counting(&layer, |_| std::future::pending());
    let service = StatusService::new(&layer);
    send(&app, later("k")).await;
    let first = shown(&layer, "k").await;
    let same = ask(&service, "GET", "/operations/k", &[("if-none-match", first.tag())]).await;
    assert_eq!((same.status, same.text.as_str(), same.tag()), (304, "", first.tag()));
    assert_eq!(same.headers["retry-after"], "1");
    let list = format!("\"other\", W/{}", first.tag());
    assert_eq!(ask(&service, "GET", "/operations/k", &[("if-none-match", &list)]).await.status, 304);
    assert_eq!(ask(&service, "GET", "/operations/k", &[("if-none-match", "*")]).await.status, 304);
    assert_eq!(ask(&service, "GET", "/operations/k", &[("if-none-match", "\"other\"")]).await.status, 200);

    let head = ask(&service, "HEAD", "/operations/k", &[]).await;
    assert_eq!((head.status, head.text.as_str(), head.tag()), (200, "", first.tag()));
    assert_eq!(head.headers["content-length"], first.text.len().to_string().as_str());

    let completer = completer(&layer, &app);
    let running = tokio::spawn(async move { completer.run_once().await });
    settle().await;
    let runs = ask(&service, "GET", "/operations/k", &[("if-none-match", first.tag())]).await;
    assert_eq!((runs.status, runs.json()["state"].clone()), (200, json!("running")));
    // Its holder dies, and nothing is written: still it is another state.
    running.abort();
    settle().await;
    clock.advance(secs(60));
    let waits = ask(&service, "GET", "/operations/k", &[("if-none-match", runs.tag())]).await;
    assert_eq!((waits.status, waits.json()["state"].clone()), (200, json!("waiting")));
}

/// The answer stays for duplicates that are on their way, and no longer.
#[tokio::test(start_paused = true)]
async fn an_answer_that_was_received_may_go_early() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, runs) = paying(&layer);
    let service = StatusService::new(&layer).grace(secs(100));
    send(&app, later("k")).await;
    let early = ask(&service, "DELETE", "/operations/k", &[]).await;
    assert_eq!((early.status, early.headers["retry-after"].to_str().unwrap()), (409, "1"));
    completer(&layer, &app).run_once().await.unwrap();
    for _ in 0..2 {
        let done = ask(&service, "DELETE", "/operations/k", &[]).await;
        assert_eq!((done.status, done.text.as_str()), (204, ""));
        send(&app, later("k")).await.assert_replay(201, "paid");
        clock.advance(secs(50));
    }
    // Acknowledged twice, and not kept longer for it.
    assert_eq!(ask(&service, "GET", "/operations/k", &[]).await.status, 404);
    assert_eq!(ask(&service, "DELETE", "/operations/k", &[]).await.status, 404);
    send(&app, post("k")).await.assert_first(201, "paid");
    assert_eq!(runs.get(), 2);
    // A grace longer than what is left keeps nothing longer.
    clock.advance(secs(24 * 60 * 60 - 10));
    assert_eq!(ask(&service, "DELETE", "/operations/k", &[]).await.status, 204);
    clock.advance(secs(10));
    assert_eq!(ask(&service, "GET", "/operations/k", &[]).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn the_key_may_come_as_a_header() {
    let (lab, _clock) = Lab::manual();
    let layer = layer(&lab);
    let (app, _) = paying(&layer);
    send(&app, post("\"a/b %\"")).await;
    let service = StatusService::new(&layer);
    assert_eq!(ask(&service, "GET", "/", &[("idempotency-key", "\"a/b %\"")]).await.status, 200);
    assert_eq!(ask(&service, "GET", "/a%2Fb%20%25", &[]).await.status, 200);
    assert_eq!(ask(&service, "GET", "/", &[]).await.status, 404);
    assert_eq!(ask(&service, "GET", "/%ff", &[]).await.status, 404);
    assert_eq!(ask(&service, "GET", "/x", &[("idempotency-key", "a,b")]).await.status, 400);
    let put = ask(&service, "PUT", "/x", &[]).await;
    assert_eq!((put.status, put.headers["allow"].to_str().unwrap()), (405, "GET, HEAD, DELETE"));
    lab.store.down();
    assert_eq!(ask(&service, "GET", "/x", &[]).await.status, 503);
    assert_eq!(Refusal::NoSuchOperation.status(), 404);
}

/// An answer that says "did not start" does not undo the promise to run it.
#[tokio::test(start_paused = true)]
async fn what_was_accepted_and_did_not_start_is_tried_again() {
    for resumable in [true, false] {
        let (lab, clock) = Lab::manual();
        let layer = lab
            .layer_with(|engine| engine.backoff(Backoff::new(secs(10), secs(10))))
            .background(Background::at("/operations"));
        let layer = if resumable { layer.resumable() } else { layer };
        let tries = Count::default();
        let count = tries.clone();
        let (app, _) = counting(&layer, move |_| {
            let first = count.up() == 1;
            async move { if first { reply(429, "later") } else { reply(201, "paid") } }
        });
        let completer = completer(&layer, &app);
        assert_accepted(&send(&app, later("k")).await, "/operations/k");
        completer.run_once().await.unwrap();
        assert_eq!(completer.run_once().await.unwrap().found, 0, "it rests first");
        clock.advance(secs(11));
        completer.run_once().await.unwrap();
        send(&app, later("k")).await.assert_replay(201, "paid");
    }
}

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

/// A handler that waits for the gate, and how often it ran.
fn gated(layer: &IdempotencyLayer) -> (App, Count, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let inside = gate.clone();
    let (app, runs) = counting(layer, move |_| {
        let gate = inside.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            reply(201, "paid")
        }
    });
    (app, runs, gate)
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
    let history: Vec<_> = record.history().iter().map(|moment| (moment.attempt, moment.what)).collect();
    assert_eq!(history, [(0, What::Accepted), (1, What::Claimed), (1, What::Completed)]);
    send(&app, later("k")).await.assert_replay(201, "paid");
    running.end().await;
}

/// The process stood still for longer than the lease: what it runs itself is not
/// taken for somebody else's, who died.
#[tokio::test(start_paused = true)]
async fn a_completer_takes_nothing_from_its_own_process() {
    let (lab, clock) = Lab::manual();
    let layer = lab.layer().background(Background::at("/operations"));
    let (app, runs, gate) = gated(&layer);
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
    let (app, runs, gate) = gated(&layer);
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
    let (app, runs, gate) = gated(&layer);
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
        let (app, runs, gate) = gated(&layer);
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
        // And nobody is at the desk any more.
        send(&app, later("other")).await;
        settle().await;
        assert_eq!(runs.get(), if resumable { 2 } else { 1 });
    }
}

/// A claim of which nobody heard is given back, and somebody runs it.
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

/// The completer that had room is gone when the claim is stored: somebody else need
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
