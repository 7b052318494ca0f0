//! Looks for work, round by round.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::round::Round;
use super::{Completer, CompleterError, Report};
use crate::core::Key;
use crate::engine::outage::{Calls, Scanning};
use crate::engine::shares::{Share, Shares};
use crate::util::backoff::{self, Backoff};
use crate::util::signal::lock;

/// While the store is away it is asked less and less often.
const OUTAGE: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(60));

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
        let mut shutdown = pin!(async {
            tokio::select! {
                () = shutdown => {}
                () = engine.draining().begun() => {}
            }
        });
        self.probe_root().await;
        let (mut round, mut outages) = (self.round(), 0);
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
            outages = if scanned.is_ok() { 0 } else { outages + 1 };
            match scanned {
                Ok(_) => engine.store_succeeded(Calls::Scans),
                // Once for an outage, however long it lasts.
                Err(error) if outages == 1 => engine.store_failed(None, Calls::Scans, &error),
                Err(_) => {}
            }
            if go_on {
                continue;
            }
            let pause = match outages {
                0 => backoff::jittered(self.settings.poll, 2.0 / 3.0, 4.0 / 3.0),
                _ => backoff::jittered(self.settings.poll.max(OUTAGE.longest(outages)), 0.5, 1.0),
            };
            let latest = backoff::after(pause);
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.wiring.refused() => break,
                () = self.rest(&mut round, latest, outages > 0) => {}
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
