//! The body of a request on its way: for how long the upstream is waited for, and for how long the
//! client.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, SizeHint};
use tokio::time::timeout;

use super::answer::Trouble;

/// More of the request has to come from its client.
const CLIENT: u64 = 1;

/// For whom is waited, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Wait(Arc<Since>);

#[derive(Debug)]
struct Since {
    began: Instant,
    moment: Moment,
}

impl Wait {
    pub(crate) fn begin() -> Self {
        Self(Arc::new(Since { began: Instant::now(), moment: Moment::default() }))
    }

    /// What comes of `sent`, unless for so long nothing goes on: the upstream takes nothing of the
    /// request and does not respond, or no more of it comes from the client.
    ///
    /// # Errors
    ///
    /// [`Trouble`] that says for whom it waited.
    pub(crate) async fn at_most<F: Future>(&self, limit: Duration, sent: F) -> Result<F::Output, Trouble> {
        let (mut sent, mut left) = (pin!(sent), limit);
        loop {
            if let Ok(output) = timeout(left, &mut sent).await {
                return Ok(output);
            }
            let (trouble, waited) = self.0.moment.waited(self.0.began.elapsed());
            left = limit.saturating_sub(waited);
            if left.is_zero() {
                return Err(trouble);
            }
        }
    }
}

/// When the wait began that goes on: in microseconds, twice, and one more if it is for the client:
/// [`CLIENT`].
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn waited(&self, now: Duration) -> (Trouble, Duration) {
        let moment = self.0.load(Ordering::Relaxed);
        let waited = now.saturating_sub(Duration::from_micros(moment >> 1));
        (if moment & CLIENT == 0 { Trouble::TooSlow } else { Trouble::Stalled }, waited)
    }

    /// The upstream asked for more of the request.
    fn polled(&self, now: Duration, is_pending: bool) {
        // If nothing had come when it asked before, that is when the wait began.
        if is_pending && self.0.load(Ordering::Relaxed) & CLIENT != 0 {
            return;
        }
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX >> 1);
        self.0.store((now << 1) | u64::from(is_pending), Ordering::Relaxed);
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
            wait.0.moment.polled(wait.0.began.elapsed(), polled.is_pending());
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_client_that_goes_on_is_waited_for_since_its_last_byte() {
        let moment = Moment::default();
        for now in 1..100 {
            moment.polled(second(now), true);
            assert_eq!(moment.waited(second(now + 1)), (Trouble::Stalled, second(1)));
            moment.polled(second(now + 1), false);
            assert_eq!(moment.waited(second(now + 1)), (Trouble::TooSlow, second(0)));
        }
    }

    #[test]
    fn a_client_that_is_asked_again_gets_no_more_time() {
        let moment = Moment::default();
        (1..9).for_each(|now| moment.polled(second(now), true));
        assert_eq!(moment.waited(second(10)), (Trouble::Stalled, second(9)));
    }

    #[test]
    fn a_service_is_waited_for_since_it_took_the_last_of_the_request() {
        let moment = Moment::default();
        assert_eq!(moment.waited(second(3)), (Trouble::TooSlow, second(3)));
        moment.polled(second(4), true);
        moment.polled(second(5), false);
        assert_eq!(moment.waited(second(8)), (Trouble::TooSlow, second(3)));
    }
}
