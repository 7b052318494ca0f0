//! The guarded service: admit, claim, run, record.

mod admit;
mod answer;
mod undo;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::Body;
use tokio::time::timeout;
use tower_service::Service;

pub(crate) use self::admit::key_of;
pub(crate) use self::answer::unavailable;

use self::admit::Driven;
use crate::core::{Change, Claim, Fingerprint, Key, Mode, NotRetained, StoredRequest, StoredResponse};
use crate::engine::Engine;
use crate::engine::attempt::{Attempt, End};
use crate::engine::claim::{Admission, claim, under_lease};
use crate::engine::content::Content;
use crate::engine::handoff::{ClaimHandoff, GrantedClaim, Handoff};
use crate::engine::operation::{Operation, Undone};
use crate::engine::outcome::Outcome;
use crate::http::background::Background;
use crate::http::body::{Read, RequestBody, ResponseBody, read};
use crate::http::extract::original_uri;
use crate::http::future::ResponseFuture;
use crate::http::policy::Policy;
use crate::http::problem::first;
use crate::http::target::fingerprint;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;
use crate::telemetry::span;

static HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// A service made idempotent; what [`IdempotencyLayer`](crate::IdempotencyLayer)
/// makes of the one it wraps.
///
/// See the [crate docs](crate) for an example.
#[derive(Clone, Debug)]
pub struct Idempotency<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all clones of a service share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) policy: Policy,
    /// Where a completer of this process takes work that is accepted.
    pub(crate) handoff: Arc<Handoff>,
}

impl<S> Idempotency<S> {
    pub(crate) const fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }

    fn refuse<ReqBody, ResBody>(&self, refusal: Refusal) -> ResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<RequestBody<ReqBody>>>,
        ReqBody: Body,
        ResBody: Body,
    {
        self.shared.engine.emit_unkeyed(|| EventKind::Refused { refusal });
        ResponseFuture::refused(self.shared.policy.problems.refuse(refusal))
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Idempotency<S>
where
    S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    ReqBody: Body<Data = Bytes> + Send + 'static,
    ResBody: Body<Data = Bytes> + Send + 'static,
    ResBody::Error: Send,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, ReqBody, ResBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        // A completer's claim is met by the outermost layer; beyond that, it is spent.
        let extensions = request.extensions();
        let claim = extensions.get::<ClaimHandoff>().filter(|_| extensions.get::<Operation>().is_none());
        if let Some(claim) = claim.cloned() {
            return self.serve_claim(&claim, request);
        }
        let idempotency_key = match self.key_of(&request) {
            Ok(Some(idempotency_key)) => idempotency_key,
            Ok(None) => return ResponseFuture::theirs(self.inner.call(request.map(RequestBody::theirs))),
            Err(refusal) => return self.refuse(refusal),
        };
        let (parts, body) = request.into_parts();
        match self.admit(&idempotency_key, &parts) {
            Ok(None) => {
                let request = Request::from_parts(parts, RequestBody::theirs(body));
                ResponseFuture::theirs(self.inner.call(request))
            }
            Err(refusal) => self.refuse(refusal),
            Ok(Some((guarded, upload))) => {
                // The clone goes back, the service that was polled ready is used:
                // https://docs.rs/tower/latest/tower/trait.Service.html#be-careful-when-cloning-inner-services
                let clone = self.inner.clone();
                let service = std::mem::replace(&mut self.inner, clone);
                ResponseFuture::reading(body, upload, Box::new(Admitted { service, parts, guarded }))
            }
        }
    }
}

impl<S> Idempotency<S> {
    /// Runs what a completer has claimed already. Dropped, it stops: whoever
    /// waits for it is the one who decides how long it may take.
    fn serve_claim<ReqBody, ResBody>(
        &mut self,
        claim: &ClaimHandoff,
        request: Request<ReqBody>,
    ) -> ResponseFuture<S, ReqBody, ResBody>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        ReqBody: Body<Data = Bytes> + Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        let Some(work) = claim.meet(&self.shared.engine) else {
            // Served already: without its key it would run unprotected. Or a
            // question, which is answered by now.
            return ResponseFuture::refused(self.shared.policy.problems.refuse(Refusal::InProgress));
        };
        let clone = self.inner.clone();
        let service = std::mem::replace(&mut self.inner, clone);
        let (shared, key) = (Arc::clone(&self.shared), *work.attempt.key());
        let guarded = Guarded { shared, key, later: None, is_driven: true };
        let (mut parts, _) = request.into_parts();
        parts.extensions.insert(Driven { key, scope: self.shared.policy.scope.clone() });
        let admitted = Box::new(Admitted { service, parts, guarded });
        ResponseFuture::attached(admitted.run_granted(work))
    }
}

/// What the client gets, or the error of the inner service.
type Answer<B, E> = Result<Response<ResponseBody<B>>, E>;

/// A guarded request before its claim.
pub(crate) struct Admitted<S> {
    service: S,
    parts: Parts,
    guarded: Guarded,
}

impl<S> Admitted<S> {
    pub(crate) fn refuse<B: Body>(&self, refusal: Refusal) -> Response<ResponseBody<B>> {
        self.guarded.refuse(refusal)
    }

    /// All that may not be left half done: from the claim to the stored answer.
    ///
    /// A replay never gets to the second half, which is why that has a box of
    /// its own.
    pub(crate) async fn work<ReqBody, ResBody>(self: Box<Self>, body: Content) -> Answer<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
        ResBody: Body<Data = Bytes>,
    {
        // After the upload, which a slow client may draw out, and before the
        // claim; held to the end, since this work outlives its client.
        let shared = Arc::clone(&self.guarded.shared);
        let Ok(_permit) = shared.policy.permits.try_acquire() else {
            return Ok(self.guarded.refuse(Refusal::Overloaded));
        };
        let fingerprint = fingerprint(&self.parts, &body, &shared.policy);
        if self.guarded.later.is_some()
            && let Some(answer) = Box::pin(self.guarded.submit(&self.parts, fingerprint, &body)).await
        {
            return Ok(answer);
        }
        match self.guarded.claim(&self.parts, fingerprint, &body).await {
            Ok(Admission::Granted(attempt)) => self.run(attempt, fingerprint, body).await,
            Ok(Admission::Refused(claimed)) => Ok(self.guarded.answer(claimed)),
            Err(error) => Ok(self.guarded.refuse(unavailable(&error))),
        }
    }

    /// Runs what a completer has claimed, within what this route allows.
    async fn run_granted<ReqBody, ResBody>(self: Box<Self>, work: GrantedClaim) -> Answer<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
        ResBody: Body<Data = Bytes>,
    {
        let (attempt, shared) = (Arc::clone(&work.attempt), Arc::clone(&self.guarded.shared));
        let limits = shared.policy.background.as_ref().map_or((None, None), Background::limits);
        let tries = attempt.claimed().tries();
        if limits.1.is_some_and(|most| tries > most) {
            // Whoever claimed it ends it.
            attempt.park("", &format!("it was tried {} times", tries - 1));
            return Ok(self.guarded.refuse(Refusal::OutcomeUnknown));
        }
        if attempt.lost().is_given() {
            // It took too long to get here, and may be someone else's by now.
            return Ok(self.guarded.refuse(Refusal::InProgress));
        }
        // Kept to the end of this, so that what it was doing can still be told.
        let mut run = self.run(work.attempt, work.fingerprint, work.body);
        let Some(deadline) = limits.0 else { return run.await };
        match timeout(deadline, &mut run).await {
            Ok(answer) => answer,
            // Only its end is left, which takes no longer than a store may.
            Err(_) if attempt.has_ended() => run.await,
            Err(_) => {
                attempt.emit(|| EventKind::CutOff { steps: attempt.running() });
                Ok(shared.policy.problems.refuse(Refusal::Interrupted))
            }
        }
    }

    /// Boxed: it is large, and would be moved from hand to hand.
    fn run<ReqBody, ResBody>(
        self: Box<Self>,
        attempt: Arc<Attempt>,
        fingerprint: Fingerprint,
        body: Content,
    ) -> Pin<Box<impl Future<Output = Answer<ResBody, S::Error>>>>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
        ResBody: Body<Data = Bytes>,
    {
        let (held, method) = (Arc::clone(&attempt), self.parts.method.clone());
        Box::pin(span::attempt(held.key(), held.claimed(), Some(&method), self.serve(attempt, fingerprint, body)))
    }

    async fn serve<ReqBody, ResBody>(
        self: Box<Self>,
        attempt: Arc<Attempt>,
        fingerprint: Fingerprint,
        body: Content,
    ) -> Answer<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
        ResBody: Body<Data = Bytes>,
    {
        let Self { mut service, parts, guarded } = *self;
        let is_post = parts.method == Method::POST;
        let operation = Operation::new(Arc::clone(&attempt));
        let request = of_operation(parts, &operation, body);
        let guarded = &guarded;
        let (policy, claimed) = (&guarded.shared.policy, &attempt);
        let run = under_lease(&attempt, async move {
            let (parts, body) = service.call(request).await?.into_parts();
            let patience = if is_endless(&parts.headers) { Duration::ZERO } else { policy.stream_after };
            let Read { body, content } = if parts.status.is_informational() {
                // A switch of protocols (101) has begun something that can't be given twice.
                Read { body: ResponseBody::theirs(body), content: Err(NotRetained::Streamed) }
            } else {
                read(&parts, body, policy.response_limit, patience).await
            };
            let outcome = guarded.outcome(claimed, is_post, &parts, &content);
            let undone = if operation.can_undo() && !guarded.has_no_route(claimed, &parts, &content) {
                let said = Outcome::is_said_final(&parts.extensions);
                Box::pin(operation.undo(guarded.failure(outcome, &parts, &content), said)).await
            } else {
                Undone::AsItIs
            };
            Ok(Answered { parts, body, content, outcome, undone })
        });
        let run = run.await;
        if let Some(stored) = attempt.completed() {
            attempt.emit_late_doubt();
            return Ok(guarded.stored(stored));
        }
        match run {
            Ok(Ok(answered)) => Ok(guarded.record(&attempt, fingerprint, answered).await),
            Ok(Err(error)) => {
                Box::pin(release(&attempt)).await;
                Err(error)
            }
            Err(_panicked) => {
                attempt.emit(|| EventKind::Panicked);
                Ok(match Box::pin(release(&attempt)).await {
                    End::Lost(found) => guarded.lost(&attempt, fingerprint, found),
                    End::Parked => guarded.refuse(Refusal::OutcomeUnknown),
                    _ if policy.mode == Mode::Resumable => guarded.interrupted(&attempt).await,
                    _ => guarded.refuse(Refusal::OutcomeUnknown),
                })
            }
        }
    }
}

/// The request, as the handler gets it.
fn of_operation<B>(mut parts: Parts, operation: &Operation, body: Content) -> Request<RequestBody<B>> {
    parts.extensions.insert(operation.clone());
    Request::from_parts(parts, RequestBody::read(body))
}

/// What the handler answered, and how that counts.
struct Answered<B: Body> {
    parts: http::response::Parts,
    body: ResponseBody<B>,
    content: Result<Content, NotRetained>,
    outcome: Outcome,
    undone: Undone,
}

async fn release(attempt: &Arc<Attempt>) -> End {
    let end = attempt.end(Change::Release).await;
    attempt.emit_end(&end, false);
    end
}

impl Shared {
    /// The request, for an attempt that has to run it again.
    pub(crate) fn stored_request(&self, parts: &Parts, body: &Content) -> StoredRequest {
        let (bytes, none) = (body.bytes.clone(), HeaderMap::new());
        let trailers = body.trailers.as_deref().unwrap_or(&none);
        let uri = original_uri(parts);
        StoredRequest::keep(&parts.method, uri, &parts.headers, bytes, trailers, |name| self.tell_dropped(name))
    }

    /// The answer, for the retries.
    fn stored_response(&self, parts: &http::response::Parts, content: Result<Content, NotRetained>) -> StoredResponse {
        let (body, trailers) = match content {
            Ok(Content { bytes, trailers }) => (Ok(bytes), trailers),
            Err(why) => (Err(why), None),
        };
        let none = HeaderMap::new();
        let trailers = trailers.as_deref().unwrap_or(&none);
        StoredResponse::keep(parts.status, &parts.headers, body, trailers, |name| self.tell_dropped(name))
    }

    fn tell_dropped(&self, name: &HeaderName) {
        // The client's key is no news.
        if *name != HEADER {
            self.policy.dropped.tell(&self.engine, name);
        }
    }
}

/// A stream of events has no end to wait for.
fn is_endless(headers: &HeaderMap) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else { return false };
    let Some((media_type, rest)) = value.as_bytes().trim_ascii_start().split_at_checked(EVENTS.len()) else {
        return false;
    };
    media_type.eq_ignore_ascii_case(EVENTS) && rest.first().is_none_or(|next| matches!(next, b';' | b' ' | b'\t'))
}

/// What a guarded request needs from its claim to its answer.
pub(crate) struct Guarded {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: Key,
    /// Where to ask for its answer, if it is to be run in the background.
    pub(crate) later: Option<HeaderValue>,
    /// A completer runs it, and not its client.
    pub(crate) is_driven: bool,
}

impl Guarded {
    fn claim<'a>(
        &'a self,
        parts: &Parts,
        fingerprint: Fingerprint,
        body: &Content,
    ) -> impl Future<Output = Result<Admission, StoreError>> + Send + use<'a> {
        let (policy, limits) = (&self.shared.policy, self.shared.engine.limits());
        // Kept only where someone may have to run it again.
        let request = (policy.mode == Mode::Resumable).then(|| Arc::new(self.shared.stored_request(parts, body)));
        let command = Claim { fingerprint, mode: policy.mode, lease: limits.lease, request };
        claim(&self.shared.engine, self.key, command, limits)
    }

    /// Stores the handler's answer, and says what the client gets: that
    /// answer, unless someone else took over.
    async fn record<B: Body>(
        &self,
        attempt: &Arc<Attempt>,
        fingerprint: Fingerprint,
        answered: Answered<B>,
    ) -> Response<ResponseBody<B>> {
        let Answered { parts, body, content, outcome, undone } = answered;
        // Boxed, as it is seldom.
        if !matches!(undone, Undone::AsItIs)
            && let Some(answer) = Box::pin(self.after_undo(attempt, fingerprint, undone)).await
        {
            return answer;
        }
        let (status, lost) = (parts.status.as_u16(), content.as_ref().err().copied());
        // Made before it is waited for: what is moved into a future is copied.
        let change = self.change(attempt, outcome, &parts, content);
        let end = attempt.end(change).await;
        let is_final = outcome == Outcome::Final;
        match &end {
            End::Stored if is_final => attempt.emit(|| EventKind::Completed { status, retained: lost.is_none() }),
            _ => attempt.emit_end(&end, outcome == Outcome::NothingHappened),
        }
        match end {
            End::Lost(found) => self.lost(attempt, fingerprint, found),
            End::Parked => self.refuse(Refusal::OutcomeUnknown),
            End::Stored | End::Unsaved(_) => first(parts, body, lost.filter(|_| is_final)),
        }
    }

    /// What the handler's answer does to the record.
    fn change(
        &self,
        attempt: &Attempt,
        outcome: Outcome,
        parts: &http::response::Parts,
        content: Result<Content, NotRetained>,
    ) -> Change {
        match outcome {
            Outcome::NothingHappened => Change::Withdraw,
            Outcome::Retryable => Change::Release,
            Outcome::Final => {
                let response = self.shared.stored_response(parts, content);
                attempt.complete(Arc::new(response), Outcome::is_said_final(&parts.extensions))
            }
        }
    }
}
