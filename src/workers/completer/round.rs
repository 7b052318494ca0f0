//! Which operations are run, and how many at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Completer;
use super::calls::{Calls, MOST};
use super::place::Place;
use super::report::{Disposition, Report};
use crate::core::Key;
use crate::engine::shares::{Met, Share, Shares};
use crate::store::{Filter, Query, StoreError};
use crate::util::backoff;
use crate::util::detached::CatchPanic;
use crate::util::signal::lock;
use crate::workers::running::Keys;

/// How many records one page of a scan has.
const PAGE: usize = 100;
/// How many records are left alone at most: they take a megabyte. If there are more, some
/// are looked at again.
const MOST_QUARANTINED: usize = 11_000;
/// How long a record that can't be read is left alone.
pub(super) const QUARANTINE: Duration = Duration::from_secs(60 * 60);

/// What is under way.
pub(super) struct Round {
    /// Room for those that do not run yet.
    pub(super) slots: Arc<Semaphore>,
    /// How scopes share that room; `None` if there is one scope.
    pub(super) shares: Option<Shares>,
    /// Room of their own for callbacks: one that hangs keeps no operation waiting.
    pub(super) calls: Calls,
    most: u32,
    running: JoinSet<[Option<Disposition>; 2]>,
    pub(super) keys: Keys,
    pub(super) report: Report,
}

impl Round {
    pub(super) fn new(concurrency: usize, has_scopes: bool) -> Self {
        let most = u32::try_from(concurrency).unwrap_or(u32::MAX);
        Self {
            slots: Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS))),
            shares: has_scopes.then(|| Shares::of(concurrency)),
            calls: Calls::new(concurrency),
            most,
            running: JoinSet::new(),
            keys: Keys::default(),
            report: Report::default(),
        }
    }

    /// Waits for all that have a slot, those that were handed over included.
    pub(super) async fn all_free(&self) {
        // It is never closed.
        let _ = self.slots.acquire_many(self.most).await;
    }

    /// Waits for one to end; `false` if none runs.
    async fn next(&mut self) -> bool {
        let Some(ended) = self.running.join_next().await else { return false };
        self.note(ended.ok());
        true
    }

    fn note(&mut self, ended: Option<[Option<Disposition>; 2]>) {
        ended.into_iter().flatten().flatten().for_each(|did| self.report.add(did));
    }

    pub(super) async fn finish(&mut self) {
        while self.next().await {}
    }

    fn reap(&mut self) {
        while let Some(ended) = self.running.try_join_next() {
            self.note(ended.ok());
        }
    }
}

impl Completer {
    /// Starts what is due, a few at a time. `true` if there was more of it than one
    /// round starts: what runs already or is left alone does not count.
    pub(super) async fn fill(&self, round: &mut Round) -> Result<bool, StoreError> {
        round.reap();
        let (mut seen, mut started) = (HashSet::new(), 0);
        let mut query = Query { after: lock(&self.place).take(), ..Query::new(Filter::Lapsed, PAGE) };
        loop {
            if self.shared.engine.is_draining() || self.shared.engine.is_closed().await {
                return Ok(false);
            }
            let page = self.shared.engine.scan(&query).await?;
            round.report.unreadable += page.unreadable.nameless();
            // What a scan can't read is looked at, to tell what is wrong with it.
            for key in page.found.iter().map(|found| found.key).chain(page.unreadable.keys) {
                // With a quarantine of no length, an operation may come round again.
                if !self.is_quarantined(&key) && !self.is_resting(&key) && seen.insert(key) {
                    started += usize::from(self.meet(round, key).await);
                }
            }
            self.start_waiting(round).await;
            let Some(next) = page.next else {
                round.shares.iter().for_each(Shares::forget_if_idle);
                return Ok(false);
            };
            if started >= MOST {
                // The next round goes on here: from the start, it might not get past
                // what can't be finished.
                *lock(&self.place) = Some(next);
                return Ok(true);
            }
            query = query.after(next);
        }
    }

    /// Starts what is due, unless its scope is known to hold too many slots.
    async fn meet(&self, round: &mut Round, key: Key) -> bool {
        match round.shares.as_ref().map_or(Met::New, |shares| shares.meet(&key)) {
            Met::HeldBack => false,
            Met::New => self.start(round, key, None).await,
            Met::Admitted(share) => self.start(round, key, Some(share)).await,
        }
    }

    /// Starts what this process accepted meanwhile, and what has a share by now. Does not wait
    /// for more of it.
    async fn start_waiting(&self, round: &mut Round) {
        let Some(shares) = round.shares.clone() else { return };
        while let Some((key, share)) = shares.next_in_line() {
            self.start(round, key, Some(share)).await;
        }
        while let Some(key) = self.shared.engine.accepted().try_next() {
            self.start(round, key, None).await;
        }
    }

    /// Waits for all that was started, and starts what has a share whenever one of them ends.
    pub(super) async fn finish_all(&self, round: &mut Round) {
        while round.next().await {
            let shares = round.shares.clone();
            while let Some((key, share)) = shares.as_ref().and_then(Shares::next_in_line) {
                self.start(round, key, Some(share)).await;
            }
        }
    }

    /// Starts an operation once there is room, unless it runs already. Returns whether it
    /// did.
    pub(super) async fn start(&self, round: &mut Round, key: Key, share: Option<Share>) -> bool {
        round.reap();
        if self.shared.engine.is_closed().await {
            return false;
        }
        let Some(running) = round.keys.enter(key) else { return false };
        let Ok(slot) = Arc::clone(&round.slots).acquire_owned().await else { return false };
        let Some(counted) = self.shared.engine.draining().begin() else { return false };
        round.report.found += 1;
        let place = Place::new(slot, share, round.shares.clone());
        let (completer, calls) = (self.clone(), round.calls.clone());
        round.running.spawn(async move {
            let did = CatchPanic::new(completer.finish(key, place, calls)).await;
            drop((running, counted));
            did.unwrap_or([Some(Disposition::Failed), None])
        });
        true
    }

    fn is_quarantined(&self, key: &Key) -> bool {
        lock(&self.quarantined).get(key).is_some_and(|until| Instant::now() < *until)
    }

    /// Leaves an operation alone for a while that the completer can't do anything about: it
    /// can't be marked.
    pub(super) fn quarantine(&self, key: Key, pause: Duration) {
        let mut quarantined = lock(&self.quarantined);
        let now = Instant::now();
        if quarantined.len() == quarantined.capacity() {
            // Makes room before the table grows.
            quarantined.retain(|_, until| now < *until);
        }
        if quarantined.len() >= MOST_QUARANTINED && !quarantined.contains_key(&key) {
            let any = quarantined.keys().next().copied();
            any.and_then(|any| quarantined.remove(&any));
        }
        quarantined.insert(key, backoff::after(pause));
    }
}
