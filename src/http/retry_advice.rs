//! A header field that says whether a retry may help, where the status can't.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::core::Mode;
use crate::engine::outcome::Outcome;
use crate::http::replay_mark::ReservedHeader;

/// The header field that says whether a retry with the same key may help, see
/// [`IdempotencyLayer::retry_advice`](crate::IdempotencyLayer::retry_advice): `true` or
/// `false`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryAdvice {
    pub(crate) name: HeaderName,
    says_no: bool,
}

impl RetryAdvice {
    /// In this field.
    ///
    /// # Errors
    ///
    /// [`ReservedHeader`] if the field has a meaning in HTTP, or in this crate.
    ///
    /// ```
    /// use http::{HeaderName, header::RETRY_AFTER};
    /// use tower_idempotency::RetryAdvice;
    ///
    /// assert!(RetryAdvice::new(HeaderName::from_static("x-should-retry")).is_ok());
    /// assert!(RetryAdvice::new(RETRY_AFTER).is_err());
    /// ```
    pub fn new(name: HeaderName) -> Result<Self, ReservedHeader> {
        ReservedHeader::check(name).map(Self::known)
    }

    /// In a field that is known not to be reserved.
    pub(crate) const fn known(name: HeaderName) -> Self {
        Self { name, says_no: true }
    }

    /// Leaves the field out where a retry does not help. By default it is `false` there.
    pub const fn only_yes(mut self) -> Self {
        self.says_no = false;
        self
    }

    /// Says it, unless the handler did.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, may_help: bool) {
        let is_told = may_help || self.says_no;
        if is_told && !headers.contains_key(&self.name) {
            headers.insert(self.name.clone(), HeaderValue::from_static(if may_help { "true" } else { "false" }));
        }
    }
}

/// Whether a retry may help after a handler's response. `None` if it was no failure, or
/// if only its client can say: it has to mend the request first.
pub(crate) fn may_help(outcome: Outcome, mode: Mode, status: StatusCode) -> Option<bool> {
    let is_failure = status.is_client_error() || status.is_server_error();
    // RFC 9110 §15.5.9, RFC 8470 §5.2, RFC 6585 §4: the same request may be sent again.
    let may_be_repeated = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    match outcome {
        _ if !is_failure => None,
        Outcome::Final => Some(false),
        // Where nothing can be resumed, a retry gets `outcome-unknown`.
        Outcome::Retryable => Some(mode == Mode::Resumable),
        Outcome::NothingHappened => may_be_repeated.then_some(true),
    }
}
