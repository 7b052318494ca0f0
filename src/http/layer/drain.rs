//! The end of a process that serves.

use std::time::Duration;

use super::IdempotencyLayer;
use crate::telemetry::drained::Drained;

impl IdempotencyLayer {
    /// Lets what runs come to its end before the process does, and begins nothing new.
    ///
    /// From its first poll on, a request whose operation would begin or be resumed gets 503
    /// [`draining`](crate::Refusal::Draining) with `Retry-After`. Retries of what is complete
    /// get its response, and those of what runs 409, as ever; status resources go on.
    /// Handlers finish, those whose client has hung up too, and so do the
    /// [`Completer`](crate::Completer)'s operations, late saves, and callbacks that are being
    /// made. A completer and a [`Runner`](crate::Runner) of the same engine take nothing new,
    /// and [`Completer::run`](crate::Completer::run) returns.
    ///
    /// It resolves once all that has ended, or once `deadline` is over, and says what was left.
    /// Nothing is stopped by it: that the process ends does. Then a resumable operation is
    /// resumed by another process once its lease is over, and of an at-most-once one the
    /// outcome is unknown.
    ///
    /// ```
    /// use std::time::Duration;
    /// use axum::{Router, routing::post};
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// # async fn sigterm() {}
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared());
    /// let app: Router = Router::new().route("/payments", post(|| async { "paid" })).layer(layer.clone());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(async move {
    ///         sigterm().await;
    ///         println!("{}", layer.drain(Duration::from_secs(20)).await);
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// [The guide](crate::guide::deploys) has the order of what to switch off, with signals,
    /// hyper and Kubernetes.
    ///
    /// Called again, from a clone too, it is the same drain with the same end: of several
    /// deadlines the earliest counts. There is no way back.
    ///
    /// # Cancellation
    ///
    /// Lazy: dropped before it is polled, nothing happens. Dropped after that, the drain goes
    /// on; a later call waits for its end, and tells it.
    ///
    /// # Caveats
    ///
    /// - It is about this process and this engine. Layers of other engines have drains of
    ///   their own.
    /// - Requests that are not guarded pass as ever. So do those that a running handler makes
    ///   with the request that it got, since they belong to it; those that it makes without
    ///   are refused.
    /// - A duplicate that [waits](Self::wait) for what runs here goes on waiting; one that waits
    ///   for another process gets 503 `draining`.
    /// - Of a handler that has blocked its thread since it was called, the drain counts that it
    ///   runs, and can't say which it is.
    pub fn drain(&self, deadline: Duration) -> impl Future<Output = Drained> + Send + use<> {
        self.shared.engine.drain(deadline)
    }

    /// Whether a [drain](Self::drain) has begun: for the readiness of a service, say.
    pub fn is_draining(&self) -> bool {
        self.shared.engine.is_draining()
    }
}
