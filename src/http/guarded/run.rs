//! Runs a guarded request: claims, calls the handler, records its response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::RequestContext;
use super::record::{Answered, release};
use super::respond::unavailable;
use crate::core::{Claim, Claimed, Fingerprint, IdempotencyKey, Intake, Mode, NotRetained, Reference, tried};
use crate::engine::attempt::reason::{PANICKED, cut_off};
use crate::engine::attempt::{Attempt, End};
use crate::engine::claim::{Admission, claim, under_lease};
use crate::engine::content::Content;
use crate::engine::handoff::GrantedClaim;
use crate::engine::operation::{Operation, Undone};
use crate::engine::outcome::Outcome;
use crate::http::background::Background;
use crate::http::body::{Read, RequestBody, ResponseBody, read, unread};
use crate::http::streaming::{Streaming, patience};
use crate::http::target::fingerprint;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;
use crate::telemetry::span;
use crate::util::detached::Boxed;
use crate::util::soon::Soon;

/// What the client gets, or the error of the inner service.
type GuardedResult<B, E> = Result<Response<ResponseBody<B>>, E>;

/// How far the work on a request got at once.
pub(crate) enum Worked<B: Body, E> {
    /// The client gets this.
    Over(Response<ResponseBody<B>>),
    GoesOn(Boxed<GuardedResult<B, E>>),
}

impl<B: Body, E> Worked<B, E> {
    async fn get(self) -> GuardedResult<B, E> {
        match self {
            Self::Over(response) => Ok(response),
            Self::GoesOn(work) => work.await,
        }
    }
}

/// A guarded request before its claim.
pub(crate) struct GuardedRequest<S> {
    service: S,
    parts: Parts,
    context: RequestContext,
    /// As the client sent it, for the handler; it is not stored.
    idempotency_key: Option<IdempotencyKey>,
}

impl<S> GuardedRequest<S> {
    pub(crate) fn new(
        service: S,
        parts: Parts,
        context: RequestContext,
        idempotency_key: Option<IdempotencyKey>,
    ) -> Box<Self> {
        Box::new(Self { service, parts, context, idempotency_key })
    }

    pub(crate) fn refuse<B: Body>(&self, refusal: Refusal) -> Response<ResponseBody<B>> {
        self.context.refuse(refusal)
    }

    /// The rest of it is dropped. Not within the future: there it would take room.
    #[expect(clippy::boxed_local, reason = "taken out of its box elsewhere, it would be moved into the future first")]
    fn into_context(self: Box<Self>) -> RequestContext {
        let Self { context, .. } = *self;
        context
    }

    /// All that may not be left half done: from the claim to the stored response.
    ///
    /// If the store never waits, its reply is there when this returns, and a replay needs no
    /// future.
    pub(crate) fn work<ReqBody, ResBody>(self: Box<Self>, body: Content) -> Worked<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        ReqBody: Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        // After the upload, which a slow client may draw out, and before the
        // claim; held to the end, since this work outlives its client.
        let Ok(permit) = Arc::clone(&self.context.shared.policy.permits).try_acquire_owned() else {
            return Worked::Over(self.context.refuse(Refusal::Overloaded));
        };
        let now = Instant::now();
        if self.context.looks_first(now) {
            return Worked::GoesOn(Boxed::new(self.look_and_work(permit, body)));
        }
        let fingerprint = fingerprint(&self.parts, &body, &self.context.shared.policy.fingerprint);
        match self.context.claim(&self.parts, &fingerprint, &body, now) {
            Soon::Now(admission) => self.admitted(admission, fingerprint, body, permit),
            Soon::Later(claim) => Worked::GoesOn(Boxed::new(async move {
                let admission = claim.await;
                self.admitted(admission, fingerprint, body, permit).get().await
            })),
        }
    }

    /// The same for a request of which more has to be known before its claim.
    async fn look_and_work<ReqBody, ResBody>(
        mut self: Box<Self>,
        permit: OwnedSemaphorePermit,
        body: Content,
    ) -> GuardedResult<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        ReqBody: Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        if self.context.shared.engine.may_rest() {
            self.context.rest = Box::pin(self.context.rest_of(&self.parts)).await;
            if self.context.rest.as_ref().is_some_and(|rest| rest.intake == Intake::Closed) {
                return Ok(self.context.closed(0));
            }
        }
        let fingerprint = fingerprint(&self.parts, &body, &self.context.shared.policy.fingerprint);
        if self.context.seldom.is_some()
            && let Some(response) = Box::pin(self.context.too_old(&fingerprint)).await
        {
            return Ok(response);
        }
        if self.context.later.is_some()
            && let Some(response) = Box::pin(self.context.submit(&self.parts, &fingerprint, &body)).await
        {
            return Ok(response);
        }
        let admission = self.context.claim(&self.parts, &fingerprint, &body, Instant::now()).get().await;
        self.admitted(admission, fingerprint, body, permit).get().await
    }

    /// What follows from the reply to its claim.
    fn admitted<ReqBody, ResBody>(
        self: Box<Self>,
        admission: Result<Admission, StoreError>,
        fingerprint: Fingerprint,
        body: Content,
        permit: OwnedSemaphorePermit,
    ) -> Worked<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        ReqBody: Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        match admission {
            Ok(Admission::Granted(attempt, counted)) => {
                Worked::GoesOn(self.run(attempt, fingerprint, body, (permit, counted)))
            }
            Ok(Admission::Refused(Claimed::Busy(left), met)) => {
                let Some(patience) = self.context.patience(&self.parts.headers) else {
                    return Worked::Over(self.context.busy(left, met));
                };
                // What waits holds no body, and no place of those that run: a service that is
                // ready may hold one of a limit further in.
                drop((permit, body));
                let context = self.into_context();
                Worked::GoesOn(Boxed::new(async move { Ok(context.waited(fingerprint, patience, left, met).await) }))
            }
            Ok(Admission::Refused(claimed, met)) if self.context.seldom.is_some() => {
                Worked::GoesOn(Boxed::new(async move {
                    let _place = permit;
                    Ok(self.context.respond_as_hooked(claimed, met.attempt).await)
                }))
            }
            Ok(Admission::Refused(claimed, met)) => Worked::Over(self.context.respond(claimed, met.attempt)),
            Err(error) => Worked::Over(self.context.refuse(unavailable(&error))),
        }
    }

    /// Runs what a completer has claimed, within what this route allows.
    pub(crate) async fn run_granted<ReqBody, ResBody>(
        self: Box<Self>,
        work: GrantedClaim,
    ) -> GuardedResult<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        ReqBody: Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        let (attempt, shared) = (Arc::clone(&work.attempt), Arc::clone(&self.context.shared));
        let limits = shared.policy.background.as_ref().map_or((None, None), Background::limits);
        let tries = attempt.claimed().tries();
        if limits.1.is_some_and(|most| tries > most) {
            // The completer that claimed it ends it.
            attempt.park("", &tried(tries - 1));
            return Ok(self.context.refuse_of(attempt.number(), Refusal::OutcomeUnknown));
        }
        if attempt.lost().initialized() {
            // It took too long to get here: another holder may have the claim.
            return Ok(self.context.refuse_of(attempt.number(), Refusal::InProgress));
        }
        // Kept to the end of this, so that an event can still say what it was doing.
        let mut run = self.run(work.attempt, work.fingerprint, work.body, ());
        let Some(deadline) = limits.0 else { return run.await };
        match timeout(deadline, &mut run).await {
            Ok(response) => response,
            // Only its end is left, which takes no longer than a store may.
            Err(_) if attempt.has_ended() => run.await,
            Err(_) => {
                attempt.emit(|| EventKind::CutOff { steps: attempt.running() });
                attempt.explain(cut_off(&attempt, deadline));
                let reference = Reference { key: *attempt.key(), attempt: attempt.number() };
                Ok(shared.policy.problems.refuse_for(Refusal::Interrupted, Duration::ZERO, Some(reference)))
            }
        }
    }

    /// Boxed: it is large, and would be moved from hand to hand. Holds on to `held` to its end.
    fn run<ReqBody, ResBody>(
        self: Box<Self>,
        attempt: Arc<Attempt>,
        fingerprint: Fingerprint,
        body: Content,
        held: impl Send + 'static,
    ) -> Boxed<GuardedResult<ResBody, S::Error>>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        ReqBody: Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
        ResBody::Error: Send,
    {
        let (claimed, method) = (Arc::clone(&attempt), self.parts.method.clone());
        let work = self.serve(attempt, fingerprint, body, held);
        Boxed::new(span::attempt(claimed.key(), claimed.claimed(), Some(&method), work))
    }

    async fn serve<ReqBody, ResBody>(
        self: Box<Self>,
        attempt: Arc<Attempt>,
        fingerprint: Fingerprint,
        body: Content,
        _held: impl Send,
    ) -> GuardedResult<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
        ResBody: Body<Data = Bytes>,
    {
        let Self { mut service, parts, context, idempotency_key } = *self;
        // Those that wait hear of its end, whatever that is. Boxed: it is seldom.
        let is_awaitable = context.shared.policy.wait.is_some();
        let _holding = is_awaitable.then(|| Box::new(context.shared.engine.waiting().hold(context.key)));
        let is_post = parts.method == Method::POST;
        let operation = Operation::new(Arc::clone(&attempt), idempotency_key);
        let request = of_operation(parts, &operation, body);
        let (context, policy, claimed) = (&context, &context.shared.policy, &attempt);
        let run = under_lease(&attempt, async move {
            let (mut parts, body) = service.call(request).await?.into_parts();
            // Said of this record, as an outcome is.
            let is_stream = parts.extensions.remove::<Streaming>().is_some();
            let Read { body, content } = if parts.status.is_informational() {
                // A switch of protocols (101) has begun something that can't be given twice.
                Read { body: ResponseBody::inner(body), content: Err(NotRetained::Streamed) }
            } else if is_stream {
                unread(body, NotRetained::Streamed)
            } else {
                let patience = patience(&parts.headers, policy.stream_after);
                read(&parts, body, policy.response_limit, patience).await
            };
            let outcome = context.outcome(claimed, is_post, &mut parts, &content);
            let undone = if operation.can_undo() && !context.has_no_route(claimed, &parts, &content) {
                let said = Outcome::is_said_final(&parts.extensions);
                Box::pin(operation.undo(context.failure(outcome, &parts, &content), said)).await
            } else {
                Undone::AsItIs
            };
            Ok(Answered { parts, body, content, outcome, undone })
        });
        let run = run.await;
        if let Some(stored) = attempt.completed() {
            attempt.emit_late_doubt();
            return Ok(context.stored(stored, attempt.number()));
        }
        match run {
            Ok(Ok(answered)) => Ok(context.record(&attempt, fingerprint, answered).await),
            Ok(Err(error)) => {
                Box::pin(release(&attempt, "the handler's service failed, and gave no response")).await;
                Err(error)
            }
            Err(_panicked) => {
                attempt.emit(|| EventKind::Panicked);
                Ok(match Box::pin(release(&attempt, PANICKED)).await {
                    End::Lost(found) => context.lost(&attempt, &fingerprint, found),
                    End::Parked => context.refuse_of(attempt.number(), Refusal::OutcomeUnknown),
                    _ if policy.mode == Mode::Resumable => context.interrupted(&attempt).await,
                    _ => context.refuse_of(attempt.number(), Refusal::OutcomeUnknown),
                })
            }
        }
    }
}

impl RequestContext {
    /// Whether something has to be known of it before its claim.
    fn looks_first(&self, now: Instant) -> bool {
        self.seldom.is_some() || self.later.is_some() || self.shared.engine.may_rest_at(now)
    }

    fn claim(
        &self,
        parts: &Parts,
        fingerprint: &Fingerprint,
        body: &Content,
        now: Instant,
    ) -> Soon<impl Future<Output = Result<Admission, StoreError>> + Send + use<>> {
        let (policy, lease) = (&self.shared.policy, self.shared.engine.limits().lease);
        // Kept only where a completer may have to run it again.
        let request = (policy.mode == Mode::Resumable).then(|| self.request_to_store(parts, body)).flatten();
        let (fingerprint, mode, labels) = (fingerprint.clone(), policy.mode, self.labels());
        let command = Claim { fingerprint, mode, lease, request, labels };
        let engine = &self.shared.engine;
        // What a handler asks of another one belongs to what runs.
        let belongs = || parts.extensions.get::<Operation>().map(|_| engine.go_on());
        let counted = engine.draining().begin().or_else(belongs);
        claim(engine, self.key, command, counted, self.rest.as_deref(), now)
    }
}

/// The request, as the handler gets it.
fn of_operation<B>(mut parts: Parts, operation: &Operation, body: Content) -> Request<RequestBody<B>> {
    parts.extensions.insert(operation.clone());
    Request::from_parts(parts, RequestBody::read(body))
}
