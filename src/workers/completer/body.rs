//! The body of a request that a completer drives.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of a request that a [`Completer`](crate::Completer) drives: the stored one, in
/// full.
///
/// A service that takes another body takes this one through
/// `tower::ServiceExt::map_request`, because it is an [`http_body::Body`] and converts to
/// [`Bytes`].
#[derive(Clone, Default)]
pub struct StoredBody(Option<Bytes>);

impl From<Bytes> for StoredBody {
    fn from(bytes: Bytes) -> Self {
        Self(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl From<StoredBody> for Bytes {
    fn from(body: StoredBody) -> Self {
        body.0.unwrap_or_default()
    }
}

impl Body for StoredBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

impl fmt::Debug for StoredBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredBody({} bytes)", self.0.as_ref().map_or(0, Bytes::len))
    }
}
