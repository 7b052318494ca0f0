//! Why an attempt ended without a response: in the history, in the event, bounded, and as the
//! engine's hook leaves it.

use http::Response;
use tower_idempotency::core::HistoryEvent;
use tower_idempotency::{Engine, EventKind, IdempotencyLayer, NotUndone, Operation, Operator, Outcome, Runner};

use crate::support::Count;
use crate::support::bodies::{Failure, Part, TestBody, data, script};
use crate::support::lab::{App, Lab, completer, grpc, operation, post, reply, secs, send, serve, try_send};

/// The reasons that the history of `k` has, with the attempts that ended for them.
async fn told(lab: &Lab) -> Vec<(u32, String)> {
    let shown = Operator::new(lab.engine()).find("", "k").await.unwrap();
    let entries = shown.record.history().into_iter().filter(|entry| entry.event == HistoryEvent::Released);
    entries.map(|entry| (entry.attempt, entry.text.as_deref().unwrap_or("none").to_owned())).collect()
}

/// Those that events have.
fn emitted(lab: &Lab) -> Vec<String> {
    let reasons = lab.events.all().into_iter().filter_map(|event| match event.kind {
        EventKind::Released { reason, .. } | EventKind::Withdrawn { reason } => Some(reason.unwrap_or_default()),
        _ => None,
    });
    reasons.collect()
}

fn problem(status: u16, body: &str) -> Response<TestBody> {
    let mut response = reply(status, body.to_owned());
    response.headers_mut().insert("content-type", "application/problem+json; charset=utf-8".parse().unwrap());
    response
}

async fn charge(op: Operation, error: &'static str) -> bool {
    let charge = op.pay("charge", |_| async move { if error.is_empty() { Ok(17) } else { Err(Failure(error)) } });
    charge.explain(|error| format!("card network: {error}")).await.is_ok()
}

/// Answers with what the list has for its attempt, and at the end with a 201.
fn answers(layer: &IdempotencyLayer, bodies: impl IntoIterator<Item = String>) -> App {
    let (runs, bodies) = (Count::default(), Vec::from_iter(bodies));
    serve(layer, move |_| {
        let body = bodies.get(runs.up() - 1).cloned();
        async move { Ok(body.map_or_else(|| reply(201, "done"), |body| problem(503, &body))) }
    })
}

#[tokio::test]
async fn each_attempt_leaves_why_it_ended_and_the_next_adds_its_own() {
    let lab = Lab::new();
    let runs = Count::default();
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, run) = (operation(&request), runs.up());
        async move {
            let error = ["connection reset", "timed out"].get(run - 1).copied().unwrap_or_default();
            let is_paid = charge(op, error).await;
            Ok(if is_paid { reply(201, "paid") } else { problem(503, r#"{"type":"https://example.com/later"}"#) })
        }
    });
    let reason = |error| format!("status 503, problem https://example.com/later; step charge: card network: {error}");
    let (first, second) = (reason("connection reset"), reason("timed out"));
    send(&app, post("k")).await;
    assert_eq!(told(&lab).await, [(1, first.clone())]);
    send(&app, post("k")).await;
    assert_eq!(told(&lab).await, [(1, first.clone()), (2, second.clone())]);
    send(&app, post("k")).await.assert_first(201, "paid");
    assert_eq!(told(&lab).await, [(1, first.clone()), (2, second.clone())], "also once it is complete");
    assert_eq!(emitted(&lab), [first.clone(), second]);
    let line = lab
        .events
        .all()
        .iter()
        .find(|event| matches!(event.kind, EventKind::Released { .. }))
        .unwrap()
        .kind
        .to_string();
    assert_eq!(line, format!("the attempt ended without a final response; a retry resumes: {first}"));
    // No call of the store's that there was not before.
    assert_eq!(lab.store.swaps(), 5 + 3 + 2, "claims (two where a record is met), ends, an intent and a result");
}

#[tokio::test]
async fn what_ends_without_a_response_of_the_handlers_says_why_too() {
    let ended = async |layer: fn(IdempotencyLayer) -> IdempotencyLayer, how: u8| {
        let lab = Lab::new();
        let app = serve(&layer(lab.layer()), move |_| async move {
            match how {
                0 => panic!("planned"),
                1 => Err(Failure("planned")),
                2 => Ok(grpc("14", true)),
                3 => Ok(grpc("14", false)),
                _ => Ok(reply(503, "")),
            }
        });
        let _ = try_send(&app, post("k")).await;
        let [told] = &told(&lab).await[..] else { panic!("one attempt") };
        assert_eq!(emitted(&lab), std::slice::from_ref(&told.1));
        told.1.clone()
    };
    for layer in [|layer: IdempotencyLayer| layer, |layer: IdempotencyLayer| layer.resumable()] {
        assert_eq!(ended(layer, 0).await, "the handler panicked");
        assert_eq!(ended(layer, 1).await, "the handler's service failed, and gave no response");
    }
    let resumable = |layer: IdempotencyLayer| layer.resumable();
    assert_eq!(ended(resumable, 2).await, "grpc-status 14");
    assert_eq!(ended(resumable, 3).await, "grpc-status 14");
    assert_eq!(ended(resumable, 4).await, "status 503");
}

#[tokio::test]
async fn a_step_that_was_done_after_all_is_not_the_reason() {
    let lab = Lab::new();
    let app = serve(&lab.layer().resumable(), |request| async move {
        let op = operation(&request);
        assert!(!charge(op.clone(), "no").await && charge(op, "").await);
        Ok(reply(503, ""))
    });
    send(&app, post("k")).await;
    assert_eq!(told(&lab).await, [(1, "status 503".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_cut_off_names_the_step_that_hung() {
    let lab = Lab::new();
    let layer = lab.layer().resumable();
    let runs = Count::default();
    let app = serve(&layer, move |request| {
        let run = runs.up();
        async move {
            if run > 1 {
                operation(&request).step("charge", |_| std::future::pending::<Result<(), Failure>>()).await.unwrap();
            }
            Ok(reply(503, ""))
        }
    });
    send(&app, post("k")).await;
    tokio::time::advance(secs(3)).await;
    completer(&layer, &app).deadline(secs(20)).run_once().await.unwrap();
    assert_eq!(told(&lab).await[1], (2, "it was cut off after 20 s in step charge".to_owned()));
}

#[tokio::test]
async fn what_could_not_be_undone_yet_says_why() {
    let lab = Lab::new();
    let app = serve(&lab.layer().resumable(), |request| async move {
        let charge = operation(&request).pay("charge", |_| async { Ok::<_, Failure>(17) });
        charge.undo_with(|_, _| async { Err(NotUndone::Later("the bank is closed".to_owned())) }).await.unwrap();
        Ok(reply(422, "declined"))
    });
    send(&app, post("k")).await.assert_problem("interrupted", 500);
    let reason = "it failed for good, and is not undone yet; step undo charge: the bank is closed";
    assert_eq!(told(&lab).await, [(1, reason.to_owned())]);
}

#[tokio::test]
async fn where_nothing_happened_and_an_earlier_attempt_stands_the_history_says_why() {
    let lab = Lab::new();
    let runs = Count::default();
    let app = serve(&lab.layer().resumable(), move |_| {
        let run = runs.up();
        async move {
            let mut response = reply(503, "");
            if run == 2 {
                response.extensions_mut().insert(Outcome::NothingHappened);
            }
            Ok(response)
        }
    });
    send(&app, post("k")).await;
    send(&app, post("k")).await;
    assert_eq!(told(&lab).await, [(1, "status 503".to_owned()), (2, "status 503".to_owned())]);
    assert_eq!(emitted(&lab), ["status 503"; 2]);
}

#[tokio::test]
async fn a_reason_is_one_line_of_at_most_200_bytes() {
    let lab = Lab::new();
    let of_type = |name: &str| format!("{{\"type\":\"{name}\"}}");
    let app = answers(
        &lab.layer().resumable(),
        [
            of_type(r"urn:a\n\u001b[2J\u0000b"),
            of_type(&"é".repeat(9000)),
            of_type(&"é".repeat(100)),
            "no JSON".to_owned(),
            "{\"type\":7}".to_owned(),
        ],
    );
    for _ in 0..5 {
        send(&app, post("k")).await;
    }
    let told = told(&lab).await;
    assert_eq!(told[0].1, "status 503, problem urn:a  [2J b");
    for (_, long) in &told[1..3] {
        assert!((199..=200).contains(&long.len()) && long.ends_with('…'), "{long}");
    }
    assert_eq!((told[3].1.as_str(), told[4].1.as_str()), ("status 503", "status 503"));
    assert_eq!(emitted(&lab), told.iter().map(|(_, reason)| reason.clone()).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_engines_hook_has_the_last_word_within_the_bounds() {
    let reason = async |hook: fn(&mut String)| {
        let lab = Lab::new();
        let layer = lab.layer_with(|engine: Engine| engine.redact_reason(hook)).resumable();
        send(&answers(&layer, ["{\"type\":\"urn:card-4242\"}".to_owned()]), post("k")).await;
        assert_eq!(emitted(&lab).len(), 1);
        (told(&lab).await.remove(0).1, emitted(&lab).remove(0))
    };
    let said = |line: &str| (line.to_owned(), line.to_owned());
    assert_eq!(reason(|_| {}).await, said("status 503, problem urn:card-4242"));
    assert_eq!(reason(|line| *line = line.replace("4242", "****")).await, said("status 503, problem urn:card-****"));
    assert_eq!(reason(|line| line.push('\n')).await, said("status 503, problem urn:card-4242"));
    let long = reason(|line| *line = "x".repeat(4096)).await;
    assert_eq!((long.0.len(), long.1.len()), (200, 200));
    // Nothing is left of it, in the record either.
    assert_eq!(reason(String::clear).await, ("none".to_owned(), String::new()));
    assert_eq!(reason(|_| panic!("planned")).await, ("none".to_owned(), String::new()));
}

/// What is said of a failure changes nothing about it.
#[tokio::test]
async fn an_error_that_can_not_be_explained_is_as_harmless_as_before() {
    let lab = Lab::new();
    let runs = Count::default();
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, run) = (operation(&request), runs.up());
        async move {
            let work = move || async move { if run == 1 { Err(Failure("refused")) } else { Ok(17) } };
            let mail = op.once("mail", work).harmless_when(|_| true).explain(|_| panic!("planned"));
            Ok(reply(if mail.await.is_ok() { 201 } else { 503 }, "mail"))
        }
    });
    send(&app, post("k")).await.assert_first(503, "mail");
    assert_eq!(told(&lab).await, [(1, "status 503; step mail: failed".to_owned())]);
    send(&app, post("k")).await.assert_first(201, "mail");
}

/// It may name an account.
#[tokio::test]
async fn the_type_of_a_problem_is_told_without_its_query() {
    let lab = Lab::new();
    let types = ["https://example.com/later?iban=DE02", "https://example.com/later#DE02"];
    let app = answers(&lab.layer().resumable(), types.map(|name| format!(r#"{{"type":"{name}"}}"#)));
    for _ in 0..2 {
        send(&app, post("k")).await;
    }
    let reason = "status 503, problem https://example.com/later".to_owned();
    assert_eq!(told(&lab).await, [(1, reason.clone()), (2, reason)]);
}

#[tokio::test]
async fn an_attempt_of_which_nothing_is_said_does_not_show_the_reason_of_the_one_before() {
    let lab = Lab::new();
    let hook = |line: &mut String| {
        if line.contains("secret") {
            line.clear();
        }
    };
    let layer = lab.layer_with(|engine: Engine| engine.redact_reason(hook)).resumable();
    let app = answers(&layer, ["no JSON".to_owned(), "{\"type\":\"urn:secret\"}".to_owned()]);
    send(&app, post("k")).await;
    send(&app, post("k")).await;
    assert_eq!(told(&lab).await, [(1, "status 503".to_owned()), (2, "none".to_owned())]);
}

#[tokio::test]
async fn the_work_of_a_runner_says_which_step_failed() {
    let lab = Lab::new();
    let runner = Runner::new(lab.engine());
    let failed = runner.run("jobs", "k", "", |op| async move {
        op.step("query", |_| async { Err::<(), _>(Failure("no rows")) }).explain(ToString::to_string).await
    });
    failed.await.unwrap_err();
    let shown = Operator::new(lab.engine()).find_of_runner("jobs", "k").await.unwrap();
    let last = shown.record.history().pop().unwrap();
    assert_eq!(
        (last.event, last.text.as_deref()),
        (HistoryEvent::Released, Some("the work failed; step query: no rows"))
    );
}

/// A stream that broke off is no response that a retry could get.
#[tokio::test]
async fn a_body_that_broke_off_is_named() {
    let lab = Lab::new();
    let app = serve(&lab.layer().resumable(), |_| async move {
        let broken = script([data(b"half"), Part::Fail(Failure("reset"))]);
        Ok(Response::builder().status(200).body(broken).unwrap())
    });
    let _ = try_send(&app, post("k")).await;
    assert_eq!(told(&lab).await, [(1, "status 200, and its body is not retained (incomplete)".to_owned())]);
}
