//! Bodies that are either ours or theirs.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::sleep;

use crate::core::in_its_own_piece;

pin_project! {
    /// The body a guarded service gets: as it came, or as it was read for the
    /// fingerprint.
    pub struct RequestBody<B> {
        #[pin]
        kind: RequestKind<B>,
    }
}

pin_project! {
    #[project = RequestKindProj]
    enum RequestKind<B> {
        Theirs { #[pin] body: B },
        Read { bytes: Option<Bytes> },
    }
}

impl<B> RequestBody<B> {
    pub(crate) const fn theirs(body: B) -> Self {
        Self { kind: RequestKind::Theirs { body } }
    }

    pub(crate) fn read(bytes: Bytes) -> Self {
        Self { kind: RequestKind::Read { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) } }
    }
}

/// For tests of handlers that name this type.
impl<B> From<Bytes> for RequestBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::read(bytes)
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            RequestKindProj::Theirs { body } => body.poll_frame(cx),
            RequestKindProj::Read { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            RequestKind::Theirs { body } => body.is_end_stream(),
            RequestKind::Read { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            RequestKind::Theirs { body } => body.size_hint(),
            RequestKind::Read { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

/// The data of a body, as far as it was read: in one piece, or a peer that
/// sends single bytes would make us keep a frame for each.
#[derive(Default)]
struct Collected {
    /// The first piece; most bodies have but one, and then nothing is copied.
    first: Bytes,
    all: BytesMut,
}

impl Collected {
    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    fn add(&mut self, data: Bytes) {
        if self.first.is_empty() {
            self.first = data;
            return;
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&self.first);
        }
        self.all.extend_from_slice(&data);
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

pin_project! {
    /// The body a guarded service answers with: the inner service's, or what
    /// was read of it, or the layer's own.
    pub struct ResponseBody<B: Body> {
        #[pin]
        kind: ResponseKind<B, B::Error>,
    }
}

pin_project! {
    #[project = ResponseKindProj]
    enum ResponseKind<B, E> {
        Theirs { #[pin] body: B },
        Whole { bytes: Option<Bytes> },
        /// What was read of a body, and where reading stopped.
        Begun { read: Bytes, trailers: Option<Box<HeaderMap>>, error: Option<E>, rest: Option<Pin<Box<B>>> },
    }
}

impl<B: Body> ResponseBody<B> {
    pub(crate) const fn theirs(body: B) -> Self {
        Self { kind: ResponseKind::Theirs { body } }
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { kind: ResponseKind::Whole { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) } }
    }
}

/// An empty body. Layers outside this one that make up answers, a time-out for
/// one, ask for it.
impl<B: Body> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::whole(Bytes::new())
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            ResponseKindProj::Theirs { body } => body.poll_frame(cx),
            ResponseKindProj::Whole { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            ResponseKindProj::Begun { read, trailers, error, rest } => {
                if !read.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(std::mem::take(read)))));
                }
                if let Some(trailers) = trailers.take() {
                    return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
                }
                if let Some(error) = error.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                let Some(body) = rest else { return Poll::Ready(None) };
                let frame = ready!(body.as_mut().poll_frame(cx));
                if frame.is_none() {
                    *rest = None;
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            ResponseKind::Theirs { body } => body.is_end_stream(),
            ResponseKind::Whole { bytes } => bytes.is_none(),
            ResponseKind::Begun { read, trailers, error, rest } => {
                let all_given = read.is_empty() && trailers.is_none() && error.is_none();
                all_given && rest.as_ref().is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            ResponseKind::Theirs { body } => body.size_hint(),
            ResponseKind::Whole { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            ResponseKind::Begun { read, rest, .. } => begun_size(read, rest.as_ref()),
        }
    }
}

fn begun_size<B: Body>(read: &Bytes, rest: Option<&B>) -> SizeHint {
    let read = read.len() as u64;
    let rest = rest.map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
    let mut hint = SizeHint::new();
    hint.set_lower(read.saturating_add(rest.lower()));
    if let Some(upper) = rest.upper() {
        hint.set_upper(read.saturating_add(upper));
    }
    hint
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

/// What was read of a response body.
pub(crate) enum Read<B: Body> {
    /// All of it.
    Whole(Bytes, ResponseBody<B>),
    /// It is too large, or does not end: the first of it, and the rest.
    Open(ResponseBody<B>),
    /// It broke off: what came before, and the error.
    Broken(ResponseBody<B>),
}

/// Reads a response body, up to `limit` bytes and for as long as `patience`
/// allows it to have nothing to say.
pub(crate) async fn read<B>(body: B, limit: usize, patience: Duration) -> Read<B>
where
    B: Body<Data = Bytes>,
{
    if body.is_end_stream() {
        return Read::Whole(Bytes::new(), ResponseBody::whole(Bytes::new()));
    }
    if body.size_hint().lower() > limit as u64 {
        return Read::Open(ResponseBody::theirs(body));
    }
    let reading = Reading { read: Collected::default(), empty: 0, trailers: None, rest: Box::pin(body) };
    reading.run(limit, patience).await
}

/// A body may say nothing so many times; one that goes on has no end.
const EMPTY_FRAMES: usize = 1000;

struct Reading<B> {
    read: Collected,
    empty: usize,
    trailers: Option<Box<HeaderMap>>,
    rest: Pin<Box<B>>,
}

impl<B: Body<Data = Bytes>> Reading<B> {
    async fn run(mut self, limit: usize, patience: Duration) -> Read<B> {
        // Most bodies are there at once; only a slow one needs a timer.
        let mut slow = None;
        loop {
            let next = poll_fn(|cx| match self.rest.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Some(frame)),
                Poll::Pending => {
                    let slow = slow.get_or_insert_with(|| Box::pin(sleep(patience)));
                    slow.as_mut().poll(cx).map(|()| None)
                }
            });
            match next.await {
                None => return Read::Open(self.begun(None)),
                Some(None) => return self.whole(),
                Some(Some(Err(error))) => return Read::Broken(self.begun(Some(error))),
                Some(Some(Ok(frame))) => self.add(frame),
            }
            if self.read.len() > limit || self.empty > EMPTY_FRAMES {
                return Read::Open(self.begun(None));
            }
        }
    }

    fn add(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.empty += usize::from(data.is_empty());
                self.read.add(data);
            }
            Err(frame) => self.trailers = frame.into_trailers().ok().map(Box::new),
        }
    }

    fn begun(self, error: Option<B::Error>) -> ResponseBody<B> {
        let rest = Some(self.rest).filter(|_| error.is_none());
        let read = self.read.into_bytes();
        ResponseBody { kind: ResponseKind::Begun { read, trailers: self.trailers, error, rest } }
    }

    fn whole(self) -> Read<B> {
        let bytes = in_its_own_piece(self.read.into_bytes());
        if self.trailers.is_none() {
            return Read::Whole(bytes.clone(), ResponseBody::whole(bytes));
        }
        // Delivered with its trailers, kept without.
        let kind = ResponseKind::Begun { read: bytes.clone(), trailers: self.trailers, error: None, rest: None };
        Read::Whole(bytes, ResponseBody { kind })
    }
}
