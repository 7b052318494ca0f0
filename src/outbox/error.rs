//! Why a call was not accepted, and what to do about it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::client::ClientErrorKind;
use crate::store::StoreError;

/// Why [`Outbox::send_later`](super::Outbox::send_later) did not accept a call. Its text says what
/// to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendLaterError {
    /// The request goes to a server that is not [declared](crate::client::Server) to honour keys,
    /// so that it could not be sent twice.
    NotDeclared,
    /// The body of the request is larger than
    /// [`request_limit`](super::Outbox::request_limit), has trailers, or can't be read.
    Request(ClientErrorKind),
    /// The key was used for another call.
    KeyReused,
    /// A [maintenance window](crate::guide::maintenance) covers the store.
    Maintenance {
        /// How long the window lasts.
        retry_in: Duration,
        /// Why, as the operator wrote it.
        reason: String,
    },
    /// The store failed. The call may be in the store all the same, and is sent then.
    Store(StoreError),
}

impl fmt::Display for SendLaterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDeclared => f.write_str(
                "the call goes to a server that is not declared to honour keys; declare it with RetryLayer::server, or send it yourself, once",
            ),
            Self::Request(ClientErrorKind::RequestTooLarge) => {
                f.write_str("the request body is too large for this outbox; raise request_limit, or send a reference to it")
            }
            Self::Request(ClientErrorKind::RequestTrailers) => {
                f.write_str("the request body has trailers, which an outbox does not keep; send it without them")
            }
            Self::Request(ClientErrorKind::RequestBody(error)) => {
                write!(f, "the request body can't be read: {error}; give it as bytes")
            }
            Self::Request(_) => f.write_str("the request can't be kept; give its body as bytes"),
            Self::KeyReused => f.write_str("the key was used for another call; give each call a key of its own"),
            Self::Maintenance { retry_in, reason } => write!(
                f,
                "planned maintenance of the store ({reason}); call again with the same key in {} seconds",
                retry_in.as_secs()
            ),
            Self::Store(error) => write!(f, "the store failed; call again with the same key: {error}"),
        }
    }
}

impl Error for SendLaterError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Request(ClientErrorKind::RequestBody(error)) => Some(&**error),
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl From<StoreError> for SendLaterError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The text is not the name of an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidOutboxName;

impl fmt::Display for InvalidOutboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "this is not the name of an outbox; take 1 to 64 letters, digits and signs of ASCII, without spaces",
        )
    }
}

impl Error for InvalidOutboxName {}
