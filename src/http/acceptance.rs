//! A header field that says whether a request with a key was taken.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::replay_mark::ReservedHeader;
use crate::telemetry::refusal::Refusal;

/// The header field that says whether a request with a key was taken, see
/// [`IdempotencyLayer::acceptance_mark`](crate::IdempotencyLayer::acceptance_mark).
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct AcceptanceMark {
    pub(crate) name: HeaderName,
    accepted: HeaderValue,
    rejected: HeaderValue,
}

impl AcceptanceMark {
    /// One of these values in this field.
    ///
    /// # Errors
    ///
    /// [`ReservedHeader`] if the field has a meaning of its own in HTTP, or in this crate.
    ///
    /// ```
    /// use http::{HeaderName, HeaderValue, header::WARNING};
    /// use tower_idempotency::AcceptanceMark;
    ///
    /// let [yes, no] = ["yes", "no"].map(HeaderValue::from_static);
    /// assert!(AcceptanceMark::new(HeaderName::from_static("x-taken"), yes.clone(), no.clone()).is_ok());
    /// assert!(AcceptanceMark::new(WARNING, yes, no).is_err());
    /// ```
    pub fn new(name: HeaderName, accepted: HeaderValue, rejected: HeaderValue) -> Result<Self, ReservedHeader> {
        ReservedHeader::check(name).map(|name| Self::known(name, accepted, rejected))
    }

    /// In a field that is known not to be reserved.
    pub(crate) const fn known(name: HeaderName, accepted: HeaderValue, rejected: HeaderValue) -> Self {
        Self { name, accepted, rejected }
    }

    /// Says it of a response, which may be a refusal. The layer alone does.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, refusal: Option<Refusal>) {
        let Some(is_accepted) = refusal.map_or(Some(true), is_accepted) else { return };
        headers.insert(self.name.clone(), if is_accepted { &self.accepted } else { &self.rejected }.clone());
    }
}

impl std::fmt::Debug for AcceptanceMark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AcceptanceMark").field(&self.name).finish_non_exhaustive()
    }
}

/// Whether the request may have done something: what was rejected has not. `None` of a
/// status resource, which is asked about others.
const fn is_accepted(refusal: Refusal) -> Option<bool> {
    match refusal {
        Refusal::Interrupted | Refusal::OutcomeUnknown | Refusal::NotRetained => Some(true),
        Refusal::NoSuchOperation | Refusal::Unfinished | Refusal::MethodNotAllowed => None,
        _ => Some(false),
    }
}
