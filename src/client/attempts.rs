//! One try after the other, and the pauses between them.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};
use tower::retry::budget::Budget;
use tower_service::Service;

use super::body::{ReceivedBody, read};
use super::error::{BoxError, ClientErrorKind};
use super::policy::Policy;
use crate::util::backoff::{after, later};

/// How long a call may take, and how long it rests before each further try.
pub(super) struct Pace {
    policy: Arc<Policy>,
    /// Set by the first try.
    deadline: Option<Instant>,
}

impl Pace {
    /// When a try has to end that begins now.
    fn end_of_try(&mut self) -> Instant {
        let (policy, now) = (&self.policy, Instant::now());
        let deadline = *self.deadline.get_or_insert_with(|| {
            policy.budget.deposit();
            later(now, policy.deadline)
        });
        later(now, policy.try_timeout).min(deadline)
    }

    /// Waits for the next try, after so many that failed. Whether there is time for it.
    pub(super) async fn rest(&self, tries: u32, asked: Option<Duration>) -> bool {
        let asked = asked.unwrap_or_default().min(self.policy.retry_after_limit);
        let end = after(asked.saturating_add(self.policy.backoff.pause(tries)));
        if self.deadline.is_some_and(|deadline| end >= deadline) {
            return false;
        }
        sleep_until(end).await;
        true
    }

    /// The same before a retry, of which there may be only so many.
    pub(super) async fn rest_within_budget(&self, tries: u32, asked: Option<Duration>) -> bool {
        tries < self.policy.max_tries && self.policy.budget.withdraw() && self.rest(tries, asked).await
    }
}

pin_project! {
    /// Work that has to be done by `end`. A timer is made once the work has to wait.
    struct Within<F> {
        work: F,
        end: Instant,
        #[pin]
        timer: Option<Unconstrained<Sleep>>,
    }
}

impl<F: Future<Output = Result<T, ClientErrorKind>> + Unpin, T> Future for Within<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = Pin::new(this.work).poll(cx) {
            return Poll::Ready(output);
        }
        if this.timer.is_none() {
            // Work that is always ready for more, and so uses up its share of the runtime, must
            // not keep the timer from being asked.
            this.timer.set(Some(unconstrained(sleep_until(*this.end))));
        }
        match this.timer.as_pin_mut().map(|timer| timer.poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(ClientErrorKind::TimedOut)),
            _ => Poll::Pending,
        }
    }
}

pub(super) struct Attempts<S, B> {
    service: S,
    pub(super) pace: Pace,
    body: PhantomData<fn(B)>,
}

impl<S, B> Attempts<S, B> {
    pub(super) const fn new(service: S, policy: Arc<Policy>) -> Self {
        Self { service, pace: Pace { policy, deadline: None }, body: PhantomData }
    }

    pub(super) const fn policy(&self) -> &Arc<Policy> {
        &self.pace.policy
    }
}

impl<S, B, R> Attempts<S, B>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
    B: From<Bytes>,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// A response with its whole body.
    pub(super) async fn send(
        &mut self,
        head: &Parts,
        body: &Bytes,
    ) -> Result<Response<ReceivedBody<R>>, ClientErrorKind> {
        let end = self.pace.end_of_try();
        let limit = self.policy().response_limit;
        let service = &mut self.service;
        // It stays in its place, and what it sends is made there: both are large.
        let sent = pin!(async {
            let failed = |error: S::Error| ClientErrorKind::Service(error.into());
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
            let request = Request::from_parts(head.clone(), B::from(body.clone()));
            let mut response = service.call(request).await.map_err(failed)?.map(ReceivedBody::unread);
            read(&mut response, limit).await.map_err(|error| ClientErrorKind::Service(error.into()))?;
            Ok(response)
        });
        Within { work: sent, end, timer: None }.await
    }
}
