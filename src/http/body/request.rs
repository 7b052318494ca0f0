//! Request bodies: as they came, or as they were read.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::engine::content::Content;

pin_project! {
    /// The body that a guarded service gets: as it came, or as the layer read it for the
    /// fingerprint, with its trailers.
    pub struct RequestBody<B> {
        #[pin]
        kind: RequestKind<B>,
    }
}

pin_project! {
    #[project = RequestKindProj]
    enum RequestKind<B> {
        Inner { #[pin] body: B },
        Read { bytes: Option<Bytes>, trailers: Option<Box<HeaderMap>> },
    }
}

impl<B> RequestBody<B> {
    pub(crate) const fn inner(body: B) -> Self {
        Self { kind: RequestKind::Inner { body } }
    }

    pub(crate) fn read(content: Content) -> Self {
        let bytes = Some(content.bytes).filter(|bytes| !bytes.is_empty());
        Self { kind: RequestKind::Read { bytes, trailers: content.trailers } }
    }
}

/// For tests of handlers that name this type.
impl<B> From<Bytes> for RequestBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::read(bytes.into())
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            RequestKindProj::Inner { body } => body.poll_frame(cx),
            RequestKindProj::Read { bytes, trailers } => Poll::Ready(next_frame(bytes, trailers).map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            RequestKind::Inner { body } => body.is_end_stream(),
            RequestKind::Read { bytes, trailers } => bytes.is_none() && trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            RequestKind::Inner { body } => body.size_hint(),
            RequestKind::Read { bytes, trailers } => size_of(bytes.as_ref(), trailers.is_some()),
        }
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

pub(super) fn next_frame(bytes: &mut Option<Bytes>, trailers: &mut Option<Box<HeaderMap>>) -> Option<Frame<Bytes>> {
    bytes.take().map(Frame::data).or_else(|| trailers.take().map(|trailers| Frame::trailers(*trailers)))
}

/// Of a body that is all there. With trailers it has no exact size: it would
/// become a `Content-Length`, and HTTP/1.1 has no place for trailers after that.
pub(super) fn size_of(bytes: Option<&Bytes>, has_trailers: bool) -> SizeHint {
    let length = bytes.map_or(0, Bytes::len) as u64;
    let mut size = SizeHint::with_exact(length);
    if has_trailers {
        size = SizeHint::new();
        size.set_lower(length);
    }
    size
}

/// A body may say nothing so many times; one that goes on may have no end.
pub(crate) const EMPTY_FRAMES: usize = 1000;

/// About how many bytes trailers take.
pub(crate) fn weight(trailers: &HeaderMap) -> usize {
    trailers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// The data of a body, as far as it was read: in one piece, or a peer that
/// sends single bytes would make us keep a frame for each.
#[derive(Default)]
pub(super) struct Collected {
    /// The first piece; most bodies have but one, and then nothing is copied.
    first: Bytes,
    all: BytesMut,
}

impl Collected {
    pub(super) fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    pub(super) fn add(&mut self, data: Bytes) {
        if self.first.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&data);
    }

    pub(super) fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
