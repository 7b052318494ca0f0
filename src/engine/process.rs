//! What one process knows of its operations besides what the store has.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use crate::core::Key;
use crate::engine::drain::Drain;
use crate::engine::outage::Outage;
use crate::engine::unpersisted::UnpersistedResponses;
use crate::engine::waiting::Waiting;
use crate::engine::windows::Windows;
use crate::util::signal::{Alarm, Hints, lock};

/// How many claims of unknown outcome are withdrawn at once. A store that is
/// away must not fill the process with tasks that wait for it.
const WITHDRAWING: usize = 256;

/// Shared by all engines that were made of one.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) withdrawing: Arc<Semaphore>,
    /// Rings when an operation that this process released falls due.
    pub(crate) due: Alarm,
    /// What this process has for a completer: accepted, or ended and with a callback
    /// to be made.
    pub(crate) accepted: Hints<Key>,
    /// Responses that could not be stored.
    pub(crate) unpersisted: UnpersistedResponses,
    /// What this process still runs, or still has to save.
    pub(crate) in_hand: Arc<InHand>,
    /// Requests that wait for the end of what runs.
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) drain: Drain,
    pub(crate) windows: Windows,
    pub(crate) outage: Arc<Outage>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            withdrawing: Arc::new(Semaphore::new(WITHDRAWING)),
            due: Alarm::default(),
            accepted: Hints::default(),
            unpersisted: UnpersistedResponses::default(),
            in_hand: Arc::default(),
            waiting: Arc::default(),
            drain: Drain::default(),
            windows: Windows::default(),
            outage: Arc::default(),
        }
    }
}

/// Operations that this process still runs, or still has to save the end of, and that
/// may have outlived their lease. Each belongs to a task that goes on with it, so that
/// their number is that of those tasks.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    /// Most of the time there are none, and no lock has to be taken.
    count: AtomicUsize,
    keys: Mutex<HashMap<Key, usize>>,
}

/// One of those operations, until it is dropped.
#[derive(Debug)]
pub(crate) struct InHandGuard(Arc<InHand>, Key);

impl InHand {
    pub(crate) fn take(self: &Arc<Self>, key: Key) -> InHandGuard {
        *lock(&self.keys).entry(key).or_default() += 1;
        self.count.fetch_add(1, Ordering::Release);
        InHandGuard(Arc::clone(self), key)
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.count.load(Ordering::Acquire) > 0 && lock(&self.keys).contains_key(key)
    }
}

impl Drop for InHandGuard {
    fn drop(&mut self) {
        let mut keys = lock(&self.0.keys);
        if let Some(hands) = keys.get_mut(&self.1) {
            *hands -= 1;
            if *hands == 0 {
                keys.remove(&self.1);
            }
        }
        self.0.count.fetch_sub(1, Ordering::Release);
    }
}
