//! What marks a replay.

use std::error::Error;
use std::fmt;

use http::{HeaderName, HeaderValue};

use crate::http::header::{IDEMPOTENCY_KEY, REPLAY_UNAVAILABLE, REPLAYED};

/// The header field that marks a replay, see
/// [`IdempotencyLayer::replay_mark`](crate::IdempotencyLayer::replay_mark).
///
/// The default is `Idempotent-Replayed: true`.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct ReplayMark {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
}

impl ReplayMark {
    /// This value in this field.
    ///
    /// # Errors
    ///
    /// [`ReservedHeader`] if the field has a meaning in HTTP, or in this crate:
    /// the mark would replace that field of the stored response.
    ///
    /// ```
    /// use http::{HeaderName, HeaderValue, header::CONTENT_TYPE};
    /// use tower_idempotency::ReplayMark;
    ///
    /// let yes = HeaderValue::from_static("yes");
    /// let mark = ReplayMark::new(HeaderName::from_static("x-replay"), yes.clone());
    /// assert!(mark.is_ok());
    /// assert!(ReplayMark::new(CONTENT_TYPE, yes).is_err());
    /// ```
    pub fn new(name: HeaderName, value: HeaderValue) -> Result<Self, ReservedHeader> {
        Ok(Self { name: ReservedHeader::check(name)?, value })
    }
}

impl Default for ReplayMark {
    fn default() -> Self {
        Self { name: REPLAYED, value: HeaderValue::from_static("true") }
    }
}

impl fmt::Debug for ReplayMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplayMark").field(&self.name).finish_non_exhaustive()
    }
}

/// The header field already has a meaning, and can't be a [`ReplayMark`],
/// [`RetryAdvice`](crate::RetryAdvice) or [`FirstRequest`](crate::FirstRequest).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservedHeader(HeaderName);

impl ReservedHeader {
    /// The name, unless it is reserved.
    pub(crate) fn check(name: HeaderName) -> Result<HeaderName, Self> {
        if is_reserved(&name) { Err(Self(name)) } else { Ok(name) }
    }
}

impl fmt::Display for ReservedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the header field {} already has a meaning; choose a name that is not in use", self.0)
    }
}

impl Error for ReservedHeader {}

/// Names that start like this belong to a part of HTTP.
const FAMILIES: [&str; 8] = ["accept", "access-control-", "alt-", "content-", "if-", "grpc-", "proxy-", "sec-"];

/// The others that a response, a connection or a cache is understood by.
const NAMES: [&str; 28] = [
    "age",
    "allow",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "etag",
    "expires",
    "host",
    "keep-alive",
    "last-modified",
    "link",
    "location",
    "pragma",
    "preference-applied",
    "range",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];

fn is_reserved(name: &HeaderName) -> bool {
    let text = name.as_str();
    *name == IDEMPOTENCY_KEY
        || *name == REPLAY_UNAVAILABLE
        || NAMES.contains(&text)
        || FAMILIES.iter().any(|family| text.starts_with(family))
}
