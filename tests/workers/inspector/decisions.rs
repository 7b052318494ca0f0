//! Decisions that are made on the page.

use tower_idempotency::core::{Point, Status};
use tower_idempotency::{OperationState, OperatorError};

use super::{HOSTILE, Trouble, encoded, last};

#[tokio::test(start_paused = true)]
async fn each_decision_does_what_it_says() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");

    let form = eve.open(&trouble.unknown, "run-again").await;
    assert_eq!(eve.submit(&form).await.status, 303);
    assert_ne!(trouble.shown(&trouble.unknown).await.state(), OperationState::OutcomeUnknown);
    let (text, by) = last(&trouble, &trouble.unknown).await;
    assert!(text.contains("run again") && text.contains("the bank says so"), "{text}");
    assert_eq!(by.as_deref(), Some("eve"));

    let form = eve.open(&trouble.parked, "respond").await;
    let form = form.with("status", "201").with("type", "text/plain").with("hours", "2").with("body", "paid & sent");
    assert_eq!(eve.submit(&form).await.status, 303);
    let shown = trouble.shown(&trouble.parked).await;
    let response = shown.record.response().unwrap();
    assert_eq!((response.status().as_u16(), response.body().unwrap().as_ref()), (201, &b"paid & sent"[..]));
    assert_eq!(shown.record.due().since(shown.now).as_secs(), 2 * 3600);

    let about = format!("step={}", encoded(HOSTILE));
    let form = eve.open(&trouble.in_doubt, &format!("step-done&{about}")).await.with("value", "{\"id\": 1}");
    assert_eq!(eve.submit(&form).await.status, 303);
    let shown = trouble.shown(&trouble.in_doubt).await;
    assert!(matches!(shown.record.step(HOSTILE).unwrap().point(), Point::Saved(value) if value == "{\"id\": 1}"));

    let form = eve.open(&trouble.complete, "forget").await;
    let page = eve.submit(&form).await;
    assert_eq!(page.headers["location"], "?done=forget");
    let gone = trouble.operator.find_by_hash(&trouble.complete).await;
    assert!(matches!(gone, Err(OperatorError::Absent)));
    assert_eq!(trouble.lab.events.count("Decided"), 4, "each decision is an event");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_did_not_happen_is_out_of_doubt() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let form = eve.open(&trouble.in_doubt, &format!("did-not-happen&step={}", encoded(HOSTILE))).await;
    let page = eve.submit(&form).await;
    assert_eq!(page.status, 303);
    eve.get(page.headers["location"].to_str().unwrap()).await.assert(200, "Done: step did not happen");
    assert_eq!(trouble.shown(&trouble.in_doubt).await.in_doubt().count(), 0);
    let form = eve.open(&trouble.in_doubt, "park").await.with("why", "until the bank answers");
    assert_eq!(eve.submit(&form).await.status, 303);
    assert_eq!(trouble.shown(&trouble.in_doubt).await.parked(), Some("until the bank answers"));
    assert_eq!(trouble.shown(&trouble.in_doubt).await.record.status(), Status::Pending);
}

/// Whoever sends a form can't say that another person did.
#[tokio::test(start_paused = true)]
async fn who_decides_is_who_is_let_in() {
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let form = eve.open(&trouble.unknown, "park").await;
    let form = form.with("by", "zoe").with("who", "zoe").with("instance", "zoe");
    assert_eq!(eve.submit(&form).await.status, 303);
    assert_eq!(last(&trouble, &trouble.unknown).await.1.as_deref(), Some("eve"));
}

/// Nothing is kept between two requests, so any process takes the form of any other one.
#[tokio::test(start_paused = true)]
async fn another_process_takes_the_form() {
    let trouble = Trouble::new().await;
    let form = trouble.visitor("eve").open(&trouble.unknown, "park").await;
    assert_eq!(trouble.visitor("eve").submit(&form).await.status, 303);
}

#[tokio::test(start_paused = true)]
async fn a_second_form_has_the_cookie_of_the_first() {
    let trouble = Trouble::new().await;
    let first = trouble.visitor("eve").open(&trouble.unknown, "park").await;
    let eve = trouble.visitor("eve").with("cookie", &format!("theme=dark; {}", first.cookie.clone().unwrap()));
    let second = eve.open(&trouble.unknown, "park").await;
    assert_eq!(first.cookie, second.cookie, "the first form could not be sent any more");
    assert_eq!(trouble.visitor("eve").submit(&first).await.status, 303);
}
