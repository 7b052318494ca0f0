//! Handlers that panic. The process lives on, and nothing runs twice that
//! must not. (Peer bugs 4 and 25, faults C1.)

use tower_idempotency::{Backoff, IdempotencyLayer};

use crate::support::bodies::Failure;
use crate::support::lab::{App, Lab, operation, post, reply, secs, send, serve, stored_key};
use crate::support::{Count, settle};

#[derive(Clone, Copy, Debug)]
enum When {
    InCall,
    AtFirstPoll,
    AfterAwait,
    AfterStep,
}

const ALL: [When; 4] = [When::InCall, When::AtFirstPoll, When::AfterAwait, When::AfterStep];

/// Panics in its first run.
fn panicking(layer: &IdempotencyLayer, when: When) -> (App, Count, Count) {
    let (runs, charges) = (Count::default(), Count::default());
    let (count, charge) = (runs.clone(), charges.clone());
    let app = serve(layer, move |request| {
        let first = count.up() == 1;
        let (op, charge) = (operation(&request), charge.clone());
        assert!(!(first && matches!(when, When::InCall)), "planned");
        async move {
            assert!(!(first && matches!(when, When::AtFirstPoll)), "planned");
            tokio::task::yield_now().await;
            assert!(!(first && matches!(when, When::AfterAwait)), "planned");
            let number = op.pay("charge", |_| async move { Ok::<_, Failure>(charge.up()) }).await.unwrap();
            assert!(!(first && matches!(when, When::AfterStep)), "planned");
            Ok(reply(200, format!("charge {number}")))
        }
    });
    (app, runs, charges)
}

#[tokio::test]
async fn at_most_once_a_panic_leaves_the_outcome_unknown_and_is_not_run_again() {
    for when in ALL {
        let lab = Lab::new();
        let (app, runs, _) = panicking(&lab.layer(), when);
        send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
        // At once, not only when the lease is over; and for good.
        for _ in 0..3 {
            send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
        }
        assert_eq!(runs.get(), 1, "{when:?}");
        assert_eq!(lab.events.count("Panicked"), 1);
        send(&app, post("other"))
            .await
            .assert_first(200, &format!("charge {}", if matches!(when, When::AfterStep) { 2 } else { 1 }));
    }
}

/// The client whose request panicked and one that retries are told the same. To
/// the first of them no attempt was an earlier one.
#[tokio::test]
async fn of_a_panic_the_first_client_and_a_retry_are_told_what_is_true_for_both() {
    let lab = Lab::new();
    let (app, ..) = panicking(&lab.layer(), When::AfterAwait);
    for client in ["first", "retry"] {
        let answer = send(&app, post("k")).await;
        answer.assert_problem("outcome-unknown", 500);
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let detail = problem["detail"].as_str().unwrap();
        let told = "An attempt with this Idempotency-Key ended without a response, and what it did is unknown.";
        assert!(detail.starts_with(told), "{client}: {detail}");
        for word in ["earlier", "first", "previous", "before", "last"] {
            assert!(
                !detail.to_lowercase().split(|c: char| !c.is_alphabetic()).any(|w| w == word),
                "{client}: {detail}"
            );
        }
    }
}

#[tokio::test]
async fn resumable_a_retry_after_a_panic_goes_on_at_once() {
    for when in ALL {
        let lab = Lab::new();
        let (app, runs, charges) = panicking(&lab.layer().resumable(), when);
        send(&app, post("k")).await.assert_problem("interrupted", 500);
        send(&app, post("k")).await.assert_first(200, "charge 1");
        send(&app, post("k")).await.assert_replay(200, "charge 1");
        assert_eq!((runs.get(), charges.get()), (2, 1), "{when:?}");
    }
}

/// Not before it is due for others, and whoever comes earlier is served.
#[tokio::test]
async fn what_was_interrupted_is_asked_for_again_when_it_is_due() {
    let lab = Lab::new();
    let layer = lab.layer_with(|engine| engine.backoff(Backoff::new(secs(1_000_000), secs(1_000_000)))).resumable();
    let (app, ..) = panicking(&layer, When::AfterStep);
    let interrupted = send(&app, post("k")).await;
    interrupted.assert_problem("interrupted", 500);
    let rests = lab.store.peek(&stored_key("k")).await.unwrap().retry_in();
    assert_eq!(interrupted.headers["retry-after"], rests.as_millis().div_ceil(1000).to_string().as_str());
    send(&app, post("k")).await.assert_first(200, "charge 1");
}

#[tokio::test]
async fn a_panic_after_the_client_left_harms_nobody() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        panic!("planned")
    });
    let client = crate::support::lab::spawn(&app, post("k"));
    tokio::task::yield_now().await;
    client.abort();
    settle().await;
    assert_eq!(lab.events.count("Panicked"), 1);
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
}

/// A body that panics while it is read is a handler that panics.
#[tokio::test]
async fn a_response_body_that_panics_is_a_panic_of_the_handler() {
    use http_body_util::BodyExt;
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async {
        let body = crate::support::bodies::script([crate::support::bodies::data(b"x")]);
        let body = body.map_frame(|_| -> hyper::body::Frame<bytes::Bytes> { panic!("planned") }).boxed_unsync();
        Ok(http::Response::new(body))
    });
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
}
