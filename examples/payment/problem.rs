//! Errors as problem details (RFC 9457), like those of the layer itself.

use std::convert::Infallible;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tower_idempotency::{Outcome, StepError};

use crate::gateway::GatewayError;

pub(crate) struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    field: Option<&'static str>,
    /// How the layer counts this response, where the status alone does not say it.
    outcome: Option<Outcome>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, title, detail: detail.into(), field: None, outcome: None }
    }

    pub(crate) fn field(field: &'static str, rule: &str) -> Self {
        let detail = format!("`{field}` must be {rule}.");
        Self { field: Some(field), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "A field is not valid", detail) }
    }

    /// Not stored: the key is as if it had never been used.
    pub(crate) fn nothing_happened(self) -> Self {
        Self { outcome: Some(Outcome::NothingHappened), ..self }
    }
}

impl From<GatewayError> for Problem {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Declined => {
                Self::new(StatusCode::PAYMENT_REQUIRED, "The card was declined", "Nothing was charged.")
            }
            GatewayError::KeyReused => {
                Self::new(StatusCode::CONFLICT, "The gateway refused", "It knows this key from another charge.")
            }
            GatewayError::Unreachable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The gateway is down",
                "Retry with the same Idempotency-Key.",
            ),
            GatewayError::Failed(detail) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "The gateway failed", detail),
        }
    }
}

impl From<Infallible> for Problem {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl<E: Into<Self>> From<StepError<E>> for Problem {
    fn from(error: StepError<E>) -> Self {
        match error {
            StepError::Final(error) | StepError::Retry(error) => error.into(),
            // The store failed, or another attempt took over. Under a
            // resumable layer a 503 is not stored, and the retry resumes.
            _ => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The payment was interrupted",
                "Retry with the same Idempotency-Key: the payment continues where it stopped.",
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, title, detail, field, outcome } = self;
        let mut body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        if let Some(field) = field {
            body["field"] = field.into();
        }
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(outcome) = outcome {
            response.extensions_mut().insert(outcome);
        }
        response
    }
}
