//! How a process hears of maintenance windows.
//!
//! All windows are in one control record. A process reads it before its first work, and then
//! again every few seconds in a task of its own, so that no request pays for it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::plan::{Control, NAME};
use super::process::Process;
use super::windows::Windows;
use super::{Engine, Shared};
use crate::core::{Intake, Key, PlannedWindow, Rest, Timestamp, Version, Work};
use crate::store::{Loaded, StoreError};
use crate::telemetry::event::EventKind;
use crate::util::backoff::jittered;

/// The longest time until a process sees what another one planned.
const EVERY: Duration = Duration::from_secs(5);
/// How long nothing may be heard of the task that looks, until another one takes its place.
const SILENT: Duration = Duration::from_secs(15);

/// The control record, as it was read.
pub(crate) struct Plan {
    pub(crate) windows: Vec<PlannedWindow>,
    pub(crate) control: Control,
    pub(crate) version: Option<Version>,
    pub(crate) now: Timestamp,
}

impl Engine {
    /// Whether `work` rests now. The first that asks waits until the windows were read; if they
    /// can't be read, work goes on, and fails at the same store.
    pub(crate) async fn rest_of(&self, work: Work<'_>) -> Option<Rest> {
        let windows = self.windows();
        if windows.is_silent(SILENT, Instant::now()) {
            windows.give_up();
        }
        if windows.is_unread() {
            self.await_look().await;
        }
        self.watch_windows();
        windows.rest_of(work)
    }

    /// How many plans that differ this process has read: what rests by one may go on by the next.
    pub(crate) fn plans_read(&self) -> u64 {
        self.windows().plans()
    }

    /// The store's time, as far as this process knows it: behind by what a reply of the store
    /// took.
    pub(crate) fn store_time(&self) -> Option<Timestamp> {
        self.windows().now()
    }

    /// How often an operator changed this schedule, as far as this process knows.
    #[cfg(feature = "schedule")]
    pub(crate) fn calls_of_schedule(&self, name: &str) -> u64 {
        self.windows().calls_of_schedule(name)
    }

    /// Waits until the windows, and what operators changed, were looked at again, and no longer
    /// than that. Cancel safe.
    #[cfg(feature = "schedule")]
    pub(crate) async fn next_look(&self, longest: Duration) {
        let mut looks = self.windows().looks.subscribe();
        let _ = timeout(longest, looks.changed()).await;
    }

    /// Whether nothing that works on the whole store may begin now.
    pub(crate) async fn is_closed(&self) -> bool {
        self.closed_until().await.is_some()
    }

    /// Until when, if so.
    pub(crate) async fn closed_until(&self) -> Option<Timestamp> {
        let rest = self.rest_of(Work::Store).await.filter(|rest| rest.intake == Intake::Closed);
        rest.map(|rest| rest.notice.until)
    }

    /// Whether [`rest_of`](Self::rest_of) has to be asked: a look at two numbers and a clock.
    #[inline]
    pub(crate) fn may_rest(&self) -> bool {
        self.may_rest_at(Instant::now())
    }

    /// The same for a caller that has read the clock.
    #[inline]
    pub(crate) fn may_rest_at(&self, now: Instant) -> bool {
        self.windows().may_rest() || self.windows().is_silent(SILENT, now)
    }

    /// Reads the windows, and goes by them from here on.
    pub(crate) async fn read_plan(&self) -> Result<Plan, StoreError> {
        let key = Key::of_control(NAME);
        let Loaded { record, now } = self.look(&key).await?;
        let version = record.as_ref().map(|record| record.version());
        let control = Control::of(record.as_ref())?;
        let windows = control.windows()?;
        self.go_by(&windows, &control, now);
        Ok(Plan { windows, control, version, now })
    }

    /// Goes by these windows from here on.
    pub(crate) fn go_by(&self, planned: &[PlannedWindow], control: &Control, now: Timestamp) {
        self.windows().set(planned, control.schedules(), now);
        self.tell_turns();
    }

    fn tell_turns(&self) {
        self.windows().turns().into_iter().for_each(|turn| self.emit_unkeyed(|| turn));
    }

    /// One look. What was read before holds if it fails.
    async fn look_at_windows(&self) {
        if let Err(error) = self.read_plan().await {
            if error.is_unreadable() {
                // No request waits for what no look can tell: the next looks come in their turn.
                self.windows().set_read();
                if self.windows().is_first_unreadable() {
                    self.emit(&Key::of_control(NAME), || EventKind::Unreadable { error });
                }
            }
            self.tell_turns();
        }
        self.windows().looked();
    }

    /// Waits until a look has ended, well or not. All that come meanwhile wait for the same one.
    async fn await_look(&self) {
        let mut looks = self.windows().looks.subscribe();
        if !self.watch_windows() {
            // It looks only now and then.
            self.windows().look_now.notify_one();
        }
        // A look takes at most one second less. The sender is ours.
        let patience = self.store().patience().saturating_add(Duration::from_secs(1));
        if timeout(patience, looks.changed()).await.is_err() {
            self.windows().give_up();
            self.look_at_windows().await;
        }
    }

    /// Starts the task that looks at once and then every few seconds, unless it runs. Returns
    /// whether it did.
    fn watch_windows(&self) -> bool {
        let Some(task) = self.windows().begin_watch() else { return false };
        let watched = Watched(Arc::downgrade(&self.shared.process), task);
        tokio::spawn(watch(Arc::downgrade(&self.shared), Arc::clone(&self.windows().look_now), watched));
        true
    }

    fn windows(&self) -> &Windows {
        &self.shared.process.windows
    }
}

/// That this task looks at the windows of this process, until it is dropped: at its end, or with
/// the runtime that it ran on.
struct Watched(Weak<Process>, u64);

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(process) = self.0.upgrade() {
            // Of one that was replaced, its successor's waiters hear nothing.
            if process.windows.unwatch(self.1) {
                process.windows.looked();
            }
        }
    }
}

/// Looks every few seconds, while there is an engine to look for. Between looks it holds none.
async fn watch(shared: Weak<Shared>, look_now: Arc<Notify>, watched: Watched) {
    while let Some(shared) = shared.upgrade() {
        if !shared.process.windows.is_watched_by(watched.1) {
            break;
        }
        shared.process.windows.hear();
        Engine { shared }.look_at_windows().await;
        let _ = timeout(jittered(EVERY, 0.4, 1.0), look_now.notified()).await;
    }
    drop(watched);
}
