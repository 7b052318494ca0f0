//! The layer's own answers: the words of the draft, and the members of RFC 9457.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tower_idempotency::Scope;

use crate::support::lab::{Answer, Lab, numbered, post, post_body, reply, send, send_now, serve, spawn, unkeyed, with};
use crate::support::settle;

const CORRECT_USE: &str = "This operation is idempotent and it requires correct usage of Idempotency Key.";

fn member(answer: &Answer, name: &str) -> String {
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    problem[name].as_str().unwrap().to_owned()
}

/// Requirements B01 to B05, C02 and C11.
#[tokio::test]
async fn the_refusals_of_the_draft_have_its_words() {
    let lab = Lab::new();
    let gate = Arc::new(Semaphore::new(0));
    let wait = gate.clone();
    let app = serve(&lab.layer().required(), move |_| {
        let wait = wait.clone();
        async move {
            wait.acquire().await.unwrap().forget();
            Ok(reply(201, ""))
        }
    });
    for key in ["k", "another"] {
        let first = spawn(&app, post(key));
        settle().await;
        let reused =
            format!("{CORRECT_USE} Idempotency Key MUST not be reused across different payloads of this operation.");
        let outstanding =
            "A request with the same Idempotency-Key for the same operation is being processed or is outstanding.";
        for (request, name, status, title, detail) in [
            (unkeyed("POST"), "missing-key", 400, "Idempotency-Key is missing", CORRECT_USE),
            (post_body(key, "other"), "key-reused", 422, "Idempotency-Key is already used", &reused),
            (post(key), "in-progress", 409, "A request is outstanding for this Idempotency-Key", outstanding),
        ] {
            let answer = send_now(&app, request).await;
            answer.assert_problem(name, status);
            assert_eq!((member(&answer, "title").as_str(), member(&answer, "detail").as_str()), (title, detail));
            assert_eq!(answer.headers["content-language"], "en");
            assert!(answer.headers["link"].to_str().unwrap().starts_with("<https://"), "{:?}", answer.headers);
        }
        gate.add_permits(1);
        first.await.unwrap().unwrap().assert_first(201, "");
    }
}

/// Requirement B03: clients tell problems apart by their types.
#[tokio::test]
async fn each_problem_has_a_type_of_its_own() {
    for page in [None, Some("https://example.com/keys")] {
        let lab = Lab::new();
        let layer = lab.layer_for(Scope::header("x-tenant".parse().unwrap())).required().request_limit(10);
        let layer = if let Some(page) = page { layer.documentation(page) } else { layer };
        let (app, _) = numbered(&layer);
        let known = |request| with(request, "x-tenant", "a");
        send(&app, known(post_body("k", "1"))).await.assert_first(201, "charge 1");
        let mut answers = Vec::new();
        for request in [
            known(unkeyed("POST")),
            known(post_body("\"k", "1")),
            post_body("k", "1"),
            known(post_body("k", "2")),
            known(post_body("k", "more than ten bytes")),
        ] {
            answers.push(send(&app, request).await);
        }
        lab.store.down();
        answers.push(send(&app, known(post_body("k", "1"))).await);
        let types: BTreeSet<_> = answers.iter().map(|answer| member(answer, "type")).collect();
        assert_eq!(types.len(), answers.len(), "{types:?}");
        let prefix = page.map_or_else(|| "urn:tower-idempotency:problem:".to_owned(), |page| format!("{page}#"));
        assert!(types.iter().all(|kind| kind.starts_with(&prefix)), "{types:?}");
    }
}

/// Requirement B08: a refusal is neither kept nor worn down.
#[tokio::test]
async fn a_request_that_is_not_corrected_is_refused_each_time() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer().required());
    send(&app, post("k")).await.assert_first(201, "charge 1");
    for _ in 0..3 {
        send(&app, unkeyed("POST")).await.assert_problem("missing-key", 400);
        send(&app, post("a,b")).await.assert_problem("invalid-key", 400);
        send(&app, post_body("k", "other")).await.assert_problem("key-reused", 422);
    }
    assert_eq!(runs.get(), 1);
    send(&app, post("k")).await.assert_replay(201, "charge 1");
}
