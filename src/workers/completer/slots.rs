//! Work that is claimed by the very write that accepts it, while a completer of
//! this process has room for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Completer;
use super::round::Round;
use crate::core::{Fence, Key, Record};
use crate::engine::claim::withdraw_claim;
use crate::engine::handoff::{Driver, Room};
use crate::engine::shares::{ScopeTag, Shares};
use crate::util::signal::lock;
use crate::workers::running::Keys;

/// A completer that runs.
#[derive(Debug)]
struct WorkerSlots {
    completer: Completer,
    /// How many operations it may run besides those that run.
    slots: Arc<Semaphore>,
    shares: Option<Shares>,
    /// What it runs.
    keys: Keys,
    /// `None` once it has stopped.
    tasks: Mutex<Option<JoinSet<()>>>,
}

/// Keeps the completer registered.
#[derive(Debug)]
pub(super) struct Registration(Arc<WorkerSlots>);

impl Driver for WorkerSlots {
    fn room(&self, scope: Option<ScopeTag>) -> Option<Room> {
        // One that does not know yet whether its service leads to the layer finds
        // that out before it claims anything.
        if !self.completer.wiring.is_proven() {
            return None;
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let share = match &self.shares {
            Some(shares) => Some(shares.take(scope.unwrap_or(ScopeTag::UNKNOWN))?),
            None => None,
        };
        Some(Room::new(slot, share))
    }

    fn lease(&self) -> Duration {
        self.completer.shared.engine.limits().lease
    }

    fn drive(&self, key: Key, fence: Fence, record: Record, room: Room) {
        let completer = self.completer.clone();
        if let Some(tasks) = &mut *lock(&self.tasks) {
            while tasks.try_join_next().is_some() {}
            let running = self.keys.enter(key);
            let counted = completer.shared.engine.go_on();
            tasks.spawn(async move {
                completer.run_claimed(key, fence, record).await;
                drop((running, room, counted));
            });
            return;
        }
        // It was cut off meanwhile. Nothing has run, so another attempt may.
        withdraw_claim(&completer.shared.engine, key, fence, completer.shared.engine.limits().lease);
    }
}

impl Completer {
    /// From now on it is handed what is accepted, while there are slots.
    pub(super) fn register(&self, round: &Round) -> Registration {
        let tasks = Mutex::new(Some(JoinSet::new()));
        let (slots, shares, keys) = (Arc::clone(&round.slots), round.shares.clone(), round.keys.clone());
        let slots = Arc::new(WorkerSlots { completer: self.clone(), slots, shares, keys, tasks });
        self.shared.handoff.register(Arc::clone(&slots) as _);
        Registration(slots)
    }
}

impl Registration {
    /// Takes nothing more.
    pub(super) fn close(&self) {
        let driver: Arc<dyn Driver> = Arc::clone(&self.0) as _;
        self.0.completer.shared.handoff.unregister(&driver);
    }
}

/// What still runs is cut off.
impl Drop for Registration {
    fn drop(&mut self) {
        self.close();
        let tasks = lock(&self.0.tasks).take();
        drop(tasks);
    }
}
