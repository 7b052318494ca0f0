//! A header field by which a replay names the request that ran.

use http::{HeaderMap, HeaderName};

use crate::http::replay_mark::ReservedHeader;

/// The header field by which a replay names the first request, see
/// [`IdempotencyLayer::first_request`](crate::IdempotencyLayer::first_request).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct FirstRequest {
    id: HeaderName,
    pub(crate) name: HeaderName,
}

impl FirstRequest {
    /// A replay has in the field `name` what the first response has in the field `id`.
    ///
    /// # Errors
    ///
    /// [`ReservedHeader`] if `name` has a meaning in HTTP, or in this crate.
    ///
    /// ```
    /// use http::{HeaderName, header::VIA};
    /// use tower_idempotency::FirstRequest;
    ///
    /// let id = HeaderName::from_static("x-request-id");
    /// assert!(FirstRequest::new(id.clone(), HeaderName::from_static("x-first-request-id")).is_ok());
    /// assert!(FirstRequest::new(id, VIA).is_err());
    /// ```
    pub fn new(id: HeaderName, name: HeaderName) -> Result<Self, ReservedHeader> {
        ReservedHeader::check(name).map(|name| Self::known(id, name))
    }

    /// In a field that is known not to be reserved.
    pub(crate) const fn known(id: HeaderName, name: HeaderName) -> Self {
        Self { id, name }
    }

    /// The head of a first response as it is stored; `None` if that has no id, or names a
    /// request already.
    pub(crate) fn named_in(&self, headers: &HeaderMap) -> Option<HeaderMap> {
        let id = headers.get(&self.id).filter(|_| !headers.contains_key(&self.name))?;
        let mut named = headers.clone();
        named.insert(self.name.clone(), id.clone());
        Some(named)
    }
}
