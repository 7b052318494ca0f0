//! A request from its claim to its answer.
//!
//! Here is what it needs for that, and how its answer is recorded. `admit` decides
//! whether it is guarded, `run` runs it, `undo` sees to a failure for good, `answer` has
//! what is answered in the handler's place.

pub(crate) mod admit;
pub(crate) mod answer;
pub(crate) mod run;
mod undo;

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Body;

use crate::core::{Change, Claim, Fingerprint, Key, Mode, NotRetained, StoredRequest, StoredResponse};
use crate::engine::Engine;
use crate::engine::attempt::{Attempt, End};
use crate::engine::claim::{Admission, claim};
use crate::engine::content::Content;
use crate::engine::handoff::Handoff;
use crate::engine::operation::Undone;
use crate::engine::outcome::Outcome;
use crate::http::body::ResponseBody;
use crate::http::extract::original_uri;
use crate::http::policy::Policy;
use crate::http::problem::first;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;

/// What all clones of a service share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) policy: Policy,
    /// Where a completer of this process takes work that is accepted.
    pub(crate) handoff: Arc<Handoff>,
}

/// What a guarded request needs from its claim to its answer.
pub(crate) struct RequestContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: Key,
    /// Where to ask for its answer, if it is to be run in the background.
    pub(crate) later: Option<HeaderValue>,
    /// A completer runs it, and not its client.
    pub(crate) is_driven: bool,
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
        let (uri, keyless) = (original_uri(parts), self.policy.coverage.without_keys(&parts.headers));
        let headers = keyless.as_ref().unwrap_or(&parts.headers);
        StoredRequest::keep(&parts.method, uri, headers, bytes, trailers, |name| self.tell_dropped(name))
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
        if !self.policy.coverage.is_key(name) {
            self.policy.dropped.tell(&self.engine, name);
        }
    }
}

impl RequestContext {
    fn claim<'a>(
        &'a self,
        parts: &Parts,
        fingerprint: Fingerprint,
        body: &Content,
    ) -> impl Future<Output = Result<Admission, StoreError>> + Send + use<'a> {
        let (policy, limits) = (&self.shared.policy, self.shared.engine.limits());
        // Kept only where a completer may have to run it again.
        let request = (policy.mode == Mode::Resumable).then(|| Arc::new(self.shared.stored_request(parts, body)));
        let command = Claim { fingerprint, mode: policy.mode, lease: limits.lease, request };
        claim(&self.shared.engine, self.key, command, limits)
    }

    /// Stores the handler's answer, and says what the client gets: that
    /// answer, unless another holder took over.
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
