//! What an observer is told, in which order.

use tower_idempotency::core::Status;
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{EventKind, Outcome};

use crate::support::Count;
use crate::support::bodies::Failure;
use crate::support::lab::{Lab, operation, post, post_body, reply, secs, send, serve, stored_key, unkeyed, with};
use crate::support::store::{Call, Fault};

#[tokio::test]
async fn a_first_run_a_replay_and_a_mismatch() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(201, "")) });
    send(&app, post("k")).await;
    assert_eq!(lab.events.names(), ["Claimed", "Completed"]);
    lab.events.clear();
    send(&app, post("k")).await;
    assert_eq!(lab.events.names(), ["Replayed"]);
    lab.events.clear();
    send(&app, post_body("k", "x")).await;
    assert_eq!(lab.events.names(), ["Refused key-reused"]);
    lab.events.clear();
    send(&app, post("\"broken")).await;
    assert_eq!(lab.events.names(), ["Refused invalid-key"]);
    lab.events.clear();
    send(&app, unkeyed("POST")).await;
    assert!(lab.events.names().is_empty());
}

#[tokio::test]
async fn a_run_with_steps_and_its_resumption() {
    let lab = Lab::new();
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, number) = (operation(&request), count.up());
        async move {
            op.step("order", |_| async { Ok::<_, Failure>(17) }).await.unwrap();
            op.pay("charge", |_| async { Ok::<_, Failure>("paid".to_owned()) }).await.unwrap();
            Ok(if number == 1 { reply(503, "later") } else { reply(200, "done") })
        }
    });
    send(&app, post("k")).await;
    assert_eq!(lab.events.names(), ["Claimed", "StepSaved", "StepBegun", "StepSaved", "Released"]);
    lab.events.clear();
    send(&app, post("k")).await;
    assert_eq!(lab.events.names(), ["Resumed", "StepReplayed", "StepReplayed", "Completed"]);
    let events = lab.events.all();
    assert!(matches!(events[0].kind, EventKind::Resumed { attempt: 2 }));
    assert!(matches!(&events[1].kind, EventKind::StepReplayed { step } if step == "order"));
    assert!(matches!(events[3].kind, EventKind::Completed { status: 200, retained: true }));
    assert!(events.iter().all(|event| event.key == Some(stored_key("k"))));
}

#[tokio::test]
async fn a_withdrawal_and_a_release() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |request| async move {
        let outcome = if operation(&request).attempt() == 1 && request.uri().path() == "/pay" {
            Outcome::NothingHappened
        } else {
            Outcome::Retryable
        };
        let mut response = reply(500, "");
        response.extensions_mut().insert(outcome);
        Ok(response)
    });
    send(&app, post("k")).await;
    assert_eq!(lab.events.names(), ["Claimed", "Withdrawn"]);
    lab.events.clear();
    let other = || crate::support::lab::request("POST", "/other", "k2", "");
    send(&app, other()).await;
    assert_eq!(lab.events.names(), ["Claimed", "Released"]);
    lab.events.clear();
    send(&app, other()).await;
    assert_eq!(lab.events.names(), ["Refused outcome-unknown"]);
}

#[tokio::test]
async fn what_somebody_should_look_at_says_so() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { panic!("planned") });
    send(&app, post("k")).await;
    assert_eq!(lab.events.names(), ["Claimed", "Panicked", "Released", "Refused outcome-unknown"]);
    let looks: Vec<_> = lab.events.all().iter().filter(|event| event.kind.needs_attention()).cloned().collect();
    assert_eq!(looks.len(), 2, "the panic, and what it left behind");
}

#[tokio::test]
async fn a_store_that_fails_at_the_claim_is_told() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(200, "")) });
    lab.store.fail(|_| Fault::Before(StoreErrorKind::Corrupt));
    send(&app, post("k")).await;
    assert_eq!(lab.events.names(), ["StoreFailed", "Refused record-corrupt"]);
}

#[tokio::test]
async fn an_answer_that_was_not_retained_says_so() {
    let lab = Lab::new();
    let app = serve(&lab.layer().response_limit(1), |_| async { Ok(reply(200, "xx")) });
    send(&app, post("k")).await;
    assert!(matches!(lab.events.all()[1].kind, EventKind::Completed { status: 200, retained: false }));
}

/// Whoever only listens decides nothing.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_harms_nobody() {
    let lab = Lab::new();
    let layer = lab.layer_with(|engine| engine.on_event(|_| panic!("planned")));
    let app = serve(&layer, |request| async move {
        let op = operation(&request);
        op.pay("charge", |_| async { Ok::<_, Failure>(()) }).await.unwrap();
        Ok(reply(201, "paid"))
    });
    lab.store.fail(|call| match call {
        Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_first(201, "paid");
    tokio::time::sleep(secs(10)).await;
    lab.store.heal();
    tokio::time::sleep(secs(10)).await;
    send(&app, post("k")).await.assert_replay(201, "paid");
}

/// What a rerun or a replay will lack is told once for a name, and by a name of
/// the client's own for no more than a hundred.
#[tokio::test]
async fn a_field_that_is_taken_for_a_credential_is_told_once() {
    let lab = Lab::new();
    let app = serve(&lab.layer().resumable(), |_| async {
        let mut response = reply(201, "done");
        response.headers_mut().insert("x-session-token", http::HeaderValue::from_static("s"));
        Ok(response)
    });
    let told = || {
        let name = |event: &tower_idempotency::Event| match &event.kind {
            EventKind::CredentialDropped { name } => Some(name.clone()),
            _ => None,
        };
        lab.events.all().iter().filter_map(name).collect::<Vec<_>>()
    };
    for key in ["a", "b"] {
        let request = with(with(post(key), "x-api-key", "k"), "x-partition-key", "7");
        send(&app, request).await.assert_first(201, "done");
        assert_eq!(told(), ["x-api-key", "x-session-token"]);
    }
    for n in 0..200 {
        let mut request = post(&format!("k{n}"));
        let name = http::HeaderName::try_from(format!("x-{n}-secret")).unwrap();
        request.headers_mut().insert(name, http::HeaderValue::from_static("k"));
        send(&app, request).await;
    }
    assert_eq!(told().len(), 100);
}
