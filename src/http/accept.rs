//! Accepting a request for later: the only code of the background that is on a
//! request's path.

use std::sync::Arc;

use http::Response;
use http::request::Parts;
use http_body::Body;

use crate::core::{Claimed, Exchange, Fence, Fingerprint, Submit, SubmitHere, Submitted};
use crate::engine::claim::withdraw_claim;
use crate::engine::content::Content;
use crate::engine::handoff::WorkerSlot;
use crate::http::body::ResponseBody;
use crate::http::guarded::RequestContext;
use crate::http::guarded::answer::unavailable;
use crate::http::problem::accepted;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;
use crate::util::nonce::fresh_nonce;

impl RequestContext {
    /// Accepts the request for later; the answer, unless it is to be run now. It is, if it
    /// can't be stored.
    pub(crate) async fn submit<B: Body>(
        &self,
        parts: &Parts,
        fingerprint: &Fingerprint,
        body: &Content,
    ) -> Option<Response<ResponseBody<B>>> {
        let (policy, engine) = (&self.shared.policy, &self.shared.engine);
        let (place, background) = (self.later.as_ref()?, policy.background.as_ref()?);
        let request = Arc::new(self.shared.stored_request(parts, body)?);
        let slot = self.shared.handoff.slot();
        let room = slot.is_some() || background.queue.has_room(engine).await;
        let command = Submit { fingerprint: fingerprint.clone(), mode: policy.mode, request, room };
        let here = slot.is_some();
        let submitted = match slot {
            Some(slot) => self.submit_here(command, slot).await,
            None => engine.apply(&self.key, None, command).await.map(|done| done.output),
        };
        let submitted = match submitted {
            Ok(submitted) => submitted,
            Err(error) => {
                engine.emit(&self.key, || EventKind::StoreFailed { error: error.clone() });
                return Some(self.refuse(unavailable(&error)));
            }
        };
        Some(match submitted {
            // Its lease is over, and it goes on here all the same.
            Submitted::Unknown { parked: None } if engine.in_hand().has(&self.key) => {
                accepted(place, background.retry_in())
            }
            Submitted::First if here => accepted(place, background.retry_in()),
            Submitted::First => {
                background.queue.add();
                engine.emit(&self.key, || EventKind::Accepted);
                engine.accepted().put(self.key);
                accepted(place, background.retry_in())
            }
            Submitted::Again => accepted(place, background.retry_in()),
            Submitted::Replay(stored, until) => self.answer(Claimed::Replay(stored, until)),
            Submitted::Mismatch => self.answer(Claimed::Mismatch),
            Submitted::Unknown { parked } => self.answer(Claimed::Unknown { parked }),
            Submitted::Full => self.refuse(Refusal::Overloaded),
            Submitted::CallerOnly => return None,
        })
    }

    /// Accepts it and claims it in one write, for a completer of this process that
    /// has room.
    async fn submit_here(&self, submit: Submit, slot: WorkerSlot) -> Result<Submitted, StoreError> {
        let (engine, lease) = (&self.shared.engine, slot.lease());
        let mut exchange = engine.with_metadata(Exchange::guessing(SubmitHere { submit, lease }, fresh_nonce(), None));
        if let Err(error) = engine.drive(&self.key, &mut exchange).await {
            // Perhaps it was granted; nothing has run, so that others may.
            withdraw_claim(engine, self.key, Fence::of(exchange.nonce()), lease);
            return Err(error);
        }
        let Some(done) = exchange.finish() else { return Err(StoreError::timed_out()) };
        let (submitted, fence) = done.output;
        if let Some((fence, record)) = fence.zip(done.record) {
            engine.emit(&self.key, || EventKind::Accepted);
            slot.drive(self.key, fence, record);
        }
        Ok(submitted)
    }
}
