//! A payment, and what its client lives through. Copy what you need.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::{Json, Router, body::Body, routing::post};
use tower::ServiceExt;
use tower_idempotency::testing::{Crash, Process, TestBed, verify_replay};
use tower_idempotency::{Completer, IdempotencyLayer, Operation, Scope, StepError, StepKey};

/// A double of the payment provider: one charge for each key.
#[derive(Clone, Default)]
struct Gateway(Arc<Mutex<BTreeMap<String, u64>>>);

impl Gateway {
    async fn charge(self, key: StepKey, amount: u64) -> Result<String, String> {
        let mut charges = self.0.lock().unwrap();
        charges.entry(key.to_string()).or_insert(amount);
        Ok(format!("charge of {amount}"))
    }

    fn charges(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// The handler under test.
async fn pay(State(gateway): State<Gateway>, op: Operation, Json(amount): Json<u64>) -> Result<String, StatusCode> {
    let order = op.step("order", |_| async { Ok(17) }).await.map_err(later)?;
    let charge = op.pay("charge", |key| gateway.charge(key, amount)).await.map_err(later)?;
    Ok(format!("order {order}, {charge}"))
}

fn later(_: StepError<String>) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}

fn layer(process: &Process) -> IdempotencyLayer {
    IdempotencyLayer::new(process.clone(), Scope::shared()).resumable().required()
}

fn app(layer: &IdempotencyLayer, gateway: &Gateway) -> Router {
    Router::new().route("/payments", post(pay)).with_state(gateway.clone()).layer(layer.clone())
}

fn payment(key: &str, amount: u64) -> Request<Body> {
    let request = Request::post("/payments").header("idempotency-key", key);
    request.header("content-type", "application/json").body(Body::from(amount.to_string())).unwrap()
}

/// Status, and whether it is a replay.
async fn send(app: &Router, request: Request<Body>) -> (u16, bool) {
    let response = app.clone().oneshot(request).await.unwrap();
    (response.status().as_u16(), response.headers().contains_key("idempotent-replayed"))
}

#[tokio::test]
async fn a_retry_gets_the_stored_response() {
    let (bed, gateway) = (TestBed::new(), Gateway::default());
    let app = app(&layer(&bed.process()), &gateway);
    assert_eq!(send(&app, payment("first", 1999)).await, (200, false));
    assert_eq!(send(&app, payment("first", 1999)).await, (200, true));
    assert_eq!(gateway.charges(), 1);
    bed.find("", "first").await.assert_complete(200).assert_done(["order", "charge"]);
}

#[tokio::test]
async fn the_same_key_with_another_amount_is_refused() {
    let (bed, gateway) = (TestBed::new(), Gateway::default());
    let app = app(&layer(&bed.process()), &gateway);
    assert_eq!(send(&app, payment("first", 1999)).await, (200, false));
    assert_eq!(send(&app, payment("first", 4999)).await, (422, false));
    assert_eq!(gateway.charges(), 1);
}

#[tokio::test]
async fn after_a_crash_behind_the_charge_the_retry_goes_on_and_charges_nothing() {
    let (bed, gateway) = (TestBed::new(), Gateway::default());
    let (first, second) = (bed.process(), bed.process());
    first.crash_at(Crash::after_work("charge"));
    let answered = first.run(send(&app(&layer(&first), &gateway), payment("second", 500))).await;
    assert_eq!(answered, None, "the process died");
    bed.find("", "second").await.assert_unfinished().assert_done(["order"]).assert_in_doubt(["charge"]);

    // Until its lease is over, the dead process counts as the holder.
    let app = app(&layer(&second), &gateway);
    assert_eq!(send(&app, payment("second", 500)).await, (409, false));
    bed.advance(Duration::from_secs(60));
    assert_eq!(send(&app, payment("second", 500)).await, (200, false));
    assert_eq!(gateway.charges(), 1);
    bed.find("", "second").await.assert_complete(200).assert_done(["order", "charge"]);
}

#[tokio::test]
async fn in_at_most_once_mode_the_outcome_is_unknown_after_a_crash() {
    let (bed, gateway) = (TestBed::new(), Gateway::default());
    let at_most_once = |process: &Process| IdempotencyLayer::new(process.clone(), Scope::shared()).required();
    let (first, second) = (bed.process(), bed.process());
    first.crash_at(Crash::before_response());
    let answered = first.run(send(&app(&at_most_once(&first), &gateway), payment("third", 500))).await;
    assert_eq!(answered, None);

    bed.advance(Duration::from_secs(60));
    let app = app(&at_most_once(&second), &gateway);
    assert_eq!(send(&app, payment("third", 500)).await, (500, false), "`outcome-unknown`");
    assert_eq!(gateway.charges(), 1, "and it is not charged again");
}

#[tokio::test]
async fn a_completer_finishes_what_no_client_retries() {
    let (bed, gateway) = (TestBed::new(), Gateway::default());
    let (first, second) = (bed.process(), bed.process());
    first.crash_at(Crash::after_step("order"));
    first.run(send(&app(&layer(&first), &gateway), payment("fourth", 500))).await;
    assert_eq!(gateway.charges(), 0);

    bed.advance(Duration::from_secs(60));
    let layer = layer(&second);
    let report = Completer::new(&layer, app(&layer, &gateway)).run_once().await.unwrap();
    assert_eq!(report.completed, 1);
    bed.find("", "fourth").await.assert_complete(200).assert_done(["order", "charge"]);
}

#[tokio::test]
async fn the_next_release_finishes_what_this_one_began() {
    let (bed, gateway) = (TestBed::new(), Gateway::default());
    send(&app(&layer(&bed.process()), &gateway), payment("fifth", 500)).await;
    let recording = bed.find("", "fifth").await.recording().unwrap();

    // Here it is the same release.
    let replayed = verify_replay(&recording, |engine| async {
        let layer = IdempotencyLayer::new(engine, Scope::shared()).resumable();
        send(&app(&layer, &Gateway::default()), payment("fifth", 500)).await
    });
    assert_eq!(replayed.await, Ok((200, false)));
}
