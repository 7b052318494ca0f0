//! Which requests are guarded, where their key is, and which rules it keeps.

use http::{HeaderName, HeaderValue, Method, Request};
use tower_idempotency::core::InvalidKey;
use tower_idempotency::{EventKind, KeyRules, Refusal};

use crate::support::Count;
use crate::support::bodies::{TestBody, full};
use crate::support::lab::{App, Lab, completer, numbered, operation, post, reply, request, send, serve, unkeyed, with};

fn query() -> Method {
    Method::from_bytes(b"QUERY").unwrap()
}

fn names<const N: usize>(names: [&'static str; N]) -> [HeaderName; N] {
    names.map(HeaderName::from_static)
}

/// A request whose key is in the field `name`.
fn keyed_in(name: &'static str, key: &str) -> Request<TestBody> {
    with(unkeyed("POST"), name, key)
}

#[tokio::test]
async fn methods_that_are_named_are_covered_and_no_other_is() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer().methods([Method::PUT, Method::DELETE, query()]));
    for (at, method) in ["PUT", "DELETE", "QUERY"].into_iter().enumerate() {
        let charge = format!("charge {}", at + 1);
        send(&app, request(method, "/pay", method, "")).await.assert_first(201, &charge);
        send(&app, request(method, "/pay", method, "")).await.assert_replay(201, &charge);
    }
    for charge in ["charge 4", "charge 5"] {
        send(&app, post("k")).await.assert_first(201, charge);
    }
}

#[tokio::test]
async fn safe_methods_can_not_be_covered_and_nothing_named_changes_nothing() {
    let lab = Lab::new();
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::CONNECT];
    let (app, _) = numbered(&lab.layer().methods([]).methods(safe));
    send(&app, request("GET", "/pay", "k", "")).await.assert_first(201, "charge 1");
    send(&app, request("GET", "/pay", "k", "")).await.assert_first(201, "charge 2");
    send(&app, post("k")).await.assert_first(201, "charge 3");
    send(&app, post("k")).await.assert_replay(201, "charge 3");
}

#[tokio::test]
async fn a_key_that_protects_nothing_is_told_once() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, request("GET", "/pay", "k", "")).await;
    send(&app, unkeyed("PUT")).await;
    send(&app, post("k")).await;
    assert_eq!(lab.events.count("KeyIgnored"), 0);
    for method in ["PUT", "DELETE", "PUT"] {
        send(&app, request(method, "/pay", "k", "")).await;
    }
    assert_eq!(lab.events.count("KeyIgnored"), 1);
    let told = lab.events.all().into_iter().find(|event| matches!(event.kind, EventKind::KeyIgnored { .. })).unwrap();
    assert!(matches!(&told.kind, EventKind::KeyIgnored { method } if method == "PUT"), "{told:?}");
    assert!(told.kind.needs_attention());
}

#[tokio::test]
async fn what_is_skipped_passes_with_any_key_or_none() {
    let lab = Lab::new();
    let layer = lab.layer().required().skip(|parts| parts.uri.path() == "/search");
    let (app, runs) = numbered(&layer);
    for key in ["k", "k", "\"broken"] {
        let answer = send(&app, request("POST", "/search", key, "")).await;
        assert!(answer.status == 201 && !answer.is_replay(), "{answer:?}");
    }
    let without = Request::post("/search").body(full("")).unwrap();
    send(&app, without).await.assert_first(201, "charge 4");
    assert_eq!(lab.store.calls(), 0);
    send(&app, unkeyed("POST")).await.assert_problem("missing-key", 400);
    send(&app, post("k")).await.assert_first(201, "charge 5");
    send(&app, post("k")).await.assert_replay(201, "charge 5");
    assert_eq!(runs.get(), 5);
}

#[tokio::test]
async fn a_key_is_required_where_the_predicate_says_so() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer().required_if(|parts| parts.uri.path() == "/pay"));
    send(&app, unkeyed("POST")).await.assert_problem("missing-key", 400);
    let elsewhere = Request::post("/note").body(full("")).unwrap();
    send(&app, elsewhere).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_first(201, "charge 2");
}

#[tokio::test]
async fn the_key_is_in_the_fields_that_are_named() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer().key_headers([]).key_headers(names(["x-request-key", "paypal-request-id"])));
    send(&app, keyed_in("x-request-key", "k")).await.assert_first(201, "charge 1");
    // The same key, wherever it is.
    send(&app, keyed_in("paypal-request-id", "\"k\"")).await.assert_replay(201, "charge 1");
    // No field of theirs.
    send(&app, post("k")).await.assert_first(201, "charge 2");
    for second in ["k", "l"] {
        let both = with(keyed_in("x-request-key", "k"), "paypal-request-id", second);
        let refused = send(&app, both).await;
        refused.assert_problem("invalid-key", 400);
        assert_eq!(refused.refusal, Some(Refusal::InvalidKey(InvalidKey::Twice)));
    }
    send(&app, keyed_in("x-request-key", "a,b")).await.assert_problem("invalid-key", 400);
}

/// What a completer runs has no key, whatever it was called.
#[tokio::test]
async fn a_key_in_another_field_is_not_stored() {
    let lab = Lab::new();
    let layer = lab.layer().resumable().key_headers(names(["x-request-key"]));
    let app = serve(&layer, |request| async move {
        let operation = operation(&request);
        let shown = request.headers().contains_key("x-request-key");
        let expected = operation.attempt() == 1;
        assert_eq!((shown, operation.idempotency_key().is_some()), (expected, expected));
        Ok(reply(if operation.attempt() == 1 { 503 } else { 200 }, ""))
    });
    send(&app, with(keyed_in("x-request-key", "k"), "x-more", "kept")).await.assert_first(503, "");
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(60 * 60)).await;
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1);
    send(&app, with(keyed_in("x-request-key", "k"), "x-more", "kept")).await.assert_replay(200, "");
}

#[tokio::test]
async fn the_handler_sees_the_key_as_its_client_knows_it() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |request| async move {
        let operation = operation(&request);
        assert!(!format!("{operation:?}").contains("order"), "it may be personal");
        Ok(reply(200, operation.idempotency_key().unwrap_or("none").to_owned()))
    });
    send(&app, post("\"order \\\"17\\\"\"")).await.assert_first(200, "order \"17\"");
    send(&app, post("order-18")).await.assert_first(200, "order-18");
}

fn ruled(rules: KeyRules) -> (Lab, App, Count) {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer().key_rules(rules));
    (lab, app, runs)
}

async fn assert_rules(rules: KeyRules, taken: &[&str], refused: &[(&str, InvalidKey)]) {
    let (lab, app, runs) = ruled(rules);
    for (value, why) in refused {
        let mut request = unkeyed("POST");
        request.headers_mut().append("idempotency-key", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        let answer = send(&app, request).await;
        answer.assert_problem("invalid-key", 400);
        assert_eq!(answer.refusal, Some(Refusal::InvalidKey(*why)), "{value:?}");
    }
    assert_eq!((runs.get(), lab.store.calls()), (0, 0));
    for value in taken {
        let answer = send(&app, post(value)).await;
        assert_eq!(answer.status, 201, "{value:?}: {answer:?}");
    }
}

#[tokio::test]
async fn strict_keys_are_quoted_strings() {
    use InvalidKey::{Empty, NotQuoted, Syntax};
    let bare = ["K", ":YWJj:", "?1", "12", "1.5", "@1659578233", "%\"x\"", "(\"a\")", "'abc'", "\t\"a\"", "\"a\"\t"];
    let mut refused: Vec<_> = bare.into_iter().map(|value| (value, NotQuoted)).collect();
    refused.extend([("\"abc", Syntax), ("\"K\" x", Syntax), ("\"\"", Empty), ("", Empty)]);
    assert_rules(KeyRules::new().strict(), &["\"K\"", "   \"L\"   ", "\"M\";v=1;foo"], &refused).await;
}

#[tokio::test]
async fn keys_are_uuids_where_they_have_to_be() {
    const ID: &str = "8e03978e-40d5-43e8-bc93-6894a57f9324";
    let refused = [
        "invalid-key",
        "8e03978e40d543e8bc936894a57f9324",
        "8e03978e-40d5-43e8-bc93-6894a57f932",
        "8e03978e-40d5-43e8-bc93-6894a57f93244",
        "8e03978e-40d5-43e8-bc93-6894a57f932g",
        "8e03978e-40d5-43e8-bc936-894a57f9324",
        "{8e03978e-40d5-43e8-bc93-6894a57f93}",
    ]
    .map(|value| (value, InvalidKey::NotUuid));
    let quoted = format!("\"{ID}\"");
    let taken = [ID, &quoted, "8E03978E-40D5-43E8-BC93-6894A57F9325", "01999999-aaaa-7bbb-8ccc-ddddeeeeffff"];
    assert_rules(KeyRules::new().uuid(), &taken, &refused).await;
}

#[tokio::test]
async fn lengths_are_bounded_either_way() {
    use InvalidKey::{TooLong, TooShort};
    let [short, shortest, longest, long] = [19, 20, 64, 65].map(|length| "k".repeat(length));
    // Quotes do not count.
    let quoted = format!("\"{longest}\"");
    let refused = [(short.as_str(), TooShort), (long.as_str(), TooLong)];
    let rules = || KeyRules::new().min_length(20).max_length(64);
    assert_rules(rules(), &[&shortest, &longest, &quoted], &refused).await;
    // The last one counts.
    assert_rules(rules().min_length(65), &[&long], &[(&longest, TooShort)]).await;
    assert_rules(rules().max_length(19), &[&short], &[(&shortest, TooLong)]).await;
}

#[tokio::test]
async fn a_rule_of_ones_own_says_why_in_the_problem() {
    const WHY: &str = "a key begins with \"order\\-\"";
    let rules = KeyRules::new().check(|key| if key.starts_with("order-") { Ok(()) } else { Err(WHY) });
    assert_rules(rules.clone(), &["order-17", "\"order-18\""], &[("17", InvalidKey::Rejected(WHY))]).await;
    let (_, app, _) = ruled(rules);
    let problem: serde_json::Value = serde_json::from_slice(&send(&app, post("17")).await.body).unwrap();
    assert_eq!(problem["detail"], WHY);
}
