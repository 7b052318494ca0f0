//! Looks for work, round by round.

use std::pin::pin;
use tokio::time::Instant;

use super::round::Round;
use super::{Completer, CompleterError, Report};
use crate::core::Key;
use crate::engine::outage::Scanning;
use crate::engine::shares::{Share, Shares};
use crate::util::backoff;
use crate::util::signal::lock;
use crate::workers::pace::Outages;

impl Completer {
    /// Drives the operations that are due, up to 1,000, and reports what became of
    /// them. The next call continues where this one stopped, and after the last operation
    /// starts again with the first.
    ///
    /// # Errors
    ///
    /// [`CompleterError::Store`] if the store can't say what is due, and
    /// [`CompleterError::NotWired`] if the service does not lead to the layer. The completer
    /// first ends what it has begun.
    ///
    /// # Cancellation
    ///
    /// If you drop the future, it cuts off what it runs, as a crash would; another
    /// attempt continues when the lease has expired.
    pub async fn run_once(&self) -> Result<Report, CompleterError> {
        let mut round = self.round();
        let scanned = self.fill(&mut round).await;
        self.finish_all(&mut round).await;
        match self.wiring.refusal() {
            Some(refusal) => Err(refusal),
            None => Ok(scanned.map(|_| round.report)?),
        }
    }

    /// Drives operations as they fall due, until `shutdown` resolves. Then it starts
    /// nothing new, and returns when running attempts and callbacks have ended. A
    /// [drain](crate::IdempotencyLayer::drain) of its engine has the same effect.
    ///
    /// # Errors
    ///
    /// [`CompleterError::NotWired`], at the first operation that shows that the service
    /// does not lead to the layer; the completer also emits an
    /// [event](crate::EventKind::NotWired). It waits for a store that is unreachable.
    ///
    /// # Cancellation
    ///
    /// As [`run_once`](Self::run_once).
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) -> Result<(), CompleterError> {
        let engine = &self.shared.engine;
        let mut shutdown = pin!(engine.draining().begun_or(shutdown));
        self.probe_root().await;
        let (mut round, mut outages) = (self.round(), Outages::default());
        let (registration, _scanning) = (self.register(&round), Scanning::new(engine.outage()));
        loop {
            let scanned = tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.wiring.refused() => break,
                scanned = self.fill(&mut round) => scanned,
            };
            let failed = std::mem::take(&mut round.report.failed) > 0;
            let go_on = !failed && matches!(scanned, Ok(true)) && !lock(&self.resting).is_full();
            outages.note(engine, &scanned);
            if go_on {
                continue;
            }
            let latest = backoff::after(outages.pause(self.settings.poll));
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.wiring.refused() => break,
                () = self.rest(&mut round, latest, outages.is_away()) => {}
            }
        }
        registration.close();
        round.calls.close();
        round.finish().await;
        round.all_free().await;
        self.wiring.refusal().map_or(Ok(()), Err)
    }

    fn round(&self) -> Round {
        Round::new(self.settings.concurrency, !self.shared.policy.scope.is_shared())
    }

    /// Until something falls due, it is time to look, or the store may be back.
    /// What this process accepts meanwhile is started at once.
    async fn rest(&self, round: &mut Round, latest: Instant, away: bool) {
        if away {
            // What falls due meanwhile does not bring the store back.
            return tokio::time::sleep_until(latest).await;
        }
        let engine = &self.shared.engine;
        let shares = round.shares.clone();
        loop {
            let (key, share) = tokio::select! {
                biased;
                () = engine.due().rings(latest) => return,
                turn = turn_of(shares.as_ref()) => match turn {
                    Some((key, share)) => (key, Some(share)),
                    None => return,
                },
                key = engine.accepted().next() => (key, None),
            };
            self.start(round, key, share).await;
        }
    }
}

/// Where there is one scope, no operation waits for its share.
async fn turn_of(shares: Option<&Shares>) -> Option<(Key, Share)> {
    match shares {
        Some(shares) => shares.turn().await,
        None => std::future::pending().await,
    }
}
