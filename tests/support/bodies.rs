//! Bodies that do what a test wants.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// The error of a test's services and bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) &'static str);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failure {}

impl From<Infallible> for Failure {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

pub(crate) type TestBody = UnsyncBoxBody<Bytes, Failure>;

/// A body that is all there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> TestBody {
    Full::new(bytes.into()).map_err(Failure::from).boxed_unsync()
}

/// What a scripted body does next.
#[derive(Debug)]
pub(crate) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    Fail(Failure),
    /// Silence, for this long.
    Wait(Duration),
    /// Silence, for ever.
    Stall,
}

pub(crate) fn data(bytes: &'static [u8]) -> Part {
    Part::Data(Bytes::from_static(bytes))
}

/// A body that follows a script, and then ends. Its length is unknown.
pub(crate) struct Script {
    parts: VecDeque<Part>,
    waiting: Option<Pin<Box<Sleep>>>,
}

pub(crate) fn script(parts: impl IntoIterator<Item = Part>) -> TestBody {
    Script { parts: parts.into_iter().collect(), waiting: None }.boxed_unsync()
}

impl Body for Script {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                std::task::ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            match self.parts.pop_front() {
                None => return Poll::Ready(None),
                Some(Part::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Part::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Some(Part::Fail(failure)) => return Poll::Ready(Some(Err(failure))),
                Some(Part::Wait(duration)) => self.waiting = Some(Box::pin(sleep_until(Instant::now() + duration))),
                Some(Part::Stall) => {
                    self.parts.push_front(Part::Stall);
                    return Poll::Pending;
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
