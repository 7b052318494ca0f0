//! As Adyen's API does it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Response};
use serde_json::{Map, Value};

use crate::engine::outcome::Outcome;
use crate::engine::outcomes::{HandlerResponse, Outcomes};
use crate::http::header::IDEMPOTENCY_KEY;
use crate::http::key_rules::KeyRules;
use crate::http::layer::IdempotencyLayer;
use crate::http::retry_advice::RetryAdvice;
use crate::http::words::{InProgressStatus, Problem};
use crate::telemetry::refusal::Refusal;

const TRANSIENT_ERROR: HeaderName = HeaderName::from_static("transient-error");

/// "A minimum period of 7 days".
const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl IdempotencyLayer {
    /// As [Adyen's API](https://docs.adyen.com/development-resources/api-idempotency) does
    /// it. It is short for
    ///
    /// - the key in `Idempotency-Key`, of up to 64 characters, and
    ///   [sent back](Self::echo_key), by which its clients know that it counted;
    /// - `transient-error: true` ([`retry_advice`](Self::retry_advice)) where a retry with
    ///   the same key may help, and no such field where not;
    /// - a handler that sets this field to `true` frees the key: the next request with it
    ///   runs "as if it was the first request". If the key can't be freed, a retry resumes, or
    ///   gets `outcome-unknown`. The layer stores any other 408 or 5xx;
    /// - 409 while the first request runs; that problem has a member `errorCode` of 704, and
    ///   `store-unavailable` one of 703;
    /// - a [retention](crate::Engine::retention) of 7 days, where it is less.
    ///
    /// You can override each of them after this call.
    /// [The guide](crate::guide::presets) has the presets side by side.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).adyen();
    /// ```
    ///
    /// # Caveats
    ///
    /// In at-most-once mode a retry after `transient-error: true` repeats what the handler did
    /// before: a handler must set it only where it did nothing.
    pub fn adyen(self) -> Self {
        self.key_headers([IDEMPOTENCY_KEY.clone()])
            .key_rules(KeyRules::new().max_length(64))
            .echo_key()
            .outcomes(Outcomes::by(outcome))
            .in_progress_status(InProgressStatus::Conflict)
            .problems(coded)
            .retry_advice(RetryAdvice::known(TRANSIENT_ERROR).only_yes())
            .retention_at_least(RETENTION)
    }
}

fn outcome(response: &HandlerResponse<'_>) -> Outcome {
    let is_transient = response.headers().get(TRANSIENT_ERROR).is_some_and(|line| line == "true");
    match response.by_default() {
        _ if is_transient && response.can_free_key() => Outcome::NothingHappened,
        _ if is_transient => Outcome::Retryable,
        Outcome::Retryable => Outcome::Final,
        usual => usual,
    }
}

/// The problem with the number that its clients know.
fn coded(problem: &Problem<'_>, response: Response<Bytes>) -> Response<Bytes> {
    let code = match problem.refusal() {
        Refusal::InProgress => "704",
        Refusal::StoreUnavailable => "703",
        _ => return response,
    };
    response.map(|body| match serde_json::from_slice::<Map<String, Value>>(&body) {
        Ok(mut members) => {
            members.insert("errorCode".to_owned(), code.into());
            Value::from(members).to_string().into()
        }
        Err(_) => body,
    })
}
