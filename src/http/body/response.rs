//! Response bodies: read ahead of the client, and given on as if they were not.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::sleep;

use super::request::{Collected, EMPTY_FRAMES, next_frame, size_of, weight};
use crate::core::{NotRetained, in_its_own_piece};
use crate::engine::content::Content;
use crate::http::header::{REPLAY_UNAVAILABLE, REPLAYED};

pin_project! {
    /// The body of a guarded service's response: the inner service's body, or what
    /// the layer has read of it, or the layer's own.
    ///
    /// A body that the layer read ahead of the client reports the same
    /// [`size_hint`](Body::size_hint) and [`is_end_stream`](Body::is_end_stream) as the inner
    /// body, so that a server frames it as it would without the layer. It ends as
    /// the inner body did: with its trailers, or its error, or too early.
    pub struct ResponseBody<B: Body> {
        #[pin]
        kind: ResponseKind<B, B::Error>,
    }
}

pin_project! {
    #[project = ResponseKindProj]
    enum ResponseKind<B, E> {
        Inner { #[pin] body: B },
        Full { bytes: Option<Bytes>, trailers: Option<Box<HeaderMap>> },
        // Boxed: responses go from hand to hand, and few need it.
        Ahead { ahead: Box<ReadAhead<B, E>> },
    }
}

impl<B: Body> ResponseBody<B> {
    pub(crate) const fn inner(body: B) -> Self {
        Self { kind: ResponseKind::Inner { body } }
    }

    pub(crate) fn full(content: impl Into<Content>) -> Self {
        let Content { bytes, trailers } = content.into();
        Self { kind: ResponseKind::Full { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), trailers } }
    }

    /// The bytes of one that the layer made itself.
    pub(crate) fn own(self) -> Bytes {
        match self.kind {
            ResponseKind::Full { bytes, .. } => bytes.unwrap_or_default(),
            ResponseKind::Inner { .. } | ResponseKind::Ahead { .. } => Bytes::new(),
        }
    }
}

/// An empty body. Outer layers that make their own responses, such as a time-out,
/// need it.
impl<B: Body> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::full(Bytes::new())
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            ResponseKindProj::Inner { body } => body.poll_frame(cx),
            ResponseKindProj::Full { bytes, trailers } => Poll::Ready(next_frame(bytes, trailers).map(Ok)),
            ResponseKindProj::Ahead { ahead } => ahead.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            ResponseKind::Inner { body } => body.is_end_stream(),
            ResponseKind::Full { bytes, trailers } => bytes.is_none() && trailers.is_none(),
            ResponseKind::Ahead { ahead } => ahead.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            ResponseKind::Inner { body } => body.size_hint(),
            ResponseKind::Full { bytes, trailers } => size_of(bytes.as_ref(), trailers.is_some()),
            ResponseKind::Ahead { ahead } => ahead.size_hint(),
        }
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}

/// What was read of a body, and how it goes on.
struct ReadAhead<B, E> {
    /// What came before the last pause, and what came after it.
    pieces: [Option<Bytes>; 2],
    /// Whether it pauses in between: that is when a server sends what it has,
    /// and an error that follows does not take it back.
    pauses: bool,
    trailers: Option<Box<HeaderMap>>,
    rest: Rest<B, E>,
    /// What the inner body said of its size, less what was given of it.
    size: SizeHint,
}

enum Rest<B, E> {
    Open(Pin<Box<B>>),
    Broken(E),
    /// It ended; whether it said so with its last frame.
    Ended {
        said: bool,
    },
}

impl<B: Body<Data = Bytes>> ReadAhead<B, B::Error> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let [before, after] = &mut self.pieces;
        if before.is_none() && std::mem::take(&mut self.pauses) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = before.take().or_else(|| after.take()) {
            self.size = less(&self.size, piece.len());
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
        }
        match std::mem::replace(&mut self.rest, Rest::Ended { said: true }) {
            Rest::Open(mut body) => {
                let frame = body.as_mut().poll_frame(cx).map_ok(unmarked);
                if !matches!(frame, Poll::Ready(None)) {
                    self.rest = Rest::Open(body);
                }
                frame
            }
            Rest::Broken(error) => Poll::Ready(Some(Err(error))),
            Rest::Ended { .. } => Poll::Ready(None),
        }
    }

    fn is_given(&self) -> bool {
        self.pieces.iter().all(Option::is_none) && self.trailers.is_none()
    }

    fn is_end_stream(&self) -> bool {
        self.is_given()
            && match &self.rest {
                Rest::Open(body) => body.is_end_stream(),
                Rest::Broken(_) => false,
                Rest::Ended { said } => *said,
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Rest::Open(body) if self.is_given() => body.size_hint(),
            _ => less(&self.size, 0),
        }
    }
}

/// The marks of replays are ours alone, whatever an upstream of the handler said.
fn unmarked(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        unmark(trailers);
    }
    frame
}

/// Apart, since few bodies have any.
#[cold]
fn unmark(trailers: &mut HeaderMap) {
    trailers.remove(REPLAYED);
    trailers.remove(REPLAY_UNAVAILABLE);
}

fn less(size: &SizeHint, given: usize) -> SizeHint {
    let given = given as u64;
    let mut left = SizeHint::new();
    left.set_lower(size.lower().saturating_sub(given));
    if let Some(upper) = size.upper() {
        left.set_upper(upper.saturating_sub(given));
    }
    left
}

/// A response body, read ahead of the client.
pub(crate) struct Read<B: Body> {
    /// What the client gets.
    pub(crate) body: ResponseBody<B>,
    /// What can be kept.
    pub(crate) content: Result<Content, NotRetained>,
}

/// Reads the body of a response, up to `limit` bytes and for as long as
/// `patience` allows it to have nothing to say.
pub(crate) async fn read<B>(head: &Parts, body: B, limit: usize, patience: Duration) -> Read<B>
where
    B: Body<Data = Bytes>,
{
    let size = body.size_hint();
    if body.is_end_stream() {
        let whole = is_as_announced(head, &size, 0);
        let content = whole.then(|| Bytes::new().into()).ok_or(NotRetained::Incomplete);
        return Read { body: ResponseBody::inner(body), content };
    }
    if size.lower() > limit as u64 {
        return unread(body, NotRetained::TooLarge);
    }
    let mut reading = Reading {
        read: Collected::default(),
        frames: 0,
        empty: 0,
        paused_at: None,
        trailers: None,
        rest: Box::pin(body),
    };
    let stopped = reading.run(limit, patience).await;
    reading.finish(stopped, head, size)
}

/// Gives the body of a response on as it comes. Not as it is, for the sake of its trailers.
pub(crate) fn unread<B: Body>(body: B, why: NotRetained) -> Read<B> {
    let (size, rest) = (body.size_hint(), Rest::Open(Box::pin(body)));
    let ahead = Box::new(ReadAhead { pieces: [None, None], pauses: false, trailers: None, rest, size });
    Read { body: ResponseBody { kind: ResponseKind::Ahead { ahead } }, content: Err(why) }
}

/// Whether a body of this length is what its head, and the body itself, said it
/// would be.
fn is_as_announced(head: &Parts, size: &SizeHint, length: usize) -> bool {
    // Neither has content; the length of a 304 is that of another response.
    if [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&head.status) {
        return true;
    }
    let length = length as u64;
    let mut lines = head.headers.get_all(CONTENT_LENGTH).iter().map(|line| line.to_str().ok()?.parse().ok());
    lines.all(|line| line == Some(length)) && size.lower() <= length && size.upper().is_none_or(|upper| length <= upper)
}

struct Reading<B> {
    read: Collected,
    /// How many frames had data, and how many had nothing.
    frames: usize,
    empty: usize,
    /// How much had been read when it last had nothing to say.
    paused_at: Option<usize>,
    trailers: Option<Box<HeaderMap>>,
    rest: Pin<Box<B>>,
}

/// Why reading stopped.
enum Stopped<E> {
    /// The body ended; whether it said so with its last frame.
    Ended {
        said: bool,
    },
    Broken(E),
    /// It has more.
    Open(NotRetained),
}

impl<B: Body<Data = Bytes>> Reading<B> {
    async fn run(&mut self, limit: usize, patience: Duration) -> Stopped<B::Error> {
        // Most bodies are there at once; only a slow one needs a timer.
        let mut slow = None;
        loop {
            let next = poll_fn(|cx| match self.rest.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Some(frame)),
                Poll::Pending => {
                    self.paused_at = Some(self.read.len());
                    let slow = slow.get_or_insert_with(|| Box::pin(sleep(patience)));
                    slow.as_mut().poll(cx).map(|()| None)
                }
            });
            match next.await {
                None => return Stopped::Open(NotRetained::Streamed),
                Some(None) => return Stopped::Ended { said: false },
                Some(Some(Err(error))) => return Stopped::Broken(error),
                Some(Some(Ok(frame))) => self.add(frame),
            }
            if self.read.len() + self.trailers.as_deref().map_or(0, weight) > limit {
                return Stopped::Open(NotRetained::TooLarge);
            }
            if self.empty > EMPTY_FRAMES {
                return Stopped::Open(NotRetained::Streamed);
            }
            // As a server does, which does not ask for more then.
            if self.trailers.is_some() || self.rest.is_end_stream() {
                return Stopped::Ended { said: true };
            }
        }
    }

    fn add(&mut self, frame: Frame<Bytes>) {
        match unmarked(frame).into_data() {
            Ok(data) => {
                self.frames += 1;
                self.empty += usize::from(data.is_empty());
                self.read.add(data);
            }
            Err(frame) => {
                self.empty += 1;
                self.trailers = frame.into_trailers().ok().map(Box::new);
            }
        }
    }

    fn finish(self, stopped: Stopped<B::Error>, head: &Parts, size: SizeHint) -> Read<B> {
        let had_data = self.frames > 0;
        let bytes = in_its_own_piece(self.read.into_bytes());
        let said_all = size.exact() == Some(bytes.len() as u64) && !bytes.is_empty() && self.trailers.is_none();
        let whole = matches!(stopped, Stopped::Ended { .. }) && is_as_announced(head, &size, bytes.len());
        if whole && said_all {
            return Read { body: ResponseBody::full(bytes.clone()), content: Ok(bytes.into()) };
        }
        let (rest, content) = match stopped {
            Stopped::Ended { said } if whole => {
                let content = Content { bytes: bytes.clone(), trailers: self.trailers.clone() };
                (Rest::Ended { said }, Ok(content))
            }
            Stopped::Ended { said } => (Rest::Ended { said }, Err(NotRetained::Incomplete)),
            Stopped::Broken(error) => (Rest::Broken(error), Err(NotRetained::Incomplete)),
            Stopped::Open(why) => (Rest::Open(self.rest), Err(why)),
        };
        // What ends well is sent in any case.
        let paused_at = self.paused_at.filter(|_| content.is_err());
        let after = bytes.slice(paused_at.unwrap_or(0)..);
        let before = paused_at.map(|at| bytes.slice(..at)).filter(|before| !before.is_empty());
        let after = Some(after).filter(|after| !after.is_empty() || (had_data && before.is_none()));
        let pieces = [before, after];
        let pauses = paused_at.is_some();
        let ahead = Box::new(ReadAhead { pieces, pauses, trailers: self.trailers, rest, size });
        Read { body: ResponseBody { kind: ResponseKind::Ahead { ahead } }, content }
    }
}
