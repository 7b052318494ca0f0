//! The writes of an attempt: one after another, and those that are ready together as
//! one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::turn::leave_a_turn;
use super::{Attempt, Queue, Waiting, WriteError};
use crate::core::{Change, Done, Exchange, Fenced, Label, Labels, Lost, Record, Status};
use crate::util::nonce::fresh_nonce;
use crate::util::signal::lock;

impl Attempt {
    /// Stores one change, together with all others that are ready by then.
    /// Tries as long as the lease may still be ours.
    ///
    /// The write has a task of its own: a caller that stops waiting does not
    /// leave it half done, nor keep others from theirs.
    pub(crate) async fn write(self: &Arc<Self>, change: Change) -> Result<(), WriteError> {
        self.write_all([Some(change), None, None]).await
    }

    /// The same for changes that belong together: all of them or none. The caller
    /// waits for the first.
    pub(crate) async fn write_all(self: &Arc<Self>, changes: [Option<Change>; 3]) -> Result<(), WriteError> {
        if let Some(written) = self.write_at_once(&changes) {
            leave_a_turn().await;
            return written;
        }
        let (done, outcome) = oneshot::channel();
        if !self.enqueue(changes.into_iter().flatten(), done) {
            return Err(WriteError::Lost);
        }
        tokio::spawn(Arc::clone(self).flush());
        outcome.await.unwrap_or(Err(WriteError::Lost))
    }

    /// The same where the store replies at once, and nothing else waits to be written: without a
    /// task, which no caller could leave alone meanwhile. `None` if this is to be written like all
    /// others.
    fn write_at_once(&self, changes: &[Option<Change>; 3]) -> Option<Result<(), WriteError>> {
        if !self.engine.is_immediate() {
            return None;
        }
        let mut current = self.try_turn()?;
        if self.has_ended() {
            return Some(Err(WriteError::Lost));
        }
        if !lock(&self.writer.queue).is_empty() {
            return None;
        }
        let changes = changes.iter().flatten().cloned().collect();
        let mut exchange = self.exchange(changes, &current, self.since.elapsed());
        // What fails is tried again, for as long as others are.
        self.engine.drive_at_once(&self.key, &mut exchange)?.ok()?;
        Some(self.settle(exchange.outcome(), &mut current))
    }

    /// Under the queue's lock, or a change could slip in behind the end that
    /// empties the queue, and wait there for ever.
    fn enqueue(&self, changes: impl Iterator<Item = Change>, done: Waiting) -> bool {
        let mut queue = lock(&self.writer.queue);
        if self.has_ended() {
            return false;
        }
        let mut done = Some(done);
        queue.waiting.extend(changes.map(|change| (change, done.take())));
        true
    }

    /// Has these changes go with the next write, whatever that is about, and before it.
    pub(crate) async fn write_along(&self, changes: [Option<Change>; 3]) -> Result<(), WriteError> {
        if !self.enqueue_along(changes) {
            return Err(WriteError::Lost);
        }
        leave_a_turn().await;
        Ok(())
    }

    fn enqueue_along(&self, changes: [Option<Change>; 3]) -> bool {
        let mut queue = lock(&self.writer.queue);
        if self.has_ended() {
            return false;
        }
        self.writer.defers.store(true, Ordering::Relaxed);
        queue.along.extend(changes.into_iter().flatten());
        true
    }

    /// Stores the results that go along, if there are any, before a call that needs no write of its own.
    pub(crate) async fn write_those_along(self: &Arc<Self>) -> Result<(), WriteError> {
        if !self.writer.defers.load(Ordering::Relaxed) {
            return Ok(());
        }
        // In its turn: a write under way has them, and puts them back if it fails.
        let current = self.turn().await;
        let is_none = lock(&self.writer.queue).along.is_empty();
        drop(current);
        if is_none { Ok(()) } else { self.write(Change::Renew).await }
    }

    /// Goes with the next write, whatever that is about.
    pub(crate) fn label(&self, label: Label) {
        let mut queue = lock(&self.writer.queue);
        if self.has_ended() {
            return;
        }
        let is_label = |change: &Change| matches!(change, Change::Label { .. });
        let is_replaced =
            |change: &Change| matches!(change, Change::Label { label: earlier } if earlier.name() == label.name());
        queue.along.retain(|change| !is_replaced(change));
        if queue.along.iter().filter(|change| is_label(change)).count() < Labels::MAX {
            queue.along.push(Change::Label { label });
        }
    }

    /// `changes`, behind those that go along. They stay in the queue: this write may be rolled back.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn with_those_along(&self, changes: &[Change]) -> Vec<Change> {
        let queue = lock(&self.writer.queue);
        queue.along.iter().chain(changes).cloned().collect()
    }

    /// All that is to be written; what waits for it belongs to work that is over.
    pub(super) fn take_queue(&self) -> Vec<Change> {
        let Queue { mut along, waiting } = std::mem::take(&mut *lock(&self.writer.queue));
        along.extend(waiting.into_iter().map(|(change, _)| change));
        along
    }

    /// The same while it goes on; `None` if no caller waits: then another task took it.
    fn take_waiting(&self) -> Option<Queue> {
        let mut queue = lock(&self.writer.queue);
        (!queue.waiting.is_empty()).then(|| std::mem::take(&mut *queue))
    }

    async fn flush(self: Arc<Self>) {
        let mut current = self.turn().await;
        let Some(Queue { along, waiting }) = self.take_waiting() else { return };
        if self.completed().is_some() {
            return;
        }
        let mut on_its_way = OnItsWay { queue: &self.writer.queue, along };
        let changes = on_its_way.along.iter().chain(waiting.iter().map(|(change, _)| change)).cloned().collect();
        let mut exchange = self.exchange(changes, &current, self.since.elapsed());
        let outcome = tokio::select! {
            biased;
            outcome = self.engine.persist(&self.key, &mut exchange, self.limits.lease) => outcome,
            // Left to the end, which takes them along and keeps no caller waiting.
            _ = self.ending.over.wait() => return lock(&self.writer.queue).put_back(Vec::new(), waiting),
        };
        let outcome = match outcome {
            Ok(()) => self.settle(exchange.finish(), &mut current),
            Err(error) => Err(WriteError::Store(error)),
        };
        if !matches!(outcome, Err(WriteError::Store(_))) {
            on_its_way.along.clear();
        }
        drop(on_its_way);
        for done in waiting.into_iter().filter_map(|(_, done)| done) {
            // A caller that stopped waiting needs no result.
            let _ = done.send(outcome.clone());
        }
    }

    /// A write of these changes, so long after the claim.
    pub(super) fn exchange(
        &self,
        changes: Vec<Change>,
        current: &Arc<Record>,
        elapsed: Duration,
    ) -> Exchange<Fenced, Result<(), Lost>> {
        let command = Fenced { fence: self.fence, changes };
        let mut exchange = Exchange::guessing(command, fresh_nonce(), Some(Arc::clone(current)));
        exchange.describe(None, elapsed);
        exchange
    }

    pub(super) fn settle(
        &self,
        done: Option<Done<Result<(), Lost>>>,
        current: &mut Arc<Record>,
    ) -> Result<(), WriteError> {
        let Some(Done { output: Ok(()), record }) = done else {
            self.set_lost();
            return Err(WriteError::Lost);
        };
        self.follow(record, current);
        Ok(())
    }

    /// From here on `record` is what was last written.
    pub(super) fn follow(&self, record: Option<Record>, current: &mut Arc<Record>) {
        if let Some(record) = record {
            self.writer.paid.store(record.status() == Status::Paid, Ordering::Relaxed);
            replace(current, record);
        }
    }
}

impl Queue {
    const fn is_empty(&self) -> bool {
        self.along.is_empty() && self.waiting.is_empty()
    }

    /// Before what has come meanwhile.
    fn put_back(&mut self, along: Vec<Change>, waiting: Vec<(Change, Option<Waiting>)>) {
        self.along.splice(..0, along);
        self.waiting.splice(..0, waiting);
    }
}

/// What goes along with a write that is under way. If that fails, or its store panics, the next one takes it:
/// nothing that comes later is to be stored without it.
struct OnItsWay<'a> {
    queue: &'a Mutex<Queue>,
    along: Vec<Change>,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let along = std::mem::take(&mut self.along);
        lock(self.queue).put_back(along, Vec::new());
    }
}

/// Puts a record in the place of the one before, which most often nothing else holds on to.
pub(super) fn replace(current: &mut Arc<Record>, record: Record) {
    match Arc::get_mut(current) {
        Some(place) => *place = record,
        None => *current = Arc::new(record),
    }
}
