//! Accepting a request for later: the only code of the background that is on a
//! request's path.

use http::Response;
use http::request::Parts;
use http_body::Body;

use crate::core::{Claimed, Exchange, Fence, Fingerprint, Intake, Record, Submit, Submitted};
use crate::engine::claim::withdraw_claim;
use crate::engine::content::Content;
use crate::engine::drain::intake;
use crate::engine::handoff::WorkerSlot;
use crate::engine::outage::Calls;
use crate::http::body::ResponseBody;
use crate::http::guarded::RequestContext;
use crate::http::guarded::respond::unavailable;
use crate::http::problem::accepted;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;
use crate::util::nonce::fresh_nonce;

impl RequestContext {
    /// Accepts the request for later; the response, unless it is to be run now. It is, if it
    /// can't be stored.
    pub(crate) async fn submit<B: Body>(
        &self,
        parts: &Parts,
        fingerprint: &Fingerprint,
        body: &Content,
    ) -> Option<Response<ResponseBody<B>>> {
        let (policy, engine) = (&self.shared.policy, &self.shared.engine);
        let (later, background) = (self.later.as_ref()?, policy.background.as_ref()?);
        let place = &later.place;
        let request = self.request_to_store(parts, body)?;
        // Held until it is stored; a completer that takes it counts it anew.
        let counted = engine.draining().begin();
        let slot = counted.as_ref().and_then(|_| self.shared.handoff.slot(later.scope));
        let room = slot.is_some() || counted.is_some() && background.queue.has_room(engine, later.scope).await;
        let lease = slot.as_ref().map(WorkerSlot::lease);
        let (fingerprint, mode, labels) = (fingerprint.clone(), policy.mode, self.labels());
        let command = Submit { fingerprint, mode, request, labels, room, lease, outgoing: false };
        let (submitted, attempt) =
            match self.store_submission(command, slot, intake(counted.as_ref(), self.rest.as_deref())).await {
                Ok(submitted) => submitted,
                Err(error) => {
                    engine.store_failed(Some(&self.key), Calls::Writes, &error);
                    return Some(self.refuse(unavailable(&error)));
                }
            };
        Some(match submitted {
            Submitted::First(Some(_)) | Submitted::Again => accepted(place, background.retry_in()),
            Submitted::First(None) => {
                background.queue.add(engine, self.key, later.scope);
                engine.emit(&self.key, || EventKind::Accepted);
                engine.accepted().put(self.key);
                accepted(place, background.retry_in())
            }
            Submitted::Replay(stored, left) => self.respond_as_hooked(Claimed::Replay(stored, left), attempt).await,
            Submitted::Mismatch => self.respond(Claimed::Mismatch, attempt),
            Submitted::Unknown { parked } => self.respond(Claimed::Unknown { parked }, attempt),
            Submitted::Closed => self.respond(Claimed::Closed, attempt),
            Submitted::Full => self.refuse(Refusal::Overloaded),
            Submitted::CallerOnly => return None,
        })
    }

    /// Where a completer of this process has room for it, that completer gets the claim. With
    /// the attempt that is on record.
    async fn store_submission(
        &self,
        submit: Submit,
        slot: Option<WorkerSlot>,
        intake: Intake,
    ) -> Result<(Submitted, u32), StoreError> {
        let engine = &self.shared.engine;
        let (lease, in_hand) = (submit.lease, engine.in_hand().has(&self.key));
        let exchange = Exchange::guessing(submit, fresh_nonce(), None).in_hand(in_hand).taking(intake);
        let mut exchange = engine.with_metadata(exchange);
        if let Err(error) = engine.drive(&self.key, &mut exchange).await {
            if let Some(lease) = lease {
                // Perhaps it was granted; nothing has run, so that others may.
                withdraw_claim(engine, self.key, Fence::of(exchange.nonce()), lease);
            }
            return Err(error);
        }
        let Some(done) = exchange.finish() else { return Err(StoreError::timed_out()) };
        let attempt = done.record.as_ref().map_or(0, Record::attempts);
        if let (Submitted::First(Some(fence)), Some(record), Some(slot)) = (&done.output, done.record, slot) {
            engine.emit(&self.key, || EventKind::Accepted);
            slot.drive(self.key, *fence, record);
        }
        Ok((done.output, attempt))
    }
}
