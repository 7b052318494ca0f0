//! Looks for what is due, round by round.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::settings::Outbox;
use crate::core::{Intake, Key, OUTGOING, Timestamp, Work};
use crate::engine::outage::Scanning;
use crate::store::{Cursor, Filter, Query, StoreError};
use crate::util::backoff::after;
use crate::util::detached::CatchPanic;
use crate::util::signal::lock;
use crate::workers::pace::Outages;

/// How many records one page of a scan has.
const PAGE: usize = 100;

/// How many calls one round starts.
const MOST: usize = 1000;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    Sent,
    PutOff,
    NeedsAttention,
    /// The store failed, or took no end.
    Failed,
    /// There was nothing to do, or another process was faster.
    Skipped,
}

/// What a round of an [`Outbox`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxRound {
    /// How many calls got their final response.
    pub sent: usize,
    /// How many are to be sent again later.
    pub put_off: usize,
    /// How many an operator has to decide about.
    pub needs_attention: usize,
    /// Of how many the store did not take the end. They are sent again, with the same key.
    pub failed: usize,
}

impl OutboxRound {
    fn add(&mut self, did: Disposition) {
        match did {
            Disposition::Sent => self.sent += 1,
            Disposition::PutOff => self.put_off += 1,
            Disposition::NeedsAttention => self.needs_attention += 1,
            Disposition::Failed => self.failed += 1,
            Disposition::Skipped => {}
        }
    }
}

/// What is under way.
struct Round {
    slots: Arc<Semaphore>,
    running: JoinSet<Disposition>,
    did: OutboxRound,
}

impl Round {
    fn new(concurrency: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(concurrency)), running: JoinSet::new(), did: OutboxRound::default() }
    }

    fn reap(&mut self) {
        while let Some(ended) = self.running.try_join_next() {
            self.did.add(ended.unwrap_or(Disposition::Failed));
        }
    }

    async fn finish(&mut self) {
        while let Some(ended) = self.running.join_next().await {
            self.did.add(ended.unwrap_or(Disposition::Failed));
        }
    }
}

impl Outbox {
    /// Sends the calls that are due, up to 1,000, and reports what became of them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't say what is due. The outbox first ends what it has begun.
    ///
    /// # Cancellation
    ///
    /// If you drop the future, it cuts off what it sends, as a crash would: it is sent again, with
    /// the same key, when the lease has expired.
    pub async fn run_once(&self) -> Result<OutboxRound, StoreError> {
        let mut round = Round::new(self.settings.concurrency);
        let scanned = self.fill(&mut round).await;
        round.finish().await;
        scanned.map(|_| round.did)
    }

    /// Sends calls as they fall due, until `shutdown` resolves or the engine
    /// [drains](crate::Engine::drain). Then it starts nothing new, and returns when running attempts
    /// have ended. It waits for a store that is unreachable, and rests while a
    /// [maintenance window](crate::guide::maintenance) covers the store or the scope `outbox/NAME`.
    ///
    /// ```
    /// use tower_idempotency::outbox::Outbox;
    ///
    /// async fn work(outbox: Outbox) {
    ///     let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    ///     let sending = tokio::spawn(async move { outbox.run(async { stopped.await.unwrap_or(()) }).await });
    ///     // … and at the end of the process:
    ///     drop(stop);
    ///     let _ = sending.await;
    /// }
    /// ```
    ///
    /// # Cancellation
    ///
    /// As [`run_once`](Self::run_once).
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let engine = &self.engine;
        let mut shutdown = pin!(engine.draining().begun_or(shutdown));
        let (mut round, mut outages) = (Round::new(self.settings.concurrency), Outages::default());
        let _scanning = Scanning::new(engine.outage());
        loop {
            let scanned = tokio::select! {
                biased;
                () = &mut shutdown => break,
                scanned = self.fill(&mut round) => scanned,
            };
            outages.note(engine, &scanned);
            if matches!(scanned, Ok(true)) {
                continue;
            }
            let latest = after(outages.pause(self.settings.poll));
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.rest(&mut round, latest, outages.is_away()) => {}
            }
        }
        round.finish().await;
    }

    /// Until something falls due, it is time to look, or the store may be back. What this process
    /// accepts meanwhile is sent at once.
    async fn rest(&self, round: &mut Round, latest: Instant, away: bool) {
        if away {
            return sleep_until(latest).await;
        }
        loop {
            let key = tokio::select! {
                biased;
                () = self.state.due.rings(latest) => return,
                key = self.state.fresh.next() => key,
            };
            if !self.rests().await {
                self.start(round, key).await;
            }
        }
    }

    /// Whether a maintenance window covers its calls.
    async fn rests(&self) -> bool {
        let scope = self.scope();
        let work = Work::Operation { route: None, scope: Some(&scope) };
        self.engine.rest_of(work).await.is_some_and(|rest| rest.intake == Intake::Closed)
    }

    /// Starts what is due. `true` if there was more of it than one round starts.
    async fn fill(&self, round: &mut Round) -> Result<bool, StoreError> {
        round.reap();
        if self.engine.is_draining() || self.rests().await {
            return Ok(false);
        }
        let (now, mut started) = (self.now().await?, 0);
        let start = Cursor { due: now.after(OUTGOING / 2), key: Key::from_bytes([0; 32]) };
        let place = lock(&self.state.place).take().unwrap_or(start);
        // Not by label: the index lacks what was written without it, and what is encrypted.
        let mut query = Query::new(Filter::Unfinished, PAGE).after(place);
        loop {
            let page = self.engine.scan(&query).await?;
            for found in page.found {
                if found.due > now.after(OUTGOING) {
                    return Ok(false);
                }
                if !self.state.is_stranger(&found.key) {
                    started += usize::from(self.start(round, found.key).await);
                }
            }
            match page.next {
                None => return Ok(false),
                Some(next) if started >= MOST => {
                    // The next round goes on here: from the start, it might not get past what
                    // is not its own.
                    *lock(&self.state.place) = Some(next);
                    return Ok(true);
                }
                Some(next) => query = query.after(next),
            }
        }
    }

    /// The store's time: it comes with every record, and with none.
    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.engine.look(&Key::from_bytes([0; 32])).await?.now)
    }

    /// Starts a call once there is room, unless it runs already. Returns whether it did.
    async fn start(&self, round: &mut Round, key: Key) -> bool {
        round.reap();
        let Some(running) = self.state.running.enter(key) else { return false };
        let Ok(slot) = Arc::clone(&round.slots).acquire_owned().await else { return false };
        let Some(counted) = self.engine.draining().begin() else { return false };
        let outbox = self.clone();
        round.running.spawn(async move {
            let did = CatchPanic::new(outbox.go_on(key)).await;
            drop((running, slot, counted));
            did.unwrap_or(Disposition::Failed)
        });
        true
    }
}
