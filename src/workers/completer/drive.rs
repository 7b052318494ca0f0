//! Finishing one operation.

use std::pin::pin;
use std::sync::Arc;

use http::{Request, StatusCode};
use tokio::time::{Instant, timeout};

use super::calls::Calls;
use super::place::Place;
use super::report::Disposition;
use super::round::QUARANTINE;
use super::wiring::Way;
use super::{Completer, Doubt};
use crate::core::{
    Change, Exchange, Fence, Hold, Key, Mode, Record, Reference, Reply, Resolution, Resolve, Resumed, Status,
    StoredRequest, StoredResponse,
};
use crate::engine::attempt::Attempt;
use crate::engine::attempt::reason::{PANICKED, cut_off, no_route};
use crate::engine::claim::{under_lease, withdraw_claim};
use crate::engine::content::Content;
use crate::engine::handoff::{ClaimHandoff, GrantedClaim};
use crate::engine::limits::Limits;
use crate::engine::operation::Reconciled;
use crate::http::policy::says_no_route;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::util::detached::CatchPanic;
use crate::util::nonce::fresh_nonce;

/// How far one look at an operation got.
enum Progress {
    Settled(Disposition),
    /// Its scope holds too many slots.
    HeldBack,
    /// It ended, and its callback is to be made.
    CallbackPending(Box<Record>),
}

impl Completer {
    /// What became of it, and of its callback, which is not made in its slot.
    pub(super) async fn finish(&self, key: Key, mut place: Place, calls: Calls) -> [Option<Disposition>; 2] {
        let (did, went) = match self.go_on(key, &mut place).await {
            Progress::HeldBack => return [Some(Disposition::HeldBack), None],
            Progress::Settled(did) if !(did.is_end() && self.shared.policy.callback.is_some()) => {
                return [Some(did), None];
            }
            Progress::Settled(did) => (Some(did), self.go_on(key, &mut place).await),
            owes @ Progress::CallbackPending(_) => (None, owes),
        };
        drop(place);
        let told = match went {
            Progress::CallbackPending(record) => self.deliver(key, *record, &calls).await,
            Progress::Settled(again) => again,
            Progress::HeldBack => Disposition::HeldBack,
        };
        [did, Some(told).filter(|told| did.is_none() || *told != Disposition::Skipped)]
    }

    async fn go_on(&self, key: Key, place: &mut Place) -> Progress {
        self.resume(key, place).await.unwrap_or_else(|error| Progress::Settled(self.failed(key, error)))
    }

    pub(super) fn failed(&self, key: Key, error: StoreError) -> Disposition {
        if !error.is_unreadable() {
            return Disposition::Failed;
        }
        self.quarantine(key, QUARANTINE);
        self.shared.engine.emit(&key, || EventKind::Unreadable { error });
        Disposition::Unreadable
    }

    async fn resume(&self, key: Key, place: &mut Place) -> Result<Progress, StoreError> {
        let engine = &self.shared.engine;
        let in_hand = engine.in_hand().has(&key);
        if in_hand {
            // Otherwise rounds would meet nothing else while the store takes no responses.
            self.quarantine(key, self.settings.poll);
        }
        let mut exchange = engine.with_metadata(Exchange::looking(self.command(), fresh_nonce())).in_hand(in_hand);
        let mut way = Way::Layer;
        let is_proven = self.wiring.is_proven();
        if !is_proven || place.has_no_share() || engine.may_rest() {
            // Before it is claimed: what is not driven costs no try. The exchange
            // needs no look of its own after this one, unless it has become old.
            let (looked, found) = (Instant::now(), engine.look(&key).await?);
            if self.rests(key, found.record.as_ref()).await {
                return Ok(Progress::Settled(Disposition::Skipped));
            }
            if !is_proven {
                way = self.way_for(found.record.as_ref()).await;
            }
            if way == Way::Astray {
                return Ok(Progress::Settled(Disposition::Skipped));
            }
            if !self.has_room(key, found.record.as_ref(), place).await {
                return Ok(Progress::HeldBack);
            }
            if looked.elapsed() < engine.limits().lease / 10 {
                exchange.answer(Reply::Found(found.record, found.now));
            }
        }
        if let Err(error) = engine.drive(&key, &mut exchange).await {
            // The claim may have been granted; nothing has run, and nothing will.
            withdraw_claim(engine, key, Fence::of(exchange.nonce()), engine.limits().lease);
            return Err(error);
        }
        let Some(done) = exchange.finish() else { return Ok(Progress::Settled(Disposition::Failed)) };
        let did = match (done.output, done.record) {
            (Resumed::Granted(fence), Some(record)) => self.run_on(key, fence, record, way).await,
            (Resumed::CallbackPending, Some(record)) => return Ok(Progress::CallbackPending(Box::new(record))),
            (Resumed::InDoubt, Some(record)) => self.settle(key, record).await?,
            (Resumed::Parked(why), record) => {
                let attempt = record.as_ref().map_or(0, Record::attempts);
                engine.emit_of(Reference { key, attempt }, || EventKind::Parked { why: why.to_string() });
                Disposition::Parked
            }
            _ => Disposition::Skipped,
        };
        Ok(Progress::Settled(did))
    }

    /// Whether the scope of an operation has room for it. If it runs, it counts for its scope
    /// from here on.
    async fn has_room(&self, key: Key, record: Option<&Record>, place: &mut Place) -> bool {
        let Some(record) = record.filter(|_| place.has_no_share()) else { return true };
        let Some(scope) = self.counts_for(record).await else { return true };
        place.take_or_hold_back(key, scope)
    }

    pub(super) async fn run_claimed(&self, key: Key, fence: Fence, record: Record) -> Disposition {
        self.run_on(key, fence, record, Way::Layer).await
    }

    async fn run_on(&self, key: Key, fence: Fence, record: Record, way: Way) -> Disposition {
        let policy = &self.shared.policy;
        let limits = Limits { max_execution: self.settings.deadline, ..self.shared.engine.limits() };
        let number = record.attempts();
        let (fingerprint, request) = (record.fingerprint().clone(), record.request().cloned());
        let attempt = Attempt::new(self.shared.engine.clone(), key, fence, limits, record, Instant::now());
        if let Some(background) = &policy.background {
            background.queue.started(&key);
        }
        attempt.emit(|| EventKind::Resumed { attempt: number });
        if let Way::NoRoute(status) = way {
            leave_to_others(&attempt, status).await;
        }
        match request.filter(|_| !attempt.has_ended()) {
            Some(request) if request.body().len() > policy.request_limit => {
                attempt.park(
                    "",
                    &format!("its stored request has {} bytes, which exceeds the current limit", request.body().len()),
                );
            }
            Some(request) => {
                let body = Content::of(request.body().clone(), request.trailers());
                let granted = GrantedClaim { attempt: Arc::clone(&attempt), fingerprint, body };
                self.drive(&attempt, &request, granted).await;
            }
            None => {}
        }
        if !attempt.has_ended() {
            let end = attempt.end(Change::Release).await;
            attempt.emit_end(&end, false);
        }
        disposition_of(&*attempt.current().await)
    }

    /// Drives the stored request through the service, for as long as it may
    /// take.
    async fn drive(&self, attempt: &Arc<Attempt>, stored: &StoredRequest, granted: GrantedClaim) {
        let handoff = ClaimHandoff::new(granted);
        // Pinned here, so that what it was doing can still be told at its end.
        // The lease is renewed from here on: the way to the handler may be long.
        let mut answered = None;
        let mut call = pin!(under_lease(attempt, async {
            let parts = self.prepared(self.restored(stored)?).await?;
            let mut request = Request::from_parts(parts, stored.body().clone());
            request.extensions_mut().insert(handoff.clone());
            Ok::<_, String>((self.drive)(request).await)
        }));
        match timeout(self.settings.deadline, &mut call).await {
            Ok(Ok(Ok(status))) => answered = status,
            Ok(Ok(Err(why))) => attempt.park("", &why),
            Ok(Err(_panicked)) => {
                attempt.emit(|| EventKind::Panicked);
                attempt.explain(PANICKED.to_owned());
            }
            // The work is over, and its end on the way to the store: that takes no
            // longer than a store may. What comes after it is not waited for.
            Err(_) if attempt.has_ended() => tokio::select! {
                biased;
                _ = &mut call => {}
                _ = attempt.current() => {}
            },
            Err(_) => {
                attempt.emit(|| EventKind::CutOff { steps: attempt.running() });
                attempt.explain(cut_off(attempt, self.settings.deadline));
            }
        }
        if let (true, Some(status)) = (handoff.take_back(), answered) {
            self.unserved(attempt, status);
        }
    }

    /// The request did not reach the layer, and got this status.
    fn unserved(&self, attempt: &Attempt, status: StatusCode) {
        if status.is_success() || status.is_redirection() {
            // A handler may have run, unprotected.
            self.refuse(status);
        } else if says_no_route(status) {
            attempt.emit(|| EventKind::NoRoute { status: status.as_u16() });
            attempt.explain(no_route(status));
        }
    }

    /// In at-most-once mode: asks the reconciler what happened, and parks what it does not
    /// know.
    async fn settle(&self, key: Key, record: Record) -> Result<Disposition, StoreError> {
        let engine = &self.shared.engine;
        let (version, reference) = (record.version(), Reference { key, attempt: record.attempts() });
        let resolution = self.decide(key, record).await;
        let parks = matches!(resolution, Resolution::Park { .. });
        if engine.in_hand().has(&key) {
            return Ok(Disposition::Skipped);
        }
        let done = engine.apply(&key, None, Resolve { resolution, seen: Some(version), why: None }).await?;
        if done.output.is_err() {
            return Ok(Disposition::Skipped);
        }
        let Some(why) = done.record.as_ref().and_then(Record::parked_for).filter(|_| parks) else {
            engine.emit_of(reference, || EventKind::Reconciled);
            return Ok(Disposition::Reconciled);
        };
        engine.emit_of(reference, || EventKind::Parked { why: why.to_string() });
        Ok(Disposition::Parked)
    }

    async fn decide(&self, key: Key, record: Record) -> Resolution {
        const LOST: &str = "its holder is gone, and what it did is unknown";
        let Some(reconcile) = &self.reconcile else { return Resolution::Park { why: LOST.into() } };
        let found = CatchPanic::new(async { reconcile(Doubt { key, record }).await });
        match timeout(self.settings.deadline, found).await {
            Ok(Ok(Reconciled::Happened(response))) => {
                let (parts, body) = response.into_parts();
                let response = Arc::new(StoredResponse::capture(parts.status, &parts.headers, Some(body)));
                Resolution::Respond { response, retention: self.shared.engine.limits().retention }
            }
            Ok(Ok(Reconciled::DidNotHappen)) => Resolution::RunAgain,
            Ok(Ok(Reconciled::Unknown)) => Resolution::Park { why: LOST.into() },
            Ok(Err(_)) => Resolution::Park { why: "its reconciler panicked".into() },
            Err(_) => Resolution::Park { why: "its reconciler took too long".into() },
        }
    }
}

/// It was not driven, as there is no route for it here.
async fn leave_to_others(attempt: &Arc<Attempt>, status: StatusCode) {
    attempt.emit(|| EventKind::NoRoute { status: status.as_u16() });
    attempt.explain(no_route(status));
    let resumable = attempt.claimed().mode() == Mode::Resumable;
    let end = attempt.end(if resumable { Change::Release } else { Change::Withdraw }).await;
    attempt.emit_end(&end, !resumable);
}

fn disposition_of(record: &Record) -> Disposition {
    match (record.status(), record.hold()) {
        (Status::Complete, _) => Disposition::Completed,
        (_, Hold::Parked { .. }) => Disposition::Parked,
        (_, Hold::Released | Hold::Runnable) => Disposition::Released,
        // The end is not stored, or another holder took over.
        _ => Disposition::Failed,
    }
}
