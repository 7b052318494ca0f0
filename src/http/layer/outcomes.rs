//! How responses count.

use super::IdempotencyLayer;
use crate::engine::outcomes::Outcomes;

impl IdempotencyLayer {
    /// How a response counts that its handler does not mark: see [`Outcomes`], which has the
    /// tables. By default as [`Outcome`](crate::Outcome) says.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Outcomes, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .outcomes(Outcomes::free_validation_failures());
    /// ```
    pub fn outcomes(self, outcomes: Outcomes) -> Self {
        self.set(|policy| policy.outcomes = outcomes)
    }
}
