//! Maintenance windows: what this process knows of them, and how it hears of others.
//!
//! All windows are in one control record. A process reads it before its first work, and then
//! again every few seconds in a task of its own, so that no request pays for it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::plan::windows_in;
use super::process::Process;
use super::{Engine, Shared};
use crate::core::{Intake, Key, PlannedWindow, Rest, Timestamp, Version, WindowState, Work, rest_of};
use crate::store::{Loaded, StoreError};
use crate::telemetry::event::EventKind;
use crate::util::backoff::jittered;
use crate::util::signal::lock;

/// The longest time until a process sees what another one planned.
const EVERY: Duration = Duration::from_secs(5);

/// Nothing was read yet.
const UNREAD: u8 = 0;
/// No window is planned.
const NONE: u8 = 1;
/// Some are.
const SOME: u8 = 2;

/// What a process knows of the windows.
#[derive(Debug)]
pub(crate) struct Windows {
    /// All that a request looks at while nothing is planned.
    state: AtomicU8,
    known: Mutex<Known>,
    /// How many looks ended, well or not.
    looks: watch::Sender<u64>,
    is_watched: AtomicBool,
    /// Asks for a look now.
    look_now: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    windows: Vec<PlannedWindow>,
    /// The store's time when they were read, and this process's own, which only measures how
    /// long ago that was: what its clock shows does not count.
    read: Option<(Timestamp, Instant)>,
    /// The windows that have begun here.
    begun: BTreeSet<String>,
    /// That the record can't be read was told.
    is_unreadable: bool,
}

/// The control record, as it was read.
pub(crate) struct Plan {
    pub(crate) windows: Vec<PlannedWindow>,
    pub(crate) version: Option<Version>,
    pub(crate) now: Timestamp,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(UNREAD),
            known: Mutex::default(),
            looks: watch::Sender::default(),
            is_watched: AtomicBool::new(false),
            look_now: Arc::default(),
        }
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        // The task finds nothing left to watch for.
        self.look_now.notify_one();
    }
}

impl Known {
    /// The store's time, by what it was and how long ago that is.
    fn now(&self) -> Option<Timestamp> {
        self.read.map(|(at, since)| at.after(since.elapsed()))
    }

    /// The windows that began and ended since this was last asked.
    fn turns(&mut self) -> Vec<EventKind> {
        let Some(now) = self.now() else { return Vec::new() };
        let mut turns = Vec::new();
        for PlannedWindow { id, window, .. } in self.windows.iter().filter(|planned| is_on(planned, now)) {
            if self.begun.insert(id.clone()) {
                let (window, reason, until) = (id.clone(), window.reason.clone(), window.until);
                turns.push(EventKind::MaintenanceBegun { window, reason, until });
            }
        }
        let goes_on = |id: &String| self.windows.iter().any(|planned| planned.id == *id && is_on(planned, now));
        let over: Vec<_> = self.begun.iter().filter(|id| !goes_on(id)).cloned().collect();
        for window in over {
            self.begun.remove(&window);
            turns.push(EventKind::MaintenanceEnded { window });
        }
        turns
    }
}

fn is_on(planned: &PlannedWindow, now: Timestamp) -> bool {
    matches!(planned.state(now), WindowState::RefusingNewWork | WindowState::Closed)
}

impl Engine {
    /// Whether `work` rests now. The first that asks waits until the windows were read; if they
    /// can't be read, work goes on, and fails at the same store.
    pub(crate) async fn rest_of(&self, work: Work<'_>) -> Option<Rest> {
        let windows = self.windows();
        if windows.state.load(Ordering::Acquire) == UNREAD {
            self.await_look().await;
        }
        self.watch_windows();
        let known = lock(&windows.known);
        known.now().and_then(|now| rest_of(&known.windows, work, now))
    }

    /// Whether nothing that works on the whole store may begin now.
    pub(crate) async fn is_closed(&self) -> bool {
        self.rest_of(Work::Store).await.is_some_and(|rest| rest.intake == Intake::Closed)
    }

    /// Whether [`rest_of`](Self::rest_of) has to be asked: one look at one number.
    #[inline]
    pub(crate) fn may_rest(&self) -> bool {
        self.windows().state.load(Ordering::Acquire) != NONE
    }

    /// Reads the windows, and goes by them from here on.
    pub(crate) async fn read_plan(&self) -> Result<Plan, StoreError> {
        let key = Key::of_control(super::plan::NAME);
        let Loaded { record, now } = self.look(&key).await?;
        let version = record.as_ref().map(|record| record.version());
        let plan = Plan { windows: windows_in(record.as_ref())?, version, now };
        self.go_by(&plan.windows, now);
        Ok(plan)
    }

    /// Goes by these windows from here on.
    pub(crate) fn go_by(&self, planned: &[PlannedWindow], now: Timestamp) {
        let windows = self.windows();
        let mut known = lock(&windows.known);
        known.windows = planned.to_vec();
        known.read = Some((now, Instant::now()));
        known.is_unreadable = false;
        windows.state.store(if known.windows.is_empty() { NONE } else { SOME }, Ordering::Release);
        drop(known);
        self.tell_turns();
    }

    fn tell_turns(&self) {
        let turns = lock(&self.windows().known).turns();
        turns.into_iter().for_each(|turn| self.emit_unkeyed(|| turn));
    }

    /// One look. What was read before holds if it fails.
    async fn look_at_windows(&self) {
        if let Err(error) = self.read_plan().await {
            let is_news =
                error.is_unreadable() && !std::mem::replace(&mut lock(&self.windows().known).is_unreadable, true);
            if is_news {
                self.emit(&Key::of_control(super::plan::NAME), || EventKind::Unreadable { error });
            }
            self.tell_turns();
        }
        self.windows().looks.send_modify(|looks| *looks = looks.wrapping_add(1));
    }

    /// Waits until a look has ended, well or not. All that come meanwhile wait for the same one.
    async fn await_look(&self) {
        let mut looks = self.windows().looks.subscribe();
        self.watch_windows();
        self.windows().look_now.notify_one();
        // The sender is ours.
        let _ = looks.changed().await;
    }

    /// Starts the task that looks every few seconds, unless it runs.
    fn watch_windows(&self) {
        let windows = self.windows();
        if windows.is_watched.load(Ordering::Relaxed) || windows.is_watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let watched = Watched(Arc::downgrade(&self.shared.process));
        tokio::spawn(watch(Arc::downgrade(&self.shared), Arc::clone(&windows.look_now), watched));
    }

    fn windows(&self) -> &Windows {
        &self.shared.process.windows
    }
}

/// That a task looks at the windows of this process, until it is dropped: at its end, or with
/// the runtime that it ran on.
struct Watched(Weak<Process>);

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(process) = self.0.upgrade() {
            process.windows.is_watched.store(false, Ordering::Release);
            process.windows.looks.send_modify(|looks| *looks = looks.wrapping_add(1));
        }
    }
}

/// Looks every few seconds, while there is an engine to look for. Between looks it holds none.
async fn watch(shared: Weak<Shared>, look_now: Arc<Notify>, watched: Watched) {
    while let Some(shared) = shared.upgrade() {
        Engine { shared }.look_at_windows().await;
        let _ = timeout(jittered(EVERY, 0.4, 1.0), look_now.notified()).await;
    }
    drop(watched);
}
