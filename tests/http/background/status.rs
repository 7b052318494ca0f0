//! What the status resource shows.

use serde_json::{Value, json};
use tower_idempotency::clock::Clock;
use tower_idempotency::core::Resolution;
use tower_idempotency::{Background, Refusal, Scope, StatusService};

use super::{ask, counting, later, layer, paying, shown};
use crate::support::bodies::Failure;
use crate::support::lab::{Inner, Lab, completer, post, post_body, reply, secs, send, serve, stored_key, with};
use crate::support::settle;

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
