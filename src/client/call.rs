//! A call, from its key to its final response.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::attempts::Attempts;
use super::body::{ReceivedBody, keep};
use super::error::{BoxError, ClientError, ClientErrorKind};
use super::follow::{Accepted, follow};
use super::key::put_key;
use super::policy::Policy;
use super::verdict::{Verdict, verdict};
use crate::core::IdempotencyKey;

/// How often a request goes on to another place of the same origin.
const MAX_HOPS: u32 = 5;

/// Among the extensions of each response that comes through a [`Retry`](super::Retry) from a
/// declared server: what was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    key: Option<IdempotencyKey>,
    tries: u32,
}

impl Sent {
    /// The key that was the same in every try. `None` if the request needed none: a GET, say.
    pub const fn key(&self) -> Option<&IdempotencyKey> {
        self.key.as_ref()
    }

    /// How often the request was sent.
    pub const fn tries(&self) -> u32 {
        self.tries
    }
}

/// The future of a [`Retry`](super::Retry).
pub type RetryFuture<R> = Pin<Box<dyn Future<Output = Result<Response<ReceivedBody<R>>, ClientError>> + Send>>;

/// What goes out in every try, and where it stands.
struct Call<S, B> {
    attempts: Attempts<S, B>,
    head: Parts,
    body: Bytes,
    tries: u32,
    hops: u32,
    accepted: Option<Accepted>,
}

/// What a try has come to.
type Outcome<R> = Result<Response<ReceivedBody<R>>, ClientErrorKind>;

/// What a try leads to. Its outcome stays where it is: responses are large.
enum Next {
    /// The outcome is the call's.
    Done,
    Again,
    /// Once the operation that was accepted has ended.
    OnceEnded,
    /// After a pause, if there is time and budget for it; otherwise the outcome is the call's.
    Later(Option<Duration>),
}

/// Requests and responses are some 200 bytes, and a client pays for each copy: so a call stays
/// where it is, and one future has it and its loop.
pub(super) fn call<S, B, R>(service: S, policy: Arc<Policy>, request: Request<B>) -> RetryFuture<R>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>, Future: Send> + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + From<Bytes> + Send + Unpin + 'static,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if !policy.serves(request.uri()) || request.method() == Method::CONNECT {
        return Box::pin(pass_on(service, request));
    }
    let (head, body) = request.into_parts();
    let attempts = Attempts::new(service, policy);
    let mut call = Call { attempts, head, body: Bytes::new(), tries: 0, hops: 0, accepted: None };
    Box::pin(async move {
        let policy = call.attempts.policy();
        let key = put_key(&mut call.head, policy).map_err(ClientError::new)?;
        call.body = keep(body, policy.request_limit).await.map_err(ClientError::new)?;
        loop {
            call.tries += 1;
            let outcome = call.attempts.send(&call.head, &call.body).await;
            match call.after(&outcome) {
                Next::Again => {}
                Next::OnceEnded => {
                    drop(outcome);
                    // In a place of its own: few calls need it, and it is large.
                    if let Err(kind) = Box::pin(call.follow()).await {
                        return call.ended(Err(kind), key);
                    }
                }
                Next::Later(asked) if call.attempts.pace.rest_within_budget(call.tries, asked).await => {}
                Next::Later(_) | Next::Done => return call.ended(outcome, key),
            }
        }
    })
}

/// To a server that was not declared: once, and as it is.
async fn pass_on<S, B, R>(mut service: S, request: Request<B>) -> Result<Response<ReceivedBody<R>>, ClientError>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
{
    let failed = |error: S::Error| ClientErrorKind::Service(error.into());
    let sent = service.call(request).await.map(|response| response.map(ReceivedBody::unread));
    sent.map_err(|error| ClientError { tries: 1, ..ClientError::new(failed(error)) })
}

impl<S, B, R> Call<S, B>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
    B: From<Bytes>,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// What comes after a try.
    fn after(&mut self, outcome: &Outcome<R>) -> Next {
        let response = match outcome {
            Ok(response) => response,
            Err(kind) if self.attempts.policy().ends_with(kind) => return Next::Done,
            Err(_) => return Next::Later(None),
        };
        let said = verdict(response.status(), response.headers(), &self.head.uri, || response.body().whole());
        match said {
            Verdict::Retry(asked) => Next::Later(asked),
            Verdict::Elsewhere(place) if self.hops < MAX_HOPS => {
                self.hops += 1;
                self.head.uri = place;
                Next::Again
            }
            Verdict::Accepted(place) => {
                let policy = self.attempts.policy();
                self.accepted = Some(Accepted::new(place, &self.head, &policy.key_header));
                let follows = policy.follows && self.tries < policy.max_tries;
                if follows { Next::OnceEnded } else { Next::Done }
            }
            Verdict::Elsewhere(_) | Verdict::Final => Next::Done,
        }
    }

    /// What the caller gets.
    #[inline]
    fn ended(
        &mut self,
        outcome: Outcome<R>,
        key: Option<IdempotencyKey>,
    ) -> Result<Response<ReceivedBody<R>>, ClientError> {
        let tries = self.tries;
        match outcome {
            Ok(mut response) => {
                response.extensions_mut().insert(Sent { key, tries });
                self.accepted.take().map(|accepted| response.extensions_mut().insert(accepted));
                Ok(response)
            }
            Err(kind) => Err(ClientError { kind, key, tries }),
        }
    }

    async fn follow(&mut self) -> Result<(), ClientErrorKind> {
        match &self.accepted {
            Some(accepted) => follow(&mut self.attempts, accepted).await,
            None => Ok(()),
        }
    }
}
