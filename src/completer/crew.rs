//! Work that is claimed by the very write that accepts it, while a completer of
//! this process has room for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::Completer;
use super::round::{Keys, Round};
use crate::core::{Fence, Key, Record};
use crate::run::disown_later;
use crate::sync::lock;

/// Where a completer that runs says so, and what is accepted finds it. Shared by
/// all clones of a layer.
#[derive(Debug, Default)]
pub(crate) struct Desk(Mutex<Option<Arc<Crew>>>);

/// A completer that runs.
#[derive(Debug)]
struct Crew {
    completer: Completer,
    /// How many operations it may run besides those that run.
    slots: Arc<Semaphore>,
    /// What it runs.
    keys: Keys,
    /// `None` once it has stopped.
    tasks: Mutex<Option<JoinSet<()>>>,
}

/// Room for one operation.
#[derive(Debug)]
pub(crate) struct Slot {
    crew: Arc<Crew>,
    permit: OwnedSemaphorePermit,
}

/// Keeps a crew at its desk.
#[derive(Debug)]
pub(super) struct Shift(Arc<Crew>);

impl Desk {
    /// Room for one operation, if somebody has it.
    pub(crate) fn slot(&self) -> Option<Slot> {
        // One that does not know yet whether its service leads to the layer finds
        // that out before it claims anything.
        let crew = lock(&self.0).clone().filter(|crew| crew.completer.wiring.is_proven())?;
        let permit = Arc::clone(&crew.slots).try_acquire_owned().ok()?;
        Some(Slot { crew, permit })
    }
}

impl Slot {
    /// How long the claim is to hold: whoever runs it renews it.
    pub(crate) fn lease(&self) -> Duration {
        self.crew.completer.shared.policy.lease
    }

    /// Runs what was claimed, in a task of the completer's.
    pub(crate) fn run(self, key: Key, fence: Fence, record: Record) {
        let Self { crew, permit } = self;
        let completer = crew.completer.clone();
        if let Some(tasks) = &mut *lock(&crew.tasks) {
            while tasks.try_join_next().is_some() {}
            let running = crew.keys.enter(key);
            tasks.spawn(async move {
                completer.run_claimed(key, fence, record).await;
                drop((running, permit));
            });
            return;
        }
        // It was cut off meanwhile. Nothing has run, so that somebody else may.
        disown_later(&completer.shared.ledger, key, fence, completer.shared.policy.lease);
    }
}

impl Completer {
    /// From now on it is handed what is accepted, while there are slots.
    pub(super) fn on_shift(&self, round: &Round) -> Shift {
        let tasks = Mutex::new(Some(JoinSet::new()));
        let (slots, keys) = (Arc::clone(&round.slots), round.keys.clone());
        let crew = Arc::new(Crew { completer: self.clone(), slots, keys, tasks });
        *lock(&self.shared.desk.0) = Some(Arc::clone(&crew));
        Shift(crew)
    }
}

impl Shift {
    /// Takes nothing more.
    pub(super) fn close(&self) {
        let mut desk = lock(&self.0.completer.shared.desk.0);
        if desk.as_ref().is_some_and(|crew| Arc::ptr_eq(crew, &self.0)) {
            *desk = None;
        }
    }
}

/// What still runs is cut off.
impl Drop for Shift {
    fn drop(&mut self) {
        self.close();
        let tasks = lock(&self.0.tasks).take();
        drop(tasks);
    }
}
