//! Which responses are streams.

use std::time::Duration;

use super::IdempotencyLayer;

impl IdempotencyLayer {
    /// How long the layer holds a response back before it counts as a stream: 5 seconds by
    /// default, from when the layer first has to wait for its body. Until then the layer reads
    /// the body in order to keep it. After that the client gets what there is and the rest as it
    /// comes, and the response is not retained. With zero, the layer keeps only a body that is
    /// available at once.
    ///
    /// The layer never waits for event streams (`text/event-stream`). A handler that knows that
    /// it streams marks the response with [`Streaming`](crate::Streaming), and the layer does
    /// not hold it back at all.
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
    /// The client gets nothing meanwhile, not even the head: keep this time shorter than the
    /// time-outs of clients and proxies. The holder renews its lease while the layer waits.
    pub fn stream_after(self, pause: Duration) -> Self {
        self.set(|policy| policy.stream_after = pause)
    }
}
