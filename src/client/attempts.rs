//! One try after the other, and the pauses between them.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use tokio::time::{Instant, sleep_until, timeout_at};
use tower::retry::budget::Budget;
use tower_service::Service;

use super::body::{ReceivedBody, receive};
use super::error::{BoxError, ClientErrorKind};
use super::policy::Policy;
use crate::util::backoff::after;

/// How long a call may take, and how long it rests before each further try.
pub(super) struct Pace {
    policy: Arc<Policy>,
    deadline: Instant,
}

impl Pace {
    /// Waits for the next try, after so many that failed. Whether there is time for it.
    pub(super) async fn rest(&self, tries: u32, asked: Option<Duration>) -> bool {
        let asked = asked.unwrap_or_default().min(self.policy.retry_after_limit);
        let end = after(asked.saturating_add(self.policy.backoff.pause(tries)));
        if end >= self.deadline {
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

pub(super) struct Attempts<S, B> {
    service: S,
    pub(super) pace: Pace,
    body: PhantomData<fn(B)>,
}

impl<S, B> Attempts<S, B> {
    pub(super) fn new(service: S, policy: Arc<Policy>) -> Self {
        policy.budget.deposit();
        let pace = Pace { deadline: after(policy.deadline), policy };
        Self { service, pace, body: PhantomData }
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
        head: Parts,
        body: Bytes,
    ) -> Result<Response<ReceivedBody<R>>, ClientErrorKind> {
        let end = after(self.policy().try_timeout).min(self.pace.deadline);
        let request = Request::from_parts(head, B::from(body));
        let limit = self.policy().response_limit;
        let service = &mut self.service;
        let sent = async {
            let failed = |error: S::Error| ClientErrorKind::Service(error.into());
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
            let response = service.call(request).await.map_err(failed)?;
            receive(response, limit).await.map_err(|error| ClientErrorKind::Service(error.into()))
        };
        timeout_at(end, sent).await.unwrap_or(Err(ClientErrorKind::TimedOut))
    }
}
