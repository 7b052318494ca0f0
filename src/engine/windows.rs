//! Maintenance windows: what this process knows of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

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
    pub(super) is_watched: AtomicBool,
    /// Asks for a look now.
    pub(super) look_now: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    windows: Vec<PlannedWindow>,
    /// How often an operator changed each schedule.
    #[cfg_attr(not(feature = "schedule"), expect(dead_code, reason = "a schedule asks"))]
    schedules: BTreeMap<String, u64>,
    /// The store's time when they were read, and this process's own, which only measures how
    /// long ago that was: what its clock shows does not count.
    read: Option<(Timestamp, Instant)>,
    /// The windows that have begun here.
    begun: BTreeSet<String>,
    /// That the record can't be read was told.
    is_unreadable: bool,
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

impl Windows {
    pub(super) fn is_unread(&self) -> bool {
        self.state.load(Ordering::Acquire) == UNREAD
    }

    /// The task that looks has ended. An engine of this process may go on, with other settings
    /// or on another runtime: what was read is read anew before its next work.
    pub(super) fn unwatch(&self) {
        let _known = lock(&self.known);
        self.is_watched.store(false, Ordering::Release);
        self.state.store(UNREAD, Ordering::Release);
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

    /// Whether `work` rests now, by what was read last.
    pub(super) fn rest_of(&self, work: Work<'_>) -> Option<Rest> {
        let known = lock(&self.known);
        known.now().and_then(|now| rest_of(&known.windows, work, now))
    }

    /// The store's time, as far as this process knows it.
    #[cfg(feature = "schedule")]
    pub(super) fn now(&self) -> Option<Timestamp> {
        lock(&self.known).now()
    }

    #[cfg(feature = "schedule")]
    pub(super) fn calls_of_schedule(&self, name: &str) -> u64 {
        lock(&self.known).schedules.get(name).copied().unwrap_or_default()
    }

    /// These windows count from here on, and this is the store's time.
    pub(super) fn set(&self, planned: &[PlannedWindow], schedules: BTreeMap<String, u64>, now: Timestamp) {
        let mut known = lock(&self.known);
        known.windows = planned.to_vec();
        known.schedules = schedules;
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
