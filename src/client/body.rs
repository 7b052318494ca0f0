//! Bodies: of requests, kept for the next try, and of responses, read to their end.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use http::header::{CONTENT_TYPE, HeaderMap};
use http_body::{Body, Frame, SizeHint};
use tokio::task::coop::consume_budget;

use super::error::ClientErrorKind;

/// The whole of a request's body.
pub(crate) async fn keep<B>(mut body: B, limit: usize) -> Result<Bytes, ClientErrorKind>
where
    B: Body + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = next(&mut body).await {
        let frame = frame.map_err(|error| ClientErrorKind::RequestBody(error.into()))?;
        let Ok(mut data) = frame.into_data() else { return Err(ClientErrorKind::RequestTrailers) };
        if data.remaining() > limit.saturating_sub(first.len() + more.len()) {
            return Err(ClientErrorKind::RequestTooLarge);
        }
        match first.is_empty() {
            true => first = data.copy_to_bytes(data.remaining()),
            false => more.extend_from_slice(&data.copy_to_bytes(data.remaining())),
        }
    }
    Ok(if more.is_empty() { first } else { [first, more.freeze()].concat().into() })
}

/// Reads a response's body, so that one which breaks off is tried again. Of a body that is
/// larger than `limit`, or a stream of events, the rest is given on as it comes.
pub(super) async fn read<R>(response: &mut Response<ReceivedBody<R>>, limit: usize) -> Result<(), R::Error>
where
    R: Body<Data = Bytes> + Unpin,
{
    if is_stream(response.headers()) {
        return Ok(());
    }
    let (ReceivedBody { read, rest }, mut size) = (response.body_mut(), 0_usize);
    while let Some(body) = rest.as_mut().filter(|_| size <= limit) {
        let frame = next(body).await.transpose()?;
        match frame {
            Some(frame) => {
                size = size.saturating_add(frame.data_ref().map_or(0, Bytes::len));
                // Nothing in a frame is nothing to keep: there may be any number of them.
                if frame.data_ref().is_none_or(|data| !data.is_empty()) {
                    read.push(frame);
                }
                // A body that has always more must not keep the time-out from being asked.
                consume_budget().await;
            }
            None => *rest = None,
        }
    }
    Ok(())
}

pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    let events = b"text/event-stream";
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.and_then(|kind| kind.get(..events.len())).is_some_and(|kind| kind.eq_ignore_ascii_case(events))
}

async fn next<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// What was read, in order. Most bodies are one piece, which needs no queue.
#[derive(Default)]
struct Frames {
    first: Option<Bytes>,
    more: VecDeque<Frame<Bytes>>,
}

impl Frames {
    fn push(&mut self, frame: Frame<Bytes>) {
        if self.first.is_some() || !self.more.is_empty() {
            return self.more.push_back(frame);
        }
        match frame.into_data() {
            Ok(data) => self.first = Some(data),
            Err(frame) => self.more.push_back(frame),
        }
    }

    fn pop(&mut self) -> Option<Frame<Bytes>> {
        self.first.take().map(Frame::data).or_else(|| self.more.pop_front())
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    fn data(&self) -> impl Iterator<Item = &Bytes> {
        self.first.iter().chain(self.more.iter().filter_map(Frame::data_ref))
    }
}

/// The body of a response that came through a [`Retry`](super::Retry): read to its end
/// already, unless it is larger than [`response_limit`](super::RetryLayer::response_limit) or a
/// stream of events.
pub struct ReceivedBody<R> {
    read: Frames,
    rest: Option<R>,
}

impl<R> ReceivedBody<R> {
    /// A body that is not read ahead.
    pub(super) fn unread(body: R) -> Self {
        Self { read: Frames::default(), rest: Some(body) }
    }

    /// All of it, if it was read to its end.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        let mut pieces = self.read.data();
        match (&self.rest, pieces.next(), pieces.next()) {
            (Some(_), ..) => None,
            (None, None, _) => Some(Bytes::new()),
            (None, Some(one), None) => Some(one.clone()),
            _ => Some(self.read.data().flatten().copied().collect()),
        }
    }
}

impl<R: Body<Data = Bytes> + Unpin> Body for ReceivedBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match self.read.pop() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.rest.as_mut().map_or(Poll::Ready(None), |rest| Pin::new(rest).poll_frame(cx)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.data().map(|data| data.len() as u64).sum::<u64>();
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}

impl<R> fmt::Debug for ReceivedBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedBody").finish_non_exhaustive()
    }
}
