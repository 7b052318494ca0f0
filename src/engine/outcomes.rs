//! How responses count: by default, and by a layer's own rules.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use super::attempt::Attempt;
use super::outcome::{DID_NOT_START, MOVED, Outcome};
use crate::core::Mode;
use crate::util::detached;

/// What a handler responded, for the decision how it counts: see [`Outcomes::by`].
#[derive(Clone, Copy)]
pub struct HandlerResponse<'a> {
    pub(crate) mode: Mode,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) is_post: bool,
    pub(crate) attempt: &'a Attempt,
}

impl HandlerResponse<'_> {
    /// Its status; for gRPC the HTTP status that stands for it (see [`Outcome`]).
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Its headers.
    pub const fn headers(&self) -> &HeaderMap {
        self.headers
    }

    /// Whether the request was a `POST`.
    pub const fn is_to_post(&self) -> bool {
        self.is_post
    }

    /// The mode of the layer.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether this attempt came to a step, or one is on record.
    pub fn reached_step(&self) -> bool {
        self.attempt.is_at_work() || !self.attempt.claimed().steps().is_empty()
    }

    /// Whether [`Outcome::NothingHappened`] would free the key here: it is the first
    /// attempt, no step was reached or is on record, and no operator has decided.
    /// Its client waits for it: the request was not accepted for the
    /// [background](crate::Background), and no [`Completer`](crate::Completer) drives it.
    pub fn can_free_key(&self) -> bool {
        // What a completer drives has a past: an attempt, or that it was accepted.
        self.attempt.claimed().starts_here() && !self.reached_step() && !detached::is_left()
    }

    /// How it counts by default.
    pub fn by_default(&self) -> Outcome {
        let number = self.status.as_u16();
        let moved = !self.is_post && MOVED.contains(&number);
        match self.mode {
            _ if moved || DID_NOT_START.contains(&number) => Outcome::NothingHappened,
            Mode::AtMostOnce => Outcome::Final,
            Mode::Resumable if self.has_failed() => Outcome::Retryable,
            // What the handler does outside of steps does not count.
            Mode::Resumable if self.status.is_client_error() && self.can_free_key() => Outcome::NothingHappened,
            Mode::Resumable => Outcome::Final,
        }
    }

    /// Whether it says that the handler did not get to its end.
    fn has_failed(&self) -> bool {
        self.status.is_server_error() || self.status == StatusCode::REQUEST_TIMEOUT
    }
}

impl fmt::Debug for HandlerResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

type Classify = dyn Fn(&HandlerResponse<'_>) -> Outcome + Send + Sync;

/// How a response counts that its handler does not mark: for
/// [`IdempotencyLayer::outcomes`](crate::IdempotencyLayer::outcomes). An [`Outcome`] that
/// the handler puts into its response counts in any case.
///
/// *Free* means that the next request with the key runs, with any body; *stored*, that
/// it gets the same response; *retried*, that it resumes, or in at-most-once mode gets
/// `outcome-unknown` and runs nothing.
///
/// | | at-most-once mode | resumable mode |
/// |---|---|---|
/// | [`new`](Self::new), the default | all stored, except those that mean "did not start" | a 4xx frees; 408 and 5xx are retried |
/// | [`store_everything`](Self::store_everything) (Stripe v1) | all stored | all stored |
/// | [`free_validation_failures`](Self::free_validation_failures) (Stripe) | validation frees, all else by default | the same |
/// | [`success_only`](Self::success_only) (idemkit) | 2xx stored, all else retried | 2xx stored, 3xx and 4xx free, 408 and 5xx are retried |
/// | [`rerun_failures_unprotected`](Self::rerun_failures_unprotected) (hono) | 2xx stored, all else frees | the same |
/// | [`store_server_errors`](Self::store_server_errors) | 408 and 5xx stored | the same |
/// | [`retry_server_errors`](Self::retry_server_errors) | 408 and 5xx retried | the same |
///
/// Whatever you choose, the layer frees no key once a step was begun or done, after a first
/// attempt, or after it accepted the request for the background: it stores a response that
/// would free the key, or has it retried (`rerun_failures_unprotected`).
///
/// ```
/// use http::StatusCode;
/// use tower_idempotency::{IdempotencyLayer, Outcome, Outcomes, Scope, store::MemoryStore};
///
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
///     .outcomes(Outcomes::free_validation_failures().retry_server_errors());
///
/// // Or a rule of your own.
/// let layer = layer.outcomes(Outcomes::by(|response| match response.status() {
///     StatusCode::CONFLICT if response.can_free_key() => Outcome::NothingHappened,
///     _ => response.by_default(),
/// }));
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Outcomes {
    classify: Option<Arc<Classify>>,
    server_errors: Option<Outcome>,
}

impl Outcomes {
    /// The default: the table of [`Outcome`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores every response, whatever its status. In resumable mode that ends the
    /// operation, at a 503 as well: no attempt follows.
    ///
    /// # Caveats
    ///
    /// The layer stores a 401, a 429 or a redirect, too: put it inside the layers that respond
    /// so, or a client that corrects its request needs another key.
    pub fn store_everything() -> Self {
        Self::by(|_| Outcome::Final)
    }

    /// Frees the key at a 400, 404, 405, 411, 412, 413, 415, 422, 428 or 431, so that a
    /// corrected body under the same key runs. The rejections of axum's extractors are
    /// among them. Stripe documents this, and the IETF draft §2.7 has clients correct
    /// their requests.
    ///
    /// # Caveats
    ///
    /// In at-most-once mode the retry repeats what the handler did before it responded
    /// with one of these: a handler must use them only where it did nothing.
    pub fn free_validation_failures() -> Self {
        Self::by(|response| {
            let is_validation = VALIDATION.contains(&response.status().as_u16());
            if is_validation && response.can_free_key() { Outcome::NothingHappened } else { response.by_default() }
        })
    }

    /// Stores 2xx only. In at-most-once mode the retry of anything else gets
    /// `outcome-unknown`, since what failed may have acted, unless its status means "did
    /// not start". In resumable mode a 3xx or 4xx frees the key where that
    /// [can be](HandlerResponse::can_free_key), and else is stored.
    pub fn success_only() -> Self {
        Self::by(|response| match (response.by_default(), response.mode()) {
            (usual, _) if response.status().is_success() => usual,
            (Outcome::Final, Mode::AtMostOnce) => Outcome::Retryable,
            (Outcome::Final, Mode::Resumable) if response.can_free_key() => Outcome::NothingHappened,
            (usual, _) => usual,
        })
    }

    /// Stores 2xx only, and runs anything else again, whatever it did: a handler that
    /// charges and then fails charges twice. For handlers that take back what they did
    /// before they respond with a failure.
    pub fn rerun_failures_unprotected() -> Self {
        Self::by(|response| if response.status().is_success() { Outcome::Final } else { Outcome::NothingHappened })
    }

    /// Your own rule. The layer calls it for each response that the handler did not mark.
    ///
    /// # Caveats
    ///
    /// [`Outcome::NothingHappened`] of a first attempt without steps runs the handler
    /// again, also in at-most-once mode.
    pub fn by(classify: impl Fn(&HandlerResponse<'_>) -> Outcome + Send + Sync + 'static) -> Self {
        Self { classify: Some(Arc::new(classify)), server_errors: None }
    }

    /// Stores a 408 and every 5xx, whatever the rule says: the outcome of the request is
    /// the failure, as in Stripe's first API. In resumable mode no attempt follows.
    pub const fn store_server_errors(mut self) -> Self {
        self.server_errors = Some(Outcome::Final);
        self
    }

    /// Stores no 408 and no 5xx, whatever the rule says. In at-most-once mode a retry
    /// gets `outcome-unknown`.
    pub const fn retry_server_errors(mut self) -> Self {
        self.server_errors = Some(Outcome::Retryable);
        self
    }

    /// How this response counts; what the handler said of it counts more than anything.
    pub(crate) fn decide(&self, response: &HandlerResponse<'_>, said: Option<Outcome>) -> Outcome {
        said.unwrap_or_else(|| self.judge(response))
    }

    fn judge(&self, response: &HandlerResponse<'_>) -> Outcome {
        if let Some(outcome) = self.server_errors.filter(|_| response.has_failed()) {
            return outcome;
        }
        match &self.classify {
            None => response.by_default(),
            Some(classify) => classify(response),
        }
    }
}

/// What a client can mend in its request: RFC 9110 §15.5, RFC 6585.
const VALIDATION: [u16; 10] = [400, 404, 405, 411, 412, 413, 415, 422, 428, 431];

impl fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcomes").field("server_errors", &self.server_errors).finish_non_exhaustive()
    }
}
