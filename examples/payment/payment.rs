//! What comes in and what goes out.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_idempotency::StepKey;

use crate::gateway::{Charge, ChargeRequest};
use crate::problem::Problem;

const CURRENCIES: [&str; 4] = ["CHF", "EUR", "GBP", "USD"];

/// `{"order":"A-17","amount":1999,"currency":"EUR"}`
pub(crate) struct PaymentRequest {
    order: String,
    amount: u64,
    currency: String,
}

impl PaymentRequest {
    /// A retry can't mend what is wrong here, so the layer stores and replays
    /// this error like any other response.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Problem> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            let detail = "`Content-Type` must be application/json.";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Not JSON", detail));
        }
        let body: Value = serde_json::from_slice(body)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "Not JSON", error.to_string()))?;

        let text = |field: &str| body.get(field).and_then(Value::as_str);
        let order = text("order").filter(|order| (1..=64).contains(&order.trim().len()));
        let amount = body.get("amount").and_then(Value::as_u64).filter(|amount| (1..=99_999_999).contains(amount));
        let currency = text("currency").filter(|currency| CURRENCIES.contains(currency));
        Ok(Self {
            order: order.ok_or_else(|| Problem::field("order", "a text of 1 to 64 bytes"))?.to_owned(),
            amount: amount.ok_or_else(|| Problem::field("amount", "a whole number of cents, 1 to 99999999"))?,
            currency: currency.ok_or_else(|| Problem::field("currency", "CHF, EUR, GBP or USD"))?.to_owned(),
        })
    }

    pub(crate) fn charge_request(self, order: &Order) -> ChargeRequest {
        let Self { order: reference, amount, currency } = self;
        ChargeRequest { payment_id: order.payment_id.clone(), order: reference, amount, currency }
    }
}

/// What is remembered of an order: its id must be the same on every attempt.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    payment_id: String,
}

impl Order {
    /// The same for every attempt, even if the store forgot the ones before.
    pub(crate) fn of(key: &StepKey) -> Self {
        Self { payment_id: format!("pay_{:.16}", key.as_str()) }
    }

    pub(crate) fn new() -> Self {
        Self { payment_id: format!("pay_{:016x}", fastrand::u64(..)) }
    }
}

/// A payment that was made.
#[derive(Serialize)]
pub(crate) struct Payment {
    payment_id: String,
    order: String,
    amount: u64,
    currency: String,
    charge_id: String,
}

impl From<Charge> for Payment {
    fn from(charge: Charge) -> Self {
        let Charge { id: charge_id, request: ChargeRequest { payment_id, order, amount, currency }, .. } = charge;
        Self { payment_id, order, amount, currency, charge_id }
    }
}

/// 201, with the payment's address, and the number of the attempt that responded.
pub(crate) struct Created(pub(crate) Payment, pub(crate) u32);

impl IntoResponse for Created {
    fn into_response(self) -> Response {
        let Self(payment, attempt) = self;
        let headers =
            [(LOCATION.as_str(), format!("/payments/{}", payment.payment_id)), ("x-attempt", attempt.to_string())];
        (StatusCode::CREATED, headers, Json(payment)).into_response()
    }
}
