//! Bodies that do what a test wants.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// What a body does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// So many bytes.
    Data(usize),
    /// A frame without any.
    Empty,
    /// One line of trailers.
    Trailer(&'static str, &'static str),
    /// It breaks off.
    Fail,
    /// It has nothing to say for so many seconds.
    Wait(u64),
}

/// A body that follows a script, and then ends.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it does.
    pub parts: Vec<Part>,
    /// The size it claims to have.
    pub size: Option<u64>,
    /// Whether it says with its last frame that it has ended.
    pub says_end: bool,
}

impl Script {
    /// Of unknown size.
    pub fn new(parts: impl Into<Vec<Part>>) -> Self {
        Self { parts: parts.into(), size: None, says_end: false }
    }

    /// The bytes that it gives, until it breaks off.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            match part {
                Part::Data(length) => bytes.extend(piece(bytes.len(), *length)),
                Part::Fail => break,
                _ => {}
            }
        }
        bytes
    }

    pub(crate) fn play(self) -> Playing {
        Playing { parts: self.parts.into(), size: self.size, says_end: self.says_end, given: 0, waiting: None }
    }
}

/// No two bytes in a row are the same, so that a shift shows.
fn piece(from: usize, length: usize) -> Bytes {
    (from..from + length).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect()
}

pub struct Playing {
    parts: VecDeque<Part>,
    size: Option<u64>,
    says_end: bool,
    given: usize,
    waiting: Option<Pin<Box<Sleep>>>,
}

/// It broke off.
#[derive(Debug)]
pub struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl Body for Playing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            return Poll::Ready(match self.parts.pop_front() {
                None => None,
                Some(Part::Data(length)) => {
                    let data = piece(self.given, length);
                    self.given += length;
                    Some(Ok(Frame::data(data)))
                }
                Some(Part::Empty) => Some(Ok(Frame::data(Bytes::new()))),
                Some(Part::Trailer(name, value)) => {
                    let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
                    Some(Ok(Frame::trailers(HeaderMap::from_iter([(name, value)]))))
                }
                Some(Part::Fail) => Some(Err(Broken)),
                Some(Part::Wait(seconds)) => {
                    let until = Instant::now() + Duration::from_secs(seconds);
                    self.waiting = Some(Box::pin(sleep_until(until)));
                    continue;
                }
            });
        }
    }

    fn is_end_stream(&self) -> bool {
        self.says_end && self.parts.is_empty() && self.waiting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.size.map(|size| size.saturating_sub(self.given as u64));
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
