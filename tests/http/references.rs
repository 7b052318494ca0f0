//! What a client quotes to an operator: the reference of an attempt, in problems, events and
//! metadata of gRPC.

use http::Version;
use tower_idempotency::core::Reference;
use tower_idempotency::{EventKind, IdempotencyLayer, Operator, Refusal};

use crate::support::bodies::Failure;
use crate::support::lab::{
    Answer, App, Lab, gated, operation, post, post_body, reply, secs, send, serve, spawn, stored_key, with,
};
use crate::support::{Count, settle};

fn reference(answer: &Answer) -> Option<Reference> {
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    Some(problem.get("reference")?.as_str().unwrap().parse().unwrap())
}

/// Of the key `k`.
fn of(attempt: u32) -> Option<Reference> {
    Some(Reference { key: stored_key("k"), attempt })
}

/// Panics until it has been called so often.
fn panics(layer: &IdempotencyLayer, times: usize) -> App {
    let runs = Count::default();
    serve(layer, move |request| {
        let (run, op) = (runs.up(), operation(&request));
        async move {
            op.step("order", |_| async { Ok::<_, Failure>(()) }).await.unwrap();
            assert!(run > times, "planned");
            Ok(reply(200, "done"))
        }
    })
}

#[tokio::test]
async fn a_problem_names_the_attempt_that_it_is_about_and_an_operator_finds_it() {
    let lab = Lab::new();
    let app = panics(&lab.layer(), usize::MAX);
    let operator = Operator::new(lab.engine());
    // The client whose attempt panicked, and one that retries.
    for _ in 0..2 {
        let unknown = send(&app, post("k")).await;
        unknown.assert_problem("outcome-unknown", 500);
        assert_eq!(reference(&unknown), of(1));
    }
    operator.retry(&operator.find("", "k").await.unwrap()).await.unwrap();
    for _ in 0..2 {
        let unknown = send(&app, post("k")).await;
        unknown.assert_problem("outcome-unknown", 500);
        assert_eq!(reference(&unknown), of(2));
    }
    let shown = operator.find_by_reference(&of(2).unwrap().to_string()).await.unwrap();
    assert_eq!((shown.key, shown.reference()), (stored_key("k"), of(2).unwrap().to_string()));
    // Events name it too; what concerns no attempt names none.
    let events = lab.events.all();
    let refused = events.iter().filter(|event| matches!(event.kind, EventKind::Refused { .. }));
    assert_eq!(refused.map(|event| event.reference()).collect::<Vec<_>>(), [of(1), of(1), of(2), of(2)]);
    let decided = events.iter().find(|event| matches!(event.kind, EventKind::Decided { .. })).unwrap();
    assert_eq!((decided.key, decided.reference()), (Some(stored_key("k")), None));
}

#[tokio::test]
async fn each_interruption_names_its_own_attempt() {
    let lab = Lab::new();
    let app = panics(&lab.layer().resumable(), 2);
    for attempt in 1..=2 {
        let interrupted = send(&app, post("k")).await;
        interrupted.assert_problem("interrupted", 500);
        assert_eq!(reference(&interrupted), of(attempt));
    }
    send(&app, post("k")).await.assert_first(200, "done");
    send(&app, post("k")).await.assert_replay(200, "done");
    // What a client corrects by itself names none.
    assert_eq!(reference(&send(&app, post_body("k", "other")).await), None);
    let resumed = lab.events.all().into_iter().filter(|event| matches!(event.kind, EventKind::Resumed { .. }));
    assert_eq!(resumed.map(|event| event.reference()).collect::<Vec<_>>(), [of(2), of(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_gets_the_reference_of_the_attempt_that_runs_and_so_does_one_that_waits() {
    let lab = Lab::new();
    let (app, _, gate) = gated(&lab.layer().resumable(), |_| reply(200, "done"));
    let other = gated(&lab.layer().resumable().wait(secs(600)), |_| reply(200, "done")).0;
    drop(spawn(&app, post("k")));
    settle().await;
    assert_eq!(reference(&send(&app, post("k")).await), of(1));
    let waiting = spawn(&other, with(post("k"), "prefer", "wait=5"));
    let busy = waiting.await.unwrap().unwrap();
    busy.assert_problem("in-progress", 409);
    assert_eq!(reference(&busy), of(1));
    gate.add_permits(1);
    settle().await;
    send(&app, post("k")).await.assert_replay(200, "done");
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_hears_of_the_attempt_that_an_operator_started_meanwhile() {
    let lab = Lab::new();
    let (elsewhere, here) = (lab.layer(), lab.layer().wait(secs(600)));
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let wait = gate.clone();
    let failing = serve(&elsewhere, move |_| {
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            panic!("planned")
        }
    });
    gate.add_permits(1);
    send(&failing, post("k")).await.assert_problem("outcome-unknown", 500);
    let operator = Operator::new(lab.engine());
    operator.retry(&operator.find("", "k").await.unwrap()).await.unwrap();
    let second = spawn(&failing, post("k"));
    settle().await;
    let (app, _, _) = gated(&here, |_| reply(200, "done"));
    let waiting = spawn(&app, post("k"));
    settle().await;
    gate.add_permits(1);
    second.await.unwrap().unwrap().assert_problem("outcome-unknown", 500);
    let unknown = waiting.await.unwrap().unwrap();
    unknown.assert_problem("outcome-unknown", 500);
    assert_eq!(reference(&unknown), of(2));
}

#[tokio::test]
async fn where_no_attempt_is_known_the_number_is_0_and_the_operation_is_found_all_the_same() {
    let lab = Lab::new();
    let layer = lab.layer().resumable();
    let app = panics(&layer, 1);
    send(&app, post("k")).await.assert_problem("interrupted", 500);
    lab.store.down();
    let away = send(&app, post("k")).await;
    away.assert_problem("store-unavailable", 503);
    assert_eq!(reference(&away), of(0));
    lab.store.heal();
    let text = of(0).unwrap().to_string();
    assert_eq!(
        Operator::new(lab.engine()).find_by_reference(&text).await.unwrap().reference(),
        of(1).unwrap().to_string()
    );
    // A drain refuses after a look at the record.
    layer.drain(secs(1)).await;
    let draining = send(&app, post("k")).await;
    draining.assert_problem("draining", 503);
    assert_eq!(reference(&draining), of(1));
    assert!(lab.events.all().iter().all(|event| event.attempt != Some(0)), "0 is no attempt");
}

#[tokio::test]
async fn a_hook_sees_the_reference_and_a_line_of_text_has_it() {
    let lab = Lab::new();
    let layer = lab.layer().problems(|problem, response| {
        assert_eq!(problem.reference().is_some(), problem.refusal() != Refusal::KeyReused);
        problem.plain_text(response)
    });
    let app = panics(&layer, usize::MAX);
    let answer = send(&app, post("k")).await;
    assert_eq!(answer.text(), format!("outcome-unknown: The outcome is unknown (reference {})\n", of(1).unwrap()));
    assert_eq!(send(&app, post_body("k", "other")).await.text(), "key-reused: Idempotency-Key is already used\n");
}

#[tokio::test]
async fn a_status_of_grpc_has_the_reference_as_metadata() {
    const CHARGE: &str = "/shop.Payments/Charge";
    let lab = Lab::new();
    let app = panics(&lab.layer().grpc_methods(tower_idempotency::GrpcMethods::named([CHARGE]).unwrap()), usize::MAX);
    let call = |body: &'static str| {
        let mut call = with(post_body("k", body), "content-type", "application/grpc");
        (*call.version_mut(), *call.uri_mut()) = (Version::HTTP_2, CHARGE.parse().unwrap());
        call
    };
    let unknown = send(&app, call("\0\0\0\0\0")).await;
    assert_eq!(unknown.headers["idempotency-problem"], "outcome-unknown");
    assert_eq!(unknown.headers["idempotency-reference"], of(1).unwrap().to_string());
    let reused = send(&app, call("\0\0\0\0\u{1}x")).await;
    assert_eq!(reused.headers["idempotency-problem"], "key-reused");
    assert!(!reused.headers.contains_key("idempotency-reference"));
}
