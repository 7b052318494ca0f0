//! Why a call has no response.

use std::error::Error;
use std::fmt;

use crate::core::{IdempotencyKey, InvalidKey};

/// What other crates' errors are here.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Why a call through a [`Retry`](super::Retry) has no response.
///
/// If it is not known what the server did, the [kind](Self::kind) is one of
/// [`Service`](ClientErrorKind::Service), [`TimedOut`](ClientErrorKind::TimedOut) and
/// [`NotFollowed`](ClientErrorKind::NotFollowed). Then make the same call again later, with the
/// same [key](Self::key), and never with another one.
#[derive(Debug)]
pub struct ClientError {
    pub(super) kind: ClientErrorKind,
    pub(super) key: Option<IdempotencyKey>,
    pub(super) tries: u32,
}

/// The kinds of a [`ClientError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// The key that the request carries is not one. Nothing was sent.
    InvalidKey(InvalidKey),
    /// The body of the request has more bytes than
    /// [`request_limit`](super::RetryLayer::request_limit) allows to keep for another try.
    /// Nothing was sent.
    RequestTooLarge,
    /// The body of the request has trailers, which can't be sent again. Nothing was sent.
    RequestTrailers,
    /// The body of the request could not be read. Nothing was sent.
    RequestBody(Box<dyn Error + Send + Sync>),
    /// The last try failed with this error: of the connection, or of the response's body.
    Service(Box<dyn Error + Send + Sync>),
    /// The last try took longer than [`try_timeout`](super::RetryLayer::try_timeout), or all of
    /// them longer than [`deadline`](super::RetryLayer::deadline).
    TimedOut,
    /// The server accepted the request for later, and its status resource does not say what
    /// became of it: the response there had this status.
    NotFollowed(http::StatusCode),
}

impl ClientError {
    pub(super) const fn new(kind: ClientErrorKind) -> Self {
        Self { kind, key: None, tries: 0 }
    }

    /// What went wrong.
    pub const fn kind(&self) -> &ClientErrorKind {
        &self.kind
    }

    /// The key that was sent with each try: to make the call again, perhaps after a restart,
    /// send it once more. `None` if nothing was sent, or no key was.
    pub const fn key(&self) -> Option<&IdempotencyKey> {
        self.key.as_ref()
    }

    /// How often the request was sent.
    pub const fn tries(&self) -> u32 {
        self.tries
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tries = self.tries;
        match &self.kind {
            ClientErrorKind::InvalidKey(why) => write!(f, "{why}; nothing was sent"),
            ClientErrorKind::RequestTooLarge => {
                f.write_str("the request body is too large to be kept for another try, and nothing was sent; raise request_limit, or send it without this layer")
            }
            ClientErrorKind::RequestTrailers => {
                f.write_str("the request body has trailers, which can't be sent again, and nothing was sent; send it without this layer")
            }
            ClientErrorKind::RequestBody(error) => write!(f, "the request body can't be read: {error}; nothing was sent"),
            ClientErrorKind::Service(error) => write!(f, "try {tries} failed: {error}; call again with the same key"),
            ClientErrorKind::TimedOut => write!(f, "no response in time, after {tries} tries; call again with the same key"),
            ClientErrorKind::NotFollowed(status) => write!(
                f,
                "the request was accepted, and its status resource responded {status}; ask the server before you send it again"
            ),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            ClientErrorKind::RequestBody(error) | ClientErrorKind::Service(error) => Some(&**error),
            ClientErrorKind::InvalidKey(why) => Some(why),
            _ => None,
        }
    }
}
