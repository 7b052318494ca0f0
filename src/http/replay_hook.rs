//! A hook that changes what a retry gets.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Uri};

use crate::core::IdempotencyKey;
use crate::http::head::Head;

/// A replay before the layer sends it, for a [hook](crate::IdempotencyLayer::replay_with).
pub struct Replay {
    pub(crate) head: Head,
    pub(crate) response: Response<Bytes>,
}

impl Replay {
    /// The retry's method.
    pub const fn method(&self) -> &Method {
        &self.head.method
    }

    /// The retry's target, as the layer got it.
    pub const fn uri(&self) -> &Uri {
        &self.head.uri
    }

    /// The retry's headers.
    pub const fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The client's key, without quotes.
    pub fn idempotency_key(&self) -> &str {
        self.head.key.as_ref().map_or("", IdempotencyKey::as_str)
    }

    /// The stored response, without the mark of a replay.
    pub const fn response(&self) -> &Response<Bytes> {
        &self.response
    }

    /// The same, to change it.
    pub fn into_response(self) -> Response<Bytes> {
        self.response
    }
}

/// What clients and handlers say is not for logs.
impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("status", &self.response.status()).finish_non_exhaustive()
    }
}

/// Asks for the response that the client gets.
pub(crate) type ReplayHook = dyn Fn(Replay) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>> + Send + Sync;
