//! Whose turn it is to write.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use tokio::task::coop::consume_budget;

use super::Attempt;
use crate::core::Record;
use crate::util::signal::lock;

/// The right to write, which one caller has at a time, with the record as the attempt last wrote
/// it. What its holder puts there is the record for the next one.
pub(super) struct Turn<A: Deref<Target = Attempt>> {
    attempt: A,
    record: Arc<Record>,
}

impl<A: Deref<Target = Attempt>> Turn<A> {
    fn taken(attempt: A) -> Self {
        let written = lock(&attempt.writer.current).take();
        let record = written.unwrap_or_else(|| Arc::new(attempt.claimed.clone()));
        Self { attempt, record }
    }
}

impl Attempt {
    /// Waits for the turn. Cancel safe.
    pub(super) async fn turn(&self) -> Turn<&Self> {
        self.wait_for_turn().await;
        Turn::taken(self)
    }

    /// The same for a caller that keeps it.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) async fn own_turn(self: &Arc<Self>) -> Turn<Arc<Self>> {
        self.wait_for_turn().await;
        Turn::taken(Arc::clone(self))
    }

    /// The turn, if no other caller has it.
    pub(super) fn try_turn(&self) -> Option<Turn<&Self>> {
        self.writer.turn.try_acquire().ok()?.forget();
        Some(Turn::taken(self))
    }

    /// The same for a caller that keeps it.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn try_own_turn(self: &Arc<Self>) -> Option<Turn<Arc<Self>>> {
        self.writer.turn.try_acquire().ok()?.forget();
        Some(Turn::taken(Arc::clone(self)))
    }

    async fn wait_for_turn(&self) {
        if let Ok(permit) = self.writer.turn.acquire().await {
            permit.forget();
        }
    }
}

impl<A: Deref<Target = Attempt>> Deref for Turn<A> {
    type Target = Arc<Record>;

    fn deref(&self) -> &Arc<Record> {
        &self.record
    }
}

impl<A: Deref<Target = Attempt>> DerefMut for Turn<A> {
    fn deref_mut(&mut self) -> &mut Arc<Record> {
        &mut self.record
    }
}

impl<A: Deref<Target = Attempt>> Drop for Turn<A> {
    fn drop(&mut self) {
        *lock(&self.attempt.writer.current) = Some(Arc::clone(&self.record));
        self.attempt.writer.turn.add_permits(1);
    }
}

/// Lets other tasks of this thread go on now and then, and the lease be renewed, as a wait for a
/// store does. After a step's write: before it, a caller that is dropped would leave nothing on record
/// of what it did.
pub(super) async fn leave_a_turn() {
    consume_budget().await;
}
