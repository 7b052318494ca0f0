//! The body of a request on its way: for how long the upstream is waited for, and not the client.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::timeout;

/// More of the request has to come from its client.
const CLIENT: u64 = u64::MAX;

/// Since when the upstream is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Wait(Arc<Since>);

#[derive(Debug)]
struct Since {
    began: Instant,
    /// In microseconds from there, or [`CLIENT`].
    upstream: AtomicU64,
}

impl Wait {
    pub(crate) fn begin() -> Self {
        Self(Arc::new(Since { began: Instant::now(), upstream: AtomicU64::new(0) }))
    }

    /// What comes of `sent`, or `None` if the upstream takes nothing of the request for so long,
    /// and does not respond.
    pub(crate) async fn at_most<F: Future>(&self, limit: Duration, sent: F) -> Option<F::Output> {
        let (mut sent, mut left) = (pin!(sent), limit);
        while !left.is_zero() {
            if let Ok(output) = timeout(left, &mut sent).await {
                return Some(output);
            }
            left = limit.saturating_sub(self.waited());
        }
        None
    }

    fn waited(&self) -> Duration {
        match self.0.upstream.load(Ordering::Relaxed) {
            CLIENT => Duration::ZERO,
            since => self.0.began.elapsed().saturating_sub(Duration::from_micros(since)),
        }
    }

    fn polled(&self, is_pending: bool) {
        let now = || u64::try_from(self.0.began.elapsed().as_micros()).unwrap_or(CLIENT - 1);
        self.0.upstream.store(if is_pending { CLIENT } else { now() }, Ordering::Relaxed);
    }
}

/// A body that is read as the upstream takes it.
#[derive(Debug)]
pub(crate) struct Upload<B> {
    body: B,
    /// `None` if all of it is here.
    wait: Option<Wait>,
}

impl<B> Upload<B> {
    pub(crate) const fn new(body: B, wait: Option<Wait>) -> Self {
        Self { body, wait }
    }
}

impl<B: Body + Unpin> Body for Upload<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(wait) = &self.wait {
            wait.polled(polled.is_pending());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
