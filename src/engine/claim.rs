//! Runs work under a claim: what HTTP and everything else have in common.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep};

use crate::core::{Change, Claim, Claimed, Exchange, Fence, Fenced, Fingerprint, Hold, Key, Record, Reference, Rest};
use crate::engine::Engine;
use crate::engine::attempt::Attempt;
use crate::engine::attempt::renewal::Renewal;
use crate::engine::drain::{WorkToken, intake};
use crate::engine::near::Look;
use crate::engine::outage::Calls;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::util::detached::{CatchPanic, Panicked};
use crate::util::nonce::fresh_nonce;
use crate::util::soon::Soon;

/// What became of a claim.
pub(crate) enum Admission {
    /// Ours to run, and counted while it is.
    Granted(Arc<Attempt>, WorkToken),
    /// Not ours, and why.
    Refused(Claimed, Met),
}

/// What a claim met that was refused.
#[derive(Clone, Copy)]
pub(crate) struct Met {
    /// If it is busy, how long ago it was claimed.
    pub(crate) age: Duration,
    /// Which attempt is on record; 0 if there is none.
    pub(crate) attempt: u32,
}

/// Claims `key`, for work that is counted: without that, nothing new begins, nor what `rest`
/// does not let begin. The nonce is
/// minted before the write, so a claim whose acknowledgement was lost is recognised as ours.
pub(crate) fn claim(
    engine: &Engine,
    key: Key,
    claim: Claim,
    counted: Option<WorkToken>,
    rest: Option<&Rest>,
    now: Instant,
) -> Soon<impl Future<Output = Result<Admission, StoreError>> + Send + use<>> {
    let intake = intake(counted.as_ref(), rest);
    let recalled = engine.near().recall(&key, &claim);
    let looks = recalled.is_none();
    let mut exchange = Exchange::guessing(claim, fresh_nonce(), None);
    exchange.describe(engine.name().cloned(), Duration::ZERO);
    exchange.set(engine.in_hand().has(&key), intake, engine.calls_back());
    if let Some(recalled) = recalled {
        exchange.answer(recalled);
    }
    if engine.is_immediate() {
        let look = looks.then(|| engine.near().look(key));
        if let Some(driven) = engine.drive_claim_at_once(&key, &mut exchange) {
            return Soon::Now(claimed(engine, key, driven, &mut exchange, counted, look, now));
        }
    }
    let engine = engine.clone();
    Soon::Later(async move {
        let look = looks.then(|| engine.near().look(key));
        let driven = engine.drive_claim(&key, &mut exchange).await;
        claimed(&engine, key, driven, &mut exchange, counted, look, Instant::now())
    })
}

/// What became of a claim. The exchange stays in its place: it is large.
fn claimed(
    engine: &Engine,
    key: Key,
    driven: Result<(), StoreError>,
    exchange: &mut Exchange<Claim, Claimed>,
    counted: Option<WorkToken>,
    look: Option<Look<'_>>,
    now: Instant,
) -> Result<Admission, StoreError> {
    if let Err(error) = driven {
        engine.store_failed(Some(&key), Calls::Writes, &error);
        if counted.is_some() {
            withdraw_claim(engine, key, Fence::of(exchange.nonce()), engine.limits().lease);
        }
        return Err(error);
    }
    let seen_at = exchange.seen_at();
    let Some(done) = exchange.outcome() else { return Err(StoreError::timed_out()) };
    if let (Claimed::Replay(..), Some(record), Some(look)) = (&done.output, &done.record, look) {
        look.keep(record, seen_at);
    }
    // One after another, and not as a tuple: records are large, and would be moved into it.
    if let Some(counted) = counted
        && let Claimed::Granted(fence) = done.output
        && let Some(record) = done.record
    {
        let attempt = record.attempts();
        engine.emit_of(Reference { key, attempt }, || match attempt {
            1 => EventKind::Claimed,
            attempt => EventKind::Resumed { attempt },
        });
        let attempt = Attempt::new(engine.clone(), key, fence, engine.limits(), record, now);
        return Ok(Admission::Granted(attempt, counted));
    }
    let age = match (&done.output, &done.record) {
        (Claimed::Busy(left), Some(record)) => record.held_for(*left),
        _ => Duration::ZERO,
    };
    let attempt = done.record.as_ref().map_or(0, Record::attempts);
    Ok(Admission::Refused(done.output, Met { age, attempt }))
}

/// What a holder that lost its claim gets: no response but the one on record.
pub(crate) fn superseding_response(fingerprint: &Fingerprint, found: Option<Record>) -> Claimed {
    let found = found.filter(|found| found.fingerprint().matches(fingerprint));
    match found.as_ref().map(|found| (found.response(), found.hold())) {
        Some((Some(stored), _)) => Claimed::Replay(Arc::clone(stored), None),
        Some((None, Hold::Leased { lease, .. })) => Claimed::Busy(*lease),
        _ => Claimed::Unknown { parked: None },
    }
}

/// Withdraws a claim that may have been stored, or may be yet, for work that is known not
/// to have started. In a task of its own, unless too many such tasks run.
pub(crate) fn withdraw_claim(engine: &Engine, key: Key, fence: Fence, lease: Duration) {
    let Some(permit) = engine.may_withdraw() else { return };
    let withdrawal = withdraw(engine.clone(), key, fence, lease);
    engine.draining().spawn(async move {
        withdrawal.await;
        drop(permit);
    });
}

async fn withdraw(engine: Engine, key: Key, fence: Fence, lease: Duration) {
    let mut waited = Duration::ZERO;
    let mut pause = Duration::from_millis(100);
    // A write that is on its way may arrive after a look, so one look is not enough. What
    // arrives after a whole lease is left to the rules of leases.
    while waited < lease {
        sleep(pause).await;
        waited = waited.saturating_add(pause);
        pause = pause.saturating_mul(2);
        let command = Fenced { fence, changes: vec![Change::Withdraw] };
        let mut exchange = Exchange::looking(command, fresh_nonce());
        let withdrawn = engine.drive(&key, &mut exchange).await.is_ok();
        if withdrawn && exchange.finish().is_some_and(|done| done.output.is_ok()) {
            return engine.emit(&key, || EventKind::Withdrawn { reason: None });
        }
    }
}

/// Runs `work` under the attempt's lease, which is renewed once the work has
/// to wait for anything.
pub(crate) fn under_lease<F: Future>(attempt: &Arc<Attempt>, work: F) -> UnderLease<F> {
    UnderLease { work: CatchPanic::new(work), attempt: Arc::clone(attempt), renewal: None }
}

pin_project! {
    /// The future of [`under_lease`].
    pub(crate) struct UnderLease<F> {
        #[pin]
        work: CatchPanic<F>,
        attempt: Arc<Attempt>,
        #[pin]
        renewal: Option<Renewal>,
    }
}

impl<F: Future> Future for UnderLease<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let output = this.work.poll(cx);
        if output.is_pending() && this.renewal.is_none() && this.attempt.starts_renewal() {
            this.attempt.list();
            // Only now: work that is done at once needs no renewal.
            this.renewal.set(Some(Renewal::new(this.attempt)));
            this.renewal.as_pin_mut().into_iter().for_each(Renewal::set);
        } else if output.is_ready() {
            this.renewal.set(None);
        }
        output
    }
}
