//! What the client gets in the handler's place.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Response};
use http_body::Body;

use super::RequestContext;
use crate::core::{Claimed, Fingerprint, Intake, Record, Reference, Rest, StoredResponse, Work};
use crate::engine::attempt::Attempt;
use crate::engine::claim::{Met, superseding_response};
use crate::engine::operation::Operation;
use crate::http::body::ResponseBody;
use crate::http::extract::original_uri;
use crate::http::header::EXPIRES_IN;
use crate::http::problem::restore;
use crate::store::{StoreError, StoreErrorKind};
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;

impl RequestContext {
    /// Where no attempt is known.
    pub(crate) fn refuse<B: Body>(&self, refusal: Refusal) -> Response<ResponseBody<B>> {
        self.refuse_of(0, refusal)
    }

    /// Because of this attempt; 0 if none is known.
    pub(super) fn refuse_of<B: Body>(&self, attempt: u32, refusal: Refusal) -> Response<ResponseBody<B>> {
        self.refuse_for(attempt, refusal, Duration::ZERO)
    }

    /// The same, where something will change in that time.
    fn refuse_for<B: Body>(&self, attempt: u32, refusal: Refusal, time: Duration) -> Response<ResponseBody<B>> {
        let reference = self.reference(attempt);
        self.shared.engine.emit_of(reference, || EventKind::Refused { refusal });
        self.shared.policy.problems.refuse_for(refusal, time, Some(reference))
    }

    const fn reference(&self, attempt: u32) -> Reference {
        Reference { key: self.key, attempt }
    }

    /// The attempt is over, and the next one goes on after a rest.
    pub(super) async fn interrupted<B: Body>(&self, attempt: &Attempt) -> Response<ResponseBody<B>> {
        self.refuse_for(attempt.number(), Refusal::Interrupted, attempt.retry_in().await)
    }

    /// The operation runs in an attempt whose lease has so much left.
    ///
    /// It pays to ask again after about as long as it has taken so far. But a holder that
    /// is alive writes each third of its lease; of one that has said nothing for longer,
    /// nothing comes before its end.
    pub(super) fn busy<B: Body>(&self, left: Duration, met: Met) -> Response<ResponseBody<B>> {
        let is_overdue = left < self.shared.engine.limits().lease / 2;
        self.refuse_for(met.attempt, Refusal::InProgress, if is_overdue { left } else { retry_after(met.age) })
    }

    /// What the client of work gets that does not count: what is on
    /// record instead, or what it stored itself before its end.
    pub(super) fn lost<B: Body>(
        &self,
        attempt: &Attempt,
        fingerprint: &Fingerprint,
        found: Option<Record>,
    ) -> Response<ResponseBody<B>> {
        match attempt.completed() {
            Some(stored) => self.stored(stored, attempt.number()),
            None => {
                let on_record = found.as_ref().map_or_else(|| attempt.number(), Record::attempts);
                self.respond(superseding_response(fingerprint, found), on_record)
            }
        }
    }

    fn replay<B: Body>(
        &self,
        stored: &StoredResponse,
        left: Option<Duration>,
        attempt: u32,
    ) -> Response<ResponseBody<B>> {
        if stored.not_retained().is_none() {
            self.shared.engine.emit(&self.key, || EventKind::Replayed);
        }
        self.telling(left, self.restore(stored, true, attempt))
    }

    /// Says how much longer retries get this response, where the layer tells.
    pub(super) fn telling<B: Body>(
        &self,
        left: Option<Duration>,
        mut response: Response<ResponseBody<B>>,
    ) -> Response<ResponseBody<B>> {
        if self.shared.policy.words.expiry
            && let Some(left) = left
        {
            response.headers_mut().insert(EXPIRES_IN, HeaderValue::from(left.as_secs()));
        }
        response
    }

    /// A response that counts in the place of the one that the handler gave: it
    /// stored that itself, or an earlier attempt did.
    pub(super) fn stored<B: Body>(&self, stored: &StoredResponse, attempt: u32) -> Response<ResponseBody<B>> {
        self.restore(stored, false, attempt)
    }

    fn restore<B: Body>(&self, stored: &StoredResponse, is_replay: bool, attempt: u32) -> Response<ResponseBody<B>> {
        let Some(why) = stored.not_retained() else {
            return restore(stored, &self.shared.policy.words.replayed, is_replay);
        };
        let (refusal, reference) = (Refusal::NotRetained, self.reference(attempt));
        self.shared.engine.emit_of(reference, || EventKind::Refused { refusal });
        self.shared.policy.problems.not_retained(stored, why, reference)
    }

    /// What a claim got that met this attempt, the last on record; 0 if there is none.
    pub(crate) fn respond<B: Body>(&self, claimed: Claimed, attempt: u32) -> Response<ResponseBody<B>> {
        match claimed {
            Claimed::Replay(stored, left) => self.replay(&stored, left, attempt),
            Claimed::Mismatch => self.refuse_of(attempt, Refusal::KeyReused),
            Claimed::Busy(_) | Claimed::Granted(_) => self.refuse_of(attempt, Refusal::InProgress),
            Claimed::Unknown { .. } => self.refuse_of(attempt, Refusal::OutcomeUnknown),
            Claimed::Closed => self.closed(attempt),
        }
    }

    /// It may not begin, here or anywhere.
    pub(super) fn closed<B: Body>(&self, attempt: u32) -> Response<ResponseBody<B>> {
        let (engine, reference) = (&self.shared.engine, self.reference(attempt));
        let Some(rest) = self.rest.as_ref().filter(|_| !engine.is_draining()) else {
            return self.refuse_of(attempt, Refusal::Draining);
        };
        engine.emit_of(reference, || EventKind::Refused { refusal: Refusal::Maintenance });
        self.shared.policy.problems.maintenance(&rest.notice, Some(reference))
    }

    /// The maintenance window that covers a request. What a handler asks of another one belongs
    /// to what runs, which may finish until the window begins.
    pub(super) async fn rest_of(&self, parts: &Parts) -> Option<Box<Rest>> {
        let scope = self.shared.scope_of(parts).ok();
        let work = Work::Operation { route: Some(original_uri(parts).path()), scope: scope.as_deref() };
        let rest = self.shared.engine.rest_of(work).await?;
        let is_part_of_what_runs = parts.extensions.get::<Operation>().is_some();
        let may_go_on = is_part_of_what_runs && rest.intake == Intake::OnRecord;
        (!may_go_on).then(|| Box::new(rest))
    }
}

/// 1, 2, 4 … seconds, and never more than 30: the largest that is not above the age.
fn retry_after(age: Duration) -> Duration {
    const LONGEST: u64 = 30;
    let seconds = age.as_secs().max(1);
    Duration::from_secs((1 << seconds.ilog2()).min(LONGEST))
}

pub(crate) fn unavailable(error: &StoreError) -> Refusal {
    match error.kind() {
        StoreErrorKind::Unavailable
        | StoreErrorKind::Full
        | StoreErrorKind::Undecryptable
        | StoreErrorKind::NotIndexed => Refusal::StoreUnavailable,
        StoreErrorKind::Corrupt => Refusal::RecordCorrupt,
        StoreErrorKind::NewerFormat => Refusal::RecordNewer,
    }
}
