//! Who decides what, and why, and that it is about what was shown.

use serde_json::{Value, json};
use tower_idempotency::core::{HistoryEvent, Resolution};
use tower_idempotency::{Backoff, Callback, EventKind, OperationState, Operator, OperatorError};

use super::{abandoned, secs};
use crate::support::bodies::Failure;
use crate::support::lab::{Lab, numbered, operation, post, reply, send, serve, stored_key};
use crate::support::{self, Count};

/// What was decided about the operation, why, and by whom, as its history has it.
async fn decisions(operator: &Operator, key: &str) -> Vec<(String, String)> {
    let record = operator.find("", key).await.unwrap().record;
    let decided = record.history().into_iter().filter(|entry| entry.event == HistoryEvent::Decided);
    let text = |text: Option<std::sync::Arc<str>>| text.map(|text| text.to_string()).unwrap_or_default();
    decided.map(|entry| (text(entry.by), text(entry.text))).collect()
}

fn decided(lab: &Lab) -> Vec<(&'static str, Option<String>, Option<String>)> {
    let decided = |event: tower_idempotency::Event| match event.kind {
        EventKind::Decided { what, who, why } => Some((what, who, why)),
        _ => None,
    };
    lab.events.all().into_iter().filter_map(decided).collect()
}

#[tokio::test(start_paused = true)]
async fn who_and_why_are_in_the_history_and_in_the_event() {
    let (lab, _) = Lab::manual();
    let _ = abandoned(&lab).await;
    let operators = Operator::new(lab.engine().instance("web-1"));
    let eve = operators.by("eve").because("the bank says that nothing was charged");
    eve.retry(&eve.find("", "k").await.unwrap()).await.unwrap();
    let why = "the bank says that nothing was charged";
    assert_eq!(decisions(&eve, "k").await, [("eve".to_owned(), format!("run again: {why}"))]);
    assert_eq!(decided(&lab), [("run again", Some("eve".into()), Some(why.into()))]);
    assert!(
        !lab.events
            .all()
            .iter()
            .any(|event| { matches!(event.kind, EventKind::Decided { .. }) && event.kind.needs_attention() })
    );
    // What one operator is told says nothing of the next one.
    let park = Resolution::Park { why: "ask".into() };
    operators.resolve(&operators.find("", "k").await.unwrap(), park).await.unwrap();
    assert_eq!(decisions(&eve, "k").await[1], ("web-1".to_owned(), "park".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_a_person_wrote_is_one_line_of_bounded_length() {
    let (lab, _) = Lab::manual();
    let _ = abandoned(&lab).await;
    let hostile = format!(" a\r\nb\u{1b}[31m{} ", "ß".repeat(300));
    let operator = Operator::new(lab.engine()).by(&hostile).because(&hostile);
    operator.retry(&operator.find("", "k").await.unwrap()).await.unwrap();
    let [(who, why)] = &decisions(&operator, "k").await[..] else { panic!("one decision") };
    for text in [who, why.strip_prefix("run again: ").unwrap()] {
        assert!(text.starts_with("a  b [31mßß") && !text.contains(char::is_control), "{text:?}");
        assert!((199..=200).contains(&text.len()), "{}", text.len());
    }
    let nothing = Operator::new(lab.engine()).because(" \n ");
    nothing.retry(&nothing.find("", "k").await.unwrap()).await.unwrap();
    assert_eq!(decisions(&operator, "k").await[1].1, "run again");
}

/// Complete, and its callback fails.
async fn with_callback(lab: &Lab, calls: &Count) -> (support::lab::App, tower_idempotency::IdempotencyLayer) {
    let counted = calls.clone();
    let layer = lab.layer().callback(Callback::new(move |_| {
        counted.up();
        std::future::ready(Err::<(), _>(Failure("the receiver is gone")))
    }));
    let (app, _) = numbered(&layer);
    send(&app, post("k")).await.assert_first(201, "charge 1");
    (app, layer)
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_was_ended_is_not_made_again() {
    let lab = Lab::new();
    let calls = Count::default();
    let (app, layer) = with_callback(&lab, &calls).await;
    let operator = Operator::new(&layer).by("eve").because("they closed");
    let shown = operator.find("", "k").await.unwrap();
    assert_eq!(shown.state(), OperationState::CallbackPending);
    let completer = support::lab::completer(&layer, &app);
    completer.run_once().await.unwrap();
    assert_eq!(calls.get(), 1);
    let stale = operator.end_callback(&shown).await;
    assert!(matches!(stale, Err(OperatorError::Overtaken)), "{stale:?}");
    operator.end_callback(&operator.find("", "k").await.unwrap()).await.unwrap();
    tokio::time::sleep(secs(3600)).await;
    completer.run_once().await.unwrap();
    assert_eq!(calls.get(), 1);
    let shown = operator.find("", "k").await.unwrap();
    assert_eq!(shown.state(), OperationState::Complete);
    let last: Vec<_> = shown.record.history().iter().rev().take(2).map(|entry| entry.event.name()).collect();
    assert_eq!(last, ["decided", "callback-tried"]);
    assert_eq!(decisions(&operator, "k").await, [("eve".to_owned(), "end callback: they closed".to_owned())]);
    let again = operator.end_callback(&shown).await;
    assert!(matches!(again, Err(OperatorError::NoCallback)), "{again:?}");
    assert_eq!(decided(&lab).len(), 1, "what was refused is no decision");
    operator.forget(&shown).await.unwrap();
    assert_eq!(decided(&lab)[1], ("forget", Some("eve".into()), Some("they closed".into())));
}

#[tokio::test(start_paused = true)]
async fn what_was_shown_of_another_state_is_not_forgotten() {
    let lab = Lab::new();
    let calls = Count::default();
    let (_, layer) = with_callback(&lab, &calls).await;
    let operator = Operator::new(&layer);
    operator.end_callback(&operator.find("", "k").await.unwrap()).await.unwrap();
    let (one, other) = (operator.find("", "k").await.unwrap(), operator.find("", "k").await.unwrap());
    operator.forget(&one).await.unwrap();
    let refused = operator.forget(&other).await;
    assert!(matches!(refused, Err(OperatorError::Overtaken)), "{refused:?}");
    let absent = operator.end_callback(&other).await;
    assert!(matches!(absent, Err(OperatorError::Absent)), "{absent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reference_finds_its_operation_whatever_the_attempt() {
    let (lab, _) = Lab::manual();
    let _ = abandoned(&lab).await;
    let operator = Operator::new(lab.store.clone());
    let shown = operator.find("", "k").await.unwrap();
    assert_eq!(shown.reference(), format!("{}-1", stored_key("k")));
    for reference in [shown.reference(), format!(" {}-7\n", shown.key)] {
        assert_eq!(operator.find_by_reference(&reference).await.unwrap().key, shown.key);
    }
    for reference in ["", "-1", "k", &shown.key.to_string(), &format!("{}-x", shown.key), &format!("{}-", shown.key)] {
        let found = operator.find_by_reference(reference).await;
        assert!(matches!(found, Err(OperatorError::InvalidReference)), "{reference}: {found:?}");
    }
    let absent = operator.find_by_reference(&format!("{}-1", "0".repeat(64))).await;
    assert!(matches!(absent, Err(OperatorError::Absent)), "{absent:?}");
}

#[tokio::test(start_paused = true)]
async fn json_has_what_an_operator_needs_and_no_secret() {
    let (lab, clock) = Lab::manual();
    let app = serve(&lab.layer().resumable(), |request| async move {
        let operation = operation(&request);
        let sent: Result<String, _> =
            operation.once("charge", || async { Err::<String, _>(Failure("no answer")) }).await;
        drop(sent);
        Ok(reply(503, "a secret answer"))
    });
    let mut request = post("k");
    *request.uri_mut() = "/payments/7?token=hush".parse().unwrap();
    request.headers_mut().insert("x-note", "hush".parse().unwrap());
    send(&app, request).await;
    clock.advance(secs(120));
    let shown = Operator::new(lab.store.clone()).find("", "k").await.unwrap();
    let json = shown.to_json();
    assert!(!json.to_string().contains("hush"), "{json}");
    assert_eq!(json["reference"], shown.reference());
    assert_eq!(json["mode"], "resumable");
    assert_eq!(json["age_ms"], 120_000);
    assert_eq!(json["request"]["method"], "POST");
    assert_eq!(json["request"]["path"], "/payments/7");
    assert_eq!(json["request"]["target"], Value::Null);
    assert!(json["request"]["headers"].as_array().unwrap().contains(&json!("x-note")), "{json}");
    let events: Vec<_> = json["history"].as_array().unwrap().iter().map(|entry| entry["event"].clone()).collect();
    assert_eq!(events[0], "claimed");
    let whole = shown.to_json_with_bodies(4);
    assert_eq!(whole["request"]["target"], "/payments/7?token=hush");
    let body = &whole["request"]["body"];
    assert!(body["text"].as_str().is_some_and(|text| text.len() <= 4), "{body}");
    assert!(body["base64"].is_null());
}

#[tokio::test(start_paused = true)]
async fn a_completer_of_this_process_takes_what_is_to_run_again_at_once() {
    let lab = Lab::new();
    let hours = Backoff::new(secs(36_000), secs(36_000));
    let layer = lab.layer_with(|engine| engine.backoff(hours)).resumable();
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&layer, move |_| {
        let run = count.up();
        async move { Ok(if run == 1 { reply(503, "later") } else { reply(201, "done") }) }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    let completer = support::lab::completer(&layer, &app).poll(secs(3600));
    let completing = tokio::spawn(async move { completer.run(std::future::pending()).await });
    support::settle().await;
    let started = tokio::time::Instant::now();
    let operator = Operator::new(&layer);
    operator.retry(&operator.find("", "k").await.unwrap()).await.unwrap();
    support::settle().await;
    assert_eq!((runs.get(), started.elapsed()), (2, std::time::Duration::ZERO));
    completing.abort();
}
