//! Maintenance windows: what this process knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::core::{PlannedWindow, Rest, Timestamp, WindowState, Work, rest_of};
use crate::telemetry::event::EventKind;
use crate::util::signal::lock;

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
    pub(super) looks: watch::Sender<u64>,
    /// Whether a task looks every few seconds.
    is_watched: AtomicBool,
    /// When that task was last at work, in milliseconds from `made`.
    heard: AtomicU64,
    made: Instant,
    /// Asks for a look now.
    pub(super) look_now: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    windows: Vec<PlannedWindow>,
    /// How often an operator changed each schedule.
    schedules: BTreeMap<String, u64>,
    /// The store's time when they were read, and this process's own, which only measures how
    /// long ago that was: what its clock shows does not count.
    read: Option<(Timestamp, Instant)>,
    /// The windows that have begun here.
    begun: BTreeSet<String>,
    /// That the record can't be read was told.
    is_unreadable: bool,
    /// Which task looks: how many there were.
    task: u64,
    /// How many plans that differ were read.
    plans: u64,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(UNREAD),
            known: Mutex::default(),
            looks: watch::Sender::default(),
            is_watched: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            made: Instant::now(),
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

impl Windows {
    pub(super) fn is_unread(&self) -> bool {
        self.state.load(Ordering::Acquire) == UNREAD
    }

    /// The number of the task that is to look from here on; `None` if one does.
    pub(super) fn begin_watch(&self) -> Option<u64> {
        if self.is_watched.load(Ordering::Acquire) {
            return None;
        }
        let mut known = lock(&self.known);
        if self.is_watched.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.hear();
        known.task += 1;
        Some(known.task)
    }

    /// This task has ended. An engine of this process may go on, with other settings or on
    /// another runtime: what was read is read anew before its next work. Returns whether it was
    /// this task that looked.
    pub(super) fn unwatch(&self, task: u64) -> bool {
        let known = lock(&self.known);
        let was_watching = known.task == task && self.is_watched.load(Ordering::Acquire);
        if was_watching {
            self.is_watched.store(false, Ordering::Release);
            self.state.store(UNREAD, Ordering::Release);
        }
        was_watching
    }

    /// Another task is to look: this one's runtime may be alive and not run it.
    pub(super) fn give_up(&self) {
        let task = lock(&self.known).task;
        let _ = self.unwatch(task);
    }

    /// Whether this is the task that looks.
    pub(super) fn is_watched_by(&self, task: u64) -> bool {
        lock(&self.known).task == task && self.is_watched.load(Ordering::Acquire)
    }

    /// The task that looks is at work.
    pub(super) fn hear(&self) {
        let heard = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(heard, Ordering::Release);
    }

    /// Whether nothing was heard of the task that looks for so long.
    #[inline]
    pub(super) fn is_silent(&self, longest: Duration, now: Instant) -> bool {
        let heard = Duration::from_millis(self.heard.load(Ordering::Acquire));
        now.saturating_duration_since(self.made).saturating_sub(heard) > longest
    }

    /// What was read before, or nothing, holds until a look succeeds.
    pub(super) fn set_read(&self) {
        self.state.store(SOME, Ordering::Release);
    }

    /// Whether work may rest: one look at one number.
    #[inline]
    pub(super) fn may_rest(&self) -> bool {
        self.state.load(Ordering::Acquire) != NONE
    }

    /// How many plans that differ were read.
    pub(super) fn plans(&self) -> u64 {
        lock(&self.known).plans
    }

    /// The store's time, by what was read last.
    pub(super) fn now(&self) -> Option<Timestamp> {
        lock(&self.known).now()
    }

    /// Whether `work` rests now, by what was read last.
    pub(super) fn rest_of(&self, work: Work<'_>) -> Option<Rest> {
        let known = lock(&self.known);
        known.now().and_then(|now| rest_of(&known.windows, work, now))
    }

    #[cfg(feature = "schedule")]
    pub(super) fn calls_of_schedule(&self, name: &str) -> u64 {
        lock(&self.known).schedules.get(name).copied().unwrap_or_default()
    }

    /// These windows count from here on, and this is the store's time.
    pub(super) fn set(&self, planned: &[PlannedWindow], schedules: BTreeMap<String, u64>, now: Timestamp) {
        let mut known = lock(&self.known);
        known.schedules = schedules;
        if known.windows != planned {
            known.windows = planned.to_vec();
            known.plans += 1;
        }
        known.read = Some((now, Instant::now()));
        known.is_unreadable = false;
        // What an operator read holds only while a task reads it anew.
        if self.is_watched.load(Ordering::Acquire) {
            self.state.store(if planned.is_empty() { NONE } else { SOME }, Ordering::Release);
        }
    }

    /// The record can't be read; whether that is news.
    pub(super) fn is_first_unreadable(&self) -> bool {
        !std::mem::replace(&mut lock(&self.known).is_unreadable, true)
    }

    /// The windows that began and ended since this was last asked.
    pub(super) fn turns(&self) -> Vec<EventKind> {
        lock(&self.known).turns()
    }

    /// A look has ended, well or not.
    pub(super) fn looked(&self) {
        self.looks.send_modify(|looks| *looks = looks.wrapping_add(1));
    }
}
