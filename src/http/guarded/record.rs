//! How a handler's response counts, and how the attempt records it; what it undoes before, if
//! the operation failed for good.

use std::sync::Arc;

use http::{Response, StatusCode};
use http_body::Body;

use super::RequestContext;
use super::reason::reason;
use crate::core::{Change, Claimed, Fingerprint, Mode, NotRetained, StoredResponse, judged};
use crate::engine::attempt::{Attempt, End};
use crate::engine::content::Content;
use crate::engine::operation::Undone;
use crate::engine::outcome::Outcome;
use crate::engine::outcomes::HandlerResponse;
use crate::engine::waiting::Ended;
use crate::http::body::ResponseBody;
use crate::http::policy::{Policy, says_no_route};
use crate::http::problem::first;
use crate::http::retry_advice::may_help;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;

/// The status by which a response is judged.
fn status_of(parts: &http::response::Parts, content: &Result<Content, NotRetained>) -> StatusCode {
    let trailers = content.as_ref().ok().and_then(|content| content.trailers.as_deref());
    judged(parts.status, &parts.headers, trailers.into_iter().flatten())
}

/// The handler's response, and how it counts.
pub(super) struct Answered<B: Body> {
    pub(super) parts: http::response::Parts,
    pub(super) body: ResponseBody<B>,
    pub(super) content: Result<Content, NotRetained>,
    pub(super) outcome: Outcome,
    pub(super) undone: Undone,
}

/// Ends the attempt for this reason.
pub(super) async fn release(attempt: &Arc<Attempt>, why: &str) -> End {
    attempt.explain(why.to_owned());
    let end = attempt.end(Change::Release).await;
    attempt.emit_end(&end, false);
    end
}

impl RequestContext {
    /// How the handler's response counts; its head says whether a retry may help, if the
    /// layer is set so.
    pub(super) fn outcome(
        &self,
        attempt: &Attempt,
        is_post: bool,
        parts: &mut http::response::Parts,
        content: &Result<Content, NotRetained>,
    ) -> Outcome {
        let outcome = self.counts_as(attempt, is_post, parts, content);
        let Policy { problems, mode, .. } = &self.shared.policy;
        if let Some(advice) = &problems.advice
            && let Some(may_help) = may_help(outcome, *mode, parts.status)
        {
            advice.tell(&mut parts.headers, may_help);
        }
        outcome
    }

    fn counts_as(
        &self,
        attempt: &Attempt,
        is_post: bool,
        parts: &http::response::Parts,
        content: &Result<Content, NotRetained>,
    ) -> Outcome {
        let status = status_of(parts, content);
        let incomplete = matches!(content, Err(NotRetained::Incomplete));
        let withdraw = attempt.nothing_happened().then_some(Outcome::NothingHappened);
        let said = parts.extensions.get::<Outcome>().copied().or(withdraw);
        let no_route = self.has_no_route(attempt, parts, content);
        if no_route {
            attempt.emit(|| EventKind::NoRoute { status: status.as_u16() });
        }
        let policy = &self.shared.policy;
        let response = HandlerResponse { mode: policy.mode, status, headers: &parts.headers, is_post, attempt };
        match policy.outcomes.decide(&response, said) {
            // Another release may have it.
            Outcome::Final if no_route => Outcome::Retryable,
            // The steps are done and the next attempt can make its response from
            // them; without steps this is all there will ever be.
            Outcome::Final if policy.mode == Mode::Resumable && incomplete => Outcome::Retryable,
            outcome => outcome,
        }
    }

    /// Whether it was driven to where there is no route for it, as far as can be
    /// seen. A client that comes here itself gets that response, as without the layer.
    pub(super) fn has_no_route(
        &self,
        attempt: &Attempt,
        parts: &http::response::Parts,
        content: &Result<Content, NotRetained>,
    ) -> bool {
        let said = attempt.nothing_happened() || parts.extensions.get::<Outcome>().is_some();
        self.is_driven && !said && !attempt.is_at_work() && says_no_route(status_of(parts, content))
    }

    /// The response, if the operation fails for good with it.
    pub(super) fn failure(
        &self,
        outcome: Outcome,
        parts: &http::response::Parts,
        content: &Result<Content, NotRetained>,
    ) -> Option<StoredResponse> {
        let status = status_of(parts, content);
        let error = status.is_client_error() || status.is_server_error();
        if self.shared.policy.mode != Mode::Resumable || outcome != Outcome::Final || !error {
            return None;
        }
        Some(self.shared.stored_response(parts, content.clone()))
    }

    /// What the client gets when the handler's response does not count; `None`
    /// if it does.
    pub(super) async fn after_undo<B: Body>(
        &self,
        attempt: &Arc<Attempt>,
        fingerprint: &Fingerprint,
        undone: Undone,
    ) -> Option<Response<ResponseBody<B>>> {
        let (end, response) = match undone {
            Undone::AsItIs => return None,
            Undone::NotYet => (release(attempt, "it failed for good, and is not undone yet").await, None),
            Undone::Earlier(response) => {
                let end = attempt.end(attempt.complete_undone(Arc::clone(&response))).await;
                if matches!(end, End::Stored) {
                    let (status, retained) = (response.status().as_u16(), response.body().is_some());
                    attempt.emit(|| EventKind::Completed { status, retained });
                } else {
                    attempt.emit_end(&end, false);
                }
                (end, Some(response))
            }
        };
        Some(match (end, response) {
            (End::Lost(found), _) => self.lost(attempt, fingerprint, found),
            (End::Parked, _) => self.refuse_of(attempt.number(), Refusal::OutcomeUnknown),
            (_, None) => self.interrupted(attempt).await,
            (_, Some(stored)) => self.stored(&stored, attempt.number()),
        })
    }

    /// Stores the handler's response, and returns what the client gets: that
    /// response, unless another holder took over.
    pub(super) async fn record<B: Body>(
        &self,
        attempt: &Arc<Attempt>,
        fingerprint: Fingerprint,
        answered: Answered<B>,
    ) -> Response<ResponseBody<B>> {
        let Answered { parts, body, content, outcome, undone } = answered;
        // Boxed, as it is seldom.
        if !matches!(undone, Undone::AsItIs)
            && let Some(response) = Box::pin(self.after_undo(attempt, &fingerprint, undone)).await
        {
            return response;
        }
        let status = parts.status.as_u16();
        let is_final = outcome == Outcome::Final;
        if !is_final {
            attempt.explain(reason(&parts, &content));
        }
        let is_awaited = self.shared.engine.waiting().is_awaited(&self.key);
        // What can't be given again is for those that wait only if it is on record.
        let is_kept = is_final || is_awaited && content.is_ok();
        let stored = is_kept.then(|| Arc::new(self.shared.stored_response(&parts, content)));
        // By what is stored: a hook may have taken the body away.
        let lost = stored.as_ref().and_then(|stored| stored.not_retained());
        let awaited = stored.clone().filter(|_| is_awaited && (is_final || lost.is_none()));
        // Made before it is waited for: what is moved into a future is copied.
        let change = match (outcome, stored) {
            (Outcome::Final, Some(stored)) => attempt.complete(stored, &parts.extensions),
            (Outcome::NothingHappened, _) => Change::Withdraw,
            _ => Change::Release,
        };
        let retention = if let Change::Complete { retention, .. } = &change { Some(*retention) } else { None };
        let end = attempt.end(change).await;
        match &end {
            End::Stored if is_final => attempt.emit(|| EventKind::Completed { status, retained: lost.is_none() }),
            _ => attempt.emit_end(&end, outcome == Outcome::NothingHappened),
        }
        match end {
            End::Lost(found) => self.lost(attempt, &fingerprint, found),
            End::Parked => self.refuse_of(attempt.number(), Refusal::OutcomeUnknown),
            End::Stored | End::Unsaved(_) => {
                let left = retention.filter(|_| matches!(end, End::Stored));
                if let Some(response) = awaited {
                    let claimed = Claimed::Replay(response, left);
                    let ended = Ended { fingerprint, claimed, attempt: attempt.number() };
                    self.shared.engine.waiting().end(&self.key, ended);
                }
                let mark = &self.shared.policy.words.replayed.name;
                self.telling(left, first(parts, body, lost.filter(|_| is_final), mark))
            }
        }
    }
}
