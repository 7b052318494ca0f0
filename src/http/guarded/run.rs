//! Runs a guarded request: claims, calls the handler, records its response.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body::Body;
use tokio::time::timeout;
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
use crate::engine::waiting::Ended;
use crate::http::background::Background;
use crate::http::body::{Read, RequestBody, ResponseBody, read, unread};
use crate::http::streaming::{Streaming, patience};
use crate::http::target::fingerprint;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;
use crate::telemetry::span;

/// What the client gets, or the error of the inner service.
type GuardedResult<B, E> = Result<Response<ResponseBody<B>>, E>;

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
    /// A replay never gets to the second half, which is why that has a box of
    /// its own.
    pub(crate) async fn work<ReqBody, ResBody>(mut self: Box<Self>, body: Content) -> GuardedResult<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
        ResBody: Body<Data = Bytes>,
    {
        // After the upload, which a slow client may draw out, and before the
        // claim; held to the end, since this work outlives its client.
        let shared = Arc::clone(&self.context.shared);
        let Ok(permit) = shared.policy.permits.try_acquire() else {
            return Ok(self.context.refuse(Refusal::Overloaded));
        };
        if shared.engine.may_rest() {
            self.context.rest = Box::pin(self.context.rest_of(&self.parts)).await;
            if self.context.rest.as_ref().is_some_and(|rest| rest.intake == Intake::Closed) {
                return Ok(self.context.closed(0));
            }
        }
        let fingerprint = fingerprint(&self.parts, &body, &shared.policy.fingerprint);
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
        match self.context.claim(&self.parts, &fingerprint, &body).await {
            Ok(Admission::Granted(attempt, _counted)) => self.run(attempt, fingerprint, body).await,
            Ok(Admission::Refused(Claimed::Busy(left), met)) => {
                let Some(patience) = self.context.patience(&self.parts.headers) else {
                    return Ok(self.context.busy(left, met));
                };
                // What waits holds no body, and no place of those that run: a service that is
                // ready may hold one of a limit further in.
                let context = self.into_context();
                drop((permit, body));
                let ended = Box::pin(context.wait(&fingerprint, patience, met)).await;
                Ok(match ended {
                    None => context.busy(left, met),
                    Some(Ended { claimed, attempt, .. }) if context.seldom.is_some() => {
                        Box::pin(context.respond_as_hooked(claimed, attempt)).await
                    }
                    Some(Ended { claimed, attempt, .. }) => context.respond(claimed, attempt),
                })
            }
            Ok(Admission::Refused(claimed, met)) if self.context.seldom.is_some() => {
                Ok(Box::pin(self.context.respond_as_hooked(claimed, met.attempt)).await)
            }
            Ok(Admission::Refused(claimed, met)) => Ok(self.context.respond(claimed, met.attempt)),
            Err(error) => Ok(self.context.refuse(unavailable(&error))),
        }
    }

    /// Runs what a completer has claimed, within what this route allows.
    pub(crate) async fn run_granted<ReqBody, ResBody>(
        self: Box<Self>,
        work: GrantedClaim,
    ) -> GuardedResult<ResBody, S::Error>
    where
        S: Service<Request<RequestBody<ReqBody>>, Response = Response<ResBody>>,
        ResBody: Body<Data = Bytes>,
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
        let mut run = self.run(work.attempt, work.fingerprint, work.body);
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

    /// Boxed: it is large, and would be moved from hand to hand.
    fn run<ReqBody, ResBody>(
        self: Box<Self>,
        attempt: Arc<Attempt>,
        fingerprint: Fingerprint,
        body: Content,
    ) -> Pin<Box<impl Future<Output = GuardedResult<ResBody, S::Error>>>>
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
        let context = &context;
        let (policy, claimed) = (&context.shared.policy, &attempt);
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
    fn claim<'a>(
        &'a self,
        parts: &Parts,
        fingerprint: &Fingerprint,
        body: &Content,
    ) -> impl Future<Output = Result<Admission, StoreError>> + Send + use<'a> {
        let (policy, lease) = (&self.shared.policy, self.shared.engine.limits().lease);
        // Kept only where a completer may have to run it again.
        let request = (policy.mode == Mode::Resumable).then(|| self.request_to_store(parts, body)).flatten();
        let (fingerprint, mode, labels) = (fingerprint.clone(), policy.mode, self.labels());
        let command = Claim { fingerprint, mode, lease, request, labels };
        let engine = &self.shared.engine;
        // What a handler asks of another one belongs to what runs.
        let belongs = || parts.extensions.get::<Operation>().map(|_| engine.go_on());
        let counted = engine.draining().begin().or_else(belongs);
        claim(engine, self.key, command, counted, self.rest.as_deref())
    }
}

/// The request, as the handler gets it.
fn of_operation<B>(mut parts: Parts, operation: &Operation, body: Content) -> Request<RequestBody<B>> {
    parts.extensions.insert(operation.clone());
    Request::from_parts(parts, RequestBody::read(body))
}
