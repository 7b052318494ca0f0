//! Bodies that are either ours or theirs.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::sleep;

use crate::response::Refusal;

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

/// A request body while it is read.
pub(crate) struct Upload {
    /// The first piece; most bodies have but one, and then nothing is copied.
    first: Bytes,
    all: BytesMut,
    limit: usize,
}

impl Upload {
    pub(crate) fn new(limit: usize) -> Self {
        Self { first: Bytes::new(), all: BytesMut::new(), limit }
    }

    /// Reads on; the bytes, once all are there. Trailers are left out.
    pub(crate) fn poll<B: Body<Data = Bytes>>(
        &mut self,
        mut body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, Refusal>> {
        while let Some(frame) = ready!(body.as_mut().poll_frame(cx)) {
            let Ok(frame) = frame else { return Poll::Ready(Err(Refusal::BodyIncomplete)) };
            let Ok(data) = frame.into_data() else { continue };
            // Counted, not believed: a length in the head proves nothing.
            if self.first.len().max(self.all.len()) + data.len() > self.limit {
                return Poll::Ready(Err(Refusal::BodyTooLarge));
            }
            self.add(data);
        }
        let first = std::mem::take(&mut self.first);
        let all = std::mem::take(&mut self.all);
        Poll::Ready(Ok(if all.is_empty() { first } else { all.freeze() }))
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
        Begun { read: VecDeque<Frame<Bytes>>, error: Option<E>, rest: Option<Pin<Box<B>>> },
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
            ResponseKindProj::Begun { read, error, rest } => {
                if let Some(frame) = read.pop_front() {
                    return Poll::Ready(Some(Ok(frame)));
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
            ResponseKind::Begun { read, error, rest } => {
                read.is_empty() && error.is_none() && rest.as_ref().is_none_or(Body::is_end_stream)
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

fn begun_size<B: Body>(read: &VecDeque<Frame<Bytes>>, rest: Option<&B>) -> SizeHint {
    let read = read.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum::<u64>();
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
    Reading { read: VecDeque::new(), bytes: 0, rest: Box::pin(body) }.run(limit, patience).await
}

struct Reading<B> {
    read: VecDeque<Frame<Bytes>>,
    bytes: usize,
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
                Some(Some(Ok(frame))) => {
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.read.push_back(frame);
                    if self.bytes > limit {
                        return Read::Open(self.begun(None));
                    }
                }
            }
        }
    }

    fn begun(self, error: Option<B::Error>) -> ResponseBody<B> {
        let rest = Some(self.rest).filter(|_| error.is_none());
        ResponseBody { kind: ResponseKind::Begun { read: self.read, error, rest } }
    }

    fn whole(self) -> Read<B> {
        let bytes = join(&self.read, self.bytes);
        let trailers = self.read.iter().any(Frame::is_trailers);
        if !trailers {
            return Read::Whole(bytes.clone(), ResponseBody::whole(bytes));
        }
        // Delivered with its trailers, kept without.
        let kind = ResponseKind::Begun { read: self.read, error: None, rest: None };
        Read::Whole(bytes, ResponseBody { kind })
    }
}

/// The data of all frames; without copying, if there is but one.
fn join(read: &VecDeque<Frame<Bytes>>, len: usize) -> Bytes {
    let mut parts = read.iter().filter_map(Frame::data_ref).filter(|data| !data.is_empty());
    match (parts.next(), parts.next()) {
        (None, _) => Bytes::new(),
        (Some(only), None) => only.clone(),
        (Some(first), Some(second)) => {
            let mut all = BytesMut::with_capacity(len);
            [first, second].into_iter().chain(parts).for_each(|part| all.extend_from_slice(part));
            all.freeze()
        }
    }
}
