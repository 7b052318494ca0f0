//! What the duplicate of a running request gets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::IdempotencyLayer;

impl IdempotencyLayer {
    /// Lets a duplicate wait up to `limit` for the response to the running request. By
    /// default, and with a limit of zero, the layer refuses a duplicate at once: 409
    /// `in-progress`, as in the IETF draft §2.6. After the limit it gets the same.
    ///
    /// A duplicate that waits never runs itself. It gets the one response, marked as a replay,
    /// even if that response is not stored. The holder's process wakes the duplicates that wait
    /// there. For an operation of another process, one of the waiting duplicates asks the store,
    /// with pauses from 50 ms to 2 seconds.
    /// A client lowers its limit with `Prefer: wait=N`, in seconds (RFC 7240 §4.3).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .wait(Duration::from_secs(10))
    ///     .max_waiting(1_000);
    /// ```
    ///
    /// # Caveats
    ///
    /// Time-outs of clients and proxies have to be longer. A request that waits keeps
    /// its connection but no body, and does not count under
    /// [`max_running`](Self::max_running), or under a limit further in.
    pub fn wait(self, limit: Duration) -> Self {
        self.set(|policy| policy.wait = Some(limit).filter(|limit| !limit.is_zero()))
    }

    /// How many requests may [`wait`](Self::wait) at once, over all clones of this layer:
    /// 10,000 by default. The layer refuses more at once: 409 `in-progress`.
    pub fn max_waiting(self, requests: usize) -> Self {
        let permits = requests.min(Semaphore::MAX_PERMITS);
        self.set(|policy| policy.waiting = Arc::new(Semaphore::new(permits)))
    }
}
