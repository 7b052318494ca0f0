//! How many operations and callbacks are started, and how many run at once.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// How many operations one round starts.
pub(super) const MOST: usize = 1000;

/// Room for callbacks.
#[derive(Clone)]
pub(super) struct Calls {
    /// How many more may wait for a slot: each keeps its record in memory.
    pub(super) line: Arc<Semaphore>,
    /// How many more may be made.
    pub(super) slots: Arc<Semaphore>,
}

impl Calls {
    pub(super) fn new(concurrency: usize) -> Self {
        let slots = concurrency.min(Semaphore::MAX_PERMITS);
        Self { line: Arc::new(Semaphore::new(MOST.max(slots))), slots: Arc::new(Semaphore::new(slots)) }
    }

    /// Makes no more than those under way. What waits is left to others.
    pub(super) fn close(&self) {
        self.slots.close();
    }
}
