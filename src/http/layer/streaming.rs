//! Which responses are streams.

use std::time::Duration;

use super::IdempotencyLayer;

impl IdempotencyLayer {
    /// How long a response is held back before it counts as a stream: 5 seconds by default,
    /// from when its body first has to be waited for. Until then all of it is read, so that
    /// it can be kept; after that its client gets what there is and the rest as it comes,
    /// and it is not retained. With zero, only a body that is there at once is kept.
    ///
    /// Event streams (`text/event-stream`) are not waited for in any case. A handler that
    /// knows that it streams says so by [`Streaming`](crate::Streaming), and is not held
    /// back at all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .stream_after(Duration::from_secs(30));
    /// ```
    ///
    /// # Caveats
    ///
    /// The client gets nothing meanwhile, not even the head: keep it shorter than the
    /// time-outs of clients and proxies. The lease is renewed while the layer waits.
    pub fn stream_after(self, pause: Duration) -> Self {
        self.set(|policy| policy.stream_after = pause)
    }
}
