//! As Stripe's API v1 does it.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response};
use serde_json::json;

use crate::engine::outcomes::Outcomes;
use crate::http::first_request::FirstRequest;
use crate::http::header::IDEMPOTENCY_KEY;
use crate::http::layer::IdempotencyLayer;
use crate::http::retry_advice::RetryAdvice;
use crate::http::words::{InProgressStatus, KeyReusedStatus, Problem};
use crate::telemetry::refusal::Refusal;

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const ORIGINAL_REQUEST: HeaderName = HeaderName::from_static("original-request");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("stripe-should-retry");

/// "Removed after they're at least 24 hours old".
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

impl IdempotencyLayer {
    /// As [Stripe's API v1](https://docs.stripe.com/api/idempotent_requests) does it. It is
    /// short for
    ///
    /// - the key in `Idempotency-Key`, of up to 255 characters, and
    ///   [sent back](Self::echo_key);
    /// - every response of a handler [stored](Outcomes::store_everything), a 500 as well;
    /// - 400 for a key that was used for a different request, or at another endpoint, and
    ///   409 while the first request runs; each problem as
    ///   `{"error":{"type":"idempotency_error","code":…,"message":…}}`, where `code` is the
    ///   problem's of this crate;
    /// - `Stripe-Should-Retry` ([`retry_advice`](Self::retry_advice)), and replays that name
    ///   the `Request-Id` of the first response in `Original-Request`
    ///   ([`first_request`](Self::first_request));
    /// - a [retention](crate::Engine::retention) of 24 hours, where it is less.
    ///
    /// You can override each of them after this call.
    /// [The guide](crate::guide::presets) has the presets side by side.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).stripe_v1();
    /// ```
    ///
    /// # Caveats
    ///
    /// Put authentication and rate limits *outside* the layer, or it stores a 401 or a 429,
    /// too. If a handler finds its parameters invalid before it begins, it marks its response
    /// [`Outcome::NothingHappened`](crate::Outcome::NothingHappened); or choose
    /// [`Outcomes::free_validation_failures`] for all of them. A problem that stands for a
    /// success that was not retained keeps its form.
    pub fn stripe_v1(self) -> Self {
        self.key_headers([IDEMPOTENCY_KEY.clone()])
            .echo_key()
            .outcomes(Outcomes::store_everything())
            .key_reused_status(KeyReusedStatus::BadRequest)
            .in_progress_status(InProgressStatus::Conflict)
            .problems(error)
            .retry_advice(RetryAdvice::known(SHOULD_RETRY))
            .first_request(FirstRequest::known(REQUEST_ID, ORIGINAL_REQUEST))
            .retention_at_least(RETENTION)
    }
}

/// The problem as an error object.
fn error(problem: &Problem<'_>, mut response: Response<Bytes>) -> Response<Bytes> {
    if response.status().is_success() || response.body().is_empty() {
        return response;
    }
    let message = match (problem.refusal(), problem.idempotency_key()) {
        (Refusal::KeyReused, Some(key)) => format!(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '{key}'."
        ),
        _ => problem.title().to_owned(),
    };
    let (kind, code) = ("idempotency_error", problem.refusal().name());
    let error = json!({ "error": { "type": kind, "code": code, "message": message } });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.map(|_| error.to_string().into())
}
