//! A call, from its key to its final response.

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

/// What goes out in every try, and where it stands.
struct Call<S, B> {
    attempts: Attempts<S, B>,
    head: Parts,
    body: Bytes,
    tries: u32,
    hops: u32,
    accepted: Option<Accepted>,
}

/// What a try leads to.
enum Next<R> {
    Done(Response<ReceivedBody<R>>),
    Again,
    /// After a pause, if there is time and budget for it; otherwise this is what the call has.
    Later(Option<Duration>, Result<Response<ReceivedBody<R>>, ClientErrorKind>),
}

pub(super) async fn call<S, B, R>(
    mut service: S,
    policy: Arc<Policy>,
    request: Request<B>,
) -> Result<Response<ReceivedBody<R>>, ClientError>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
    B: Body<Error: Into<BoxError>> + From<Bytes> + Unpin,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    if !policy.serves(request.uri()) || request.method() == Method::CONNECT {
        let failed = |error: S::Error| ClientErrorKind::Service(error.into());
        let sent = service.call(request).await.map(|response| response.map(ReceivedBody::unread));
        return sent.map_err(|error| ClientError { tries: 1, ..ClientError::new(failed(error)) });
    }
    let (mut head, body) = request.into_parts();
    let key = put_key(&mut head, &policy).map_err(ClientError::new)?;
    let body = keep(body, policy.request_limit).await.map_err(ClientError::new)?;
    let attempts = Attempts::new(service, policy);
    let mut call = Call { attempts, head, body, tries: 0, hops: 0, accepted: None };
    let ended = call.run().await;
    let tries = call.tries;
    match ended {
        Ok(mut response) => {
            response.extensions_mut().insert(Sent { key, tries });
            call.accepted.map(|accepted| response.extensions_mut().insert(accepted));
            Ok(response)
        }
        Err(kind) => Err(ClientError { kind, key, tries }),
    }
}

impl<S, B, R> Call<S, B>
where
    S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
    B: From<Bytes>,
    R: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    async fn run(&mut self) -> Result<Response<ReceivedBody<R>>, ClientErrorKind> {
        loop {
            self.tries += 1;
            let next = match self.attempts.send(self.head.clone(), self.body.clone()).await {
                Ok(response) => self.after(response).await?,
                Err(kind) if self.attempts.policy().ends_with(&kind) => return Err(kind),
                Err(kind) => Next::Later(None, Err(kind)),
            };
            match next {
                Next::Done(response) => return Ok(response),
                Next::Again => {}
                Next::Later(asked, outcome) => {
                    if !self.attempts.pace.rest_within_budget(self.tries, asked).await {
                        return outcome;
                    }
                }
            }
        }
    }

    async fn after(&mut self, response: Response<ReceivedBody<R>>) -> Result<Next<R>, ClientErrorKind> {
        let said = verdict(response.status(), response.headers(), &self.head.uri, || response.body().whole());
        Ok(match said {
            Verdict::Retry(asked) => Next::Later(asked, Ok(response)),
            Verdict::Elsewhere(place) if self.hops < MAX_HOPS => {
                self.hops += 1;
                self.head.uri = place;
                Next::Again
            }
            Verdict::Accepted(place) => {
                let policy = Arc::clone(self.attempts.policy());
                let accepted = Accepted::new(place, &self.head, &policy.key_header);
                let follows = policy.follows && self.tries < policy.max_tries;
                let accepted = self.accepted.insert(accepted);
                if follows {
                    follow(&mut self.attempts, accepted).await?;
                    Next::Again
                } else {
                    Next::Done(response)
                }
            }
            Verdict::Elsewhere(_) | Verdict::Final => Next::Done(response),
        })
    }
}
