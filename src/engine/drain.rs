//! The end of a process: what may begin, what runs, and what was left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use foldhash::fast::RandomState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::core::{Fence, Intake, Rest};
use crate::telemetry::drained::{Drained, Unfinished};
use crate::util::signal::lock;

/// What a process needs to come to its end.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// Counts all that is to end. Closed once the drain has begun: that bit and the count are
    /// one number, so that no work slips in between.
    work: TaskTracker,
    /// When it is over, once it has begun.
    until: watch::Sender<Option<Instant>>,
    running: Arc<RunningAttempts>,
    ended: OnceLock<Drained>,
}

/// Work that a drain waits for, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct WorkToken {
    _counted: TaskTrackerToken,
}

/// What work may begin that has this token, or none, and that rests or not.
pub(crate) const fn intake(counted: Option<&WorkToken>, rest: Option<&Rest>) -> Intake {
    match (counted, rest) {
        (None, _) => Intake::Closed,
        (Some(_), Some(rest)) => rest.intake,
        (Some(_), None) => Intake::Open,
    }
}

impl Drain {
    /// Counts new work; `None` once nothing new begins.
    pub(crate) fn begin(&self) -> Option<WorkToken> {
        // Not counted even for a moment, or the count might never come to nothing.
        if self.work.is_closed() {
            return None;
        }
        let token = self.go_on();
        (!self.work.is_closed()).then_some(token)
    }

    /// Counts work that belongs to what was begun before, and is counted itself.
    pub(crate) fn go_on(&self) -> WorkToken {
        WorkToken { _counted: self.work.token() }
    }

    /// Does such work in a task of its own.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.work.spawn(work);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.work.is_closed()
    }

    /// Resolves once it has begun. Cancel safe.
    pub(crate) async fn begun(&self) {
        // The sender is ours.
        let _ = self.until.subscribe().wait_for(Option::is_some).await;
    }

    /// Resolves once it has begun, or `shutdown` has resolved: the end of what works in rounds.
    pub(crate) async fn begun_or(&self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.begun() => {}
        }
    }

    /// From here on nothing new begins. Returns whether it is so since now. Of several
    /// deadlines the earliest counts.
    pub(crate) fn start(&self, deadline: Instant) -> bool {
        let is_first = self.work.close();
        self.until.send_if_modified(|until| {
            let is_earlier = until.is_none_or(|until| deadline < until);
            if is_earlier {
                *until = Some(deadline);
            }
            is_earlier
        });
        is_first
    }

    /// Waits until all that was counted has ended, or the deadline is over; then what was left,
    /// and whether that is told for the first time.
    pub(crate) async fn wait(&self) -> (Drained, bool) {
        let mut until = self.until.subscribe();
        while self.ended.get().is_none() {
            let deadline = until.borrow_and_update().unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = self.work.wait() => break,
                () = sleep_until(deadline) => break,
                _ = until.changed() => {}
            }
        }
        let is_first = self.ended.get().is_none() && self.ended.set(self.left()).is_ok();
        (self.ended.get().cloned().unwrap_or_default(), is_first)
    }

    fn left(&self) -> Drained {
        let mut operations: Vec<_> = lock(&self.running.0).values().copied().collect();
        operations.sort_unstable_by_key(|left| (left.key, left.attempt));
        let others = self.work.len().saturating_sub(operations.len());
        Drained { operations, others }
    }

    pub(crate) const fn running(&self) -> &Arc<RunningAttempts> {
        &self.running
    }
}

/// The attempts that a drain would have to name: those that have waited for something, and
/// those whose end could not be stored at once. By their fences: of one operation there may be
/// two.
#[derive(Debug, Default)]
pub(crate) struct RunningAttempts(Mutex<HashMap<Fence, Unfinished, RandomState>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listed(Arc<RunningAttempts>, Fence);

impl RunningAttempts {
    pub(crate) fn list(self: &Arc<Self>, fence: Fence, attempt: Unfinished) -> Listed {
        lock(&self.0).insert(fence, attempt);
        Listed(Arc::clone(self), fence)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.0.0).remove(&self.1);
    }
}
