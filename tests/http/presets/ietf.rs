//! draft-ietf-httpapi-idempotency-key-header-07.

use crate::support::lab::{Lab, gated, numbered, post, post_body, reply, send, serve, spawn, unkeyed};

#[tokio::test]
async fn a_key_is_a_string_in_quotes() {
    let (app, runs) = numbered(&Lab::new().layer().ietf());
    for bare in ["8e03978e-40d5-43e8-bc93-6894a57f9324", "12", "?1", ":YWJj:"] {
        send(&app, post(bare)).await.assert_problem("invalid-key", 400);
    }
    assert_eq!(runs.get(), 0);
    // The examples of §6.
    for key in [r#""8e03978e-40d5-43e8-bc93-6894a57f9324""#, r#""clkyoesmbgybucifusbbtdsbohtyuuwz""#] {
        assert_eq!(send(&app, post(key)).await.status, 201);
        assert!(send(&app, post(key)).await.is_replay());
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test]
async fn problems_have_the_statuses_and_words_of_the_draft() {
    let page = "https://developer.example.com/idempotency";
    let layer = Lab::new().layer().ietf().required().documentation(page);
    let (app, _, gate) = gated(&layer, |_| reply(201, "done"));
    let first = spawn(&app, post("\"k\""));
    crate::support::settle().await;
    for (request, name, status, title) in [
        (unkeyed("POST"), "missing-key", 400, "Idempotency-Key is missing"),
        (post_body("\"k\"", "other"), "key-reused", 422, "Idempotency-Key is already used"),
        (post("\"k\""), "in-progress", 409, "A request is outstanding for this Idempotency-Key"),
    ] {
        let answer = send(&app, request).await;
        answer.assert_problem(name, status);
        assert!(answer.text().contains(&format!(r#""title":"{title}""#)), "{}", answer.text());
        assert_eq!(answer.headers["link"], format!(r#"<{page}>; rel="describedby"; type="text/html""#));
    }
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "done");
}

#[tokio::test]
async fn the_result_of_what_was_completed_is_replayed_success_or_an_error() {
    for status in [201, 422, 500] {
        let app = serve(&Lab::new().layer().ietf(), move |_| async move { Ok(reply(status, "it")) });
        send(&app, post("\"k\"")).await.assert_first(status, "it");
        send(&app, post("\"k\"")).await.assert_replay(status, "it");
    }
}

#[tokio::test]
async fn each_of_its_settings_can_be_set_otherwise_after_it() {
    use tower_idempotency::{KeyReusedStatus, KeyRules};
    let layer = Lab::new().layer().ietf().key_rules(KeyRules::new()).key_reused_status(KeyReusedStatus::Conflict);
    let (app, _) = numbered(&layer);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post_body("\"k\"", "other")).await.assert_problem("key-reused", 409);
}
