//! The lease of an attempt: renewed while the work runs, and lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::SetOnce;
use tokio::time::{Instant, sleep};

use super::{Attempt, Hands, WriteError};
use crate::core::Change;
use crate::telemetry::drained::Unfinished;
use crate::telemetry::event::EventKind;
use crate::util::signal::lock;

impl Attempt {
    /// Set once the claim is lost, or in doubt.
    pub(crate) const fn lost(&self) -> &SetOnce<()> {
        &self.lease.lost
    }

    pub(super) fn set_lost(&self) {
        if self.lease.lost.set(()).is_ok() {
            self.emit(|| EventKind::LeaseLost);
        }
    }

    /// Whether the caller is the first, and is to see to its renewal.
    pub(crate) fn starts_renewal(&self) -> bool {
        !self.lease.renewed.swap(true, Ordering::Relaxed)
    }

    /// Renews the lease, at a third of its length, until the attempt ends or has run for as
    /// long as it may.
    pub(super) async fn renew_until_end(self: Arc<Self>, started: Instant) {
        let third = self.limits.lease / 3;
        let (mut renewed, mut pause) = (started, third.saturating_sub(started.elapsed()));
        loop {
            sleep(pause).await;
            pause = third;
            self.hold_on_while_it_runs();
            if started.elapsed() >= self.limits.max_execution {
                self.emit(|| EventKind::Overdue);
                // The last renewal runs out; from then on another holder may take over, and
                // the handler should stop.
                sleep(self.limits.lease.saturating_sub(renewed.elapsed())).await;
                self.let_go();
                return self.set_lost();
            }
            match self.write(Change::Renew).await {
                Ok(()) => renewed = Instant::now(),
                Err(WriteError::Lost) => return self.let_go(),
                // The claim may still hold: a handler that learns of it now can stop before its
                // next irrevocable step.
                Err(WriteError::Store(_)) if renewed.elapsed() >= self.limits.lease => self.set_lost(),
                Err(WriteError::Store(_)) => {}
            }
        }
    }

    /// From here on this process does not take the operation for abandoned.
    pub(super) fn hold_on(&self) {
        lock(&self.lease.hands).in_hand.get_or_insert_with(|| self.engine.in_hand().take(self.key));
    }

    /// The same, unless the work is over: then the end of the attempt decides.
    fn hold_on_while_it_runs(&self) {
        let mut hands = lock(&self.lease.hands);
        if !self.has_ended() {
            hands.in_hand.get_or_insert_with(|| self.engine.in_hand().take(self.key));
        }
    }

    /// From here on other holders may go on with it.
    pub(super) fn let_go(&self) {
        lock(&self.lease.hands).in_hand.take();
    }

    /// From here on a drain that is over names it.
    pub(crate) fn list(&self) {
        let attempt = Unfinished::new(self.key, self.claimed.attempts(), self.claimed.mode());
        let running = self.engine.draining().running();
        lock(&self.lease.hands).listed.get_or_insert_with(|| running.list(self.fence, attempt));
    }

    /// This process has nothing more to do about it.
    pub(super) fn leave(&self) {
        // Dropped without the lock: each takes another one.
        let Hands { in_hand, listed } = std::mem::take(&mut *lock(&self.lease.hands));
        drop((in_hand, listed));
    }
}
