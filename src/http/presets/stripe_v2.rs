//! As Stripe's API v2 does it.

use std::time::Duration;

use http::Method;

use crate::engine::outcomes::Outcomes;
use crate::http::header::IDEMPOTENCY_KEY;
use crate::http::layer::IdempotencyLayer;
use crate::http::words::{InProgressStatus, KeyReusedStatus};

/// "Within 30 days of each other".
const RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl IdempotencyLayer {
    /// As [Stripe's API v2](https://docs.stripe.com/api-v2-overview) does it. It is short for
    ///
    /// - the key in `Idempotency-Key`, with POST and DELETE, which counts
    ///   [for one endpoint](crate::Scope::per_route);
    /// - [resumable](Self::resumable) mode: "if the first request failed (or partially
    ///   failed), the API re-executes the failed requests", from their last recovery point;
    /// - [success alone stored](Outcomes::success_only): after a failure a retry gets the new
    ///   response;
    /// - 400 for a key that was used for a different request, and 409 while the first
    ///   request runs;
    /// - a [retention](crate::Engine::retention) of 30 days, where it is less.
    ///
    /// You can override each of them after this call, except the mode, and that a key counts
    /// for one endpoint. [The guide](crate::guide::presets) has the presets side by side.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).stripe_v2();
    /// ```
    ///
    /// # Caveats
    ///
    /// It is for handlers that are written with steps ([`Operation`](crate::Operation)): after
    /// a failure, the retry repeats what a handler does outside its steps. Retries of an
    /// operation that can't continue get `outcome-unknown`, until an operator decides.
    ///
    /// After you set the preset, the layer no longer knows the keys of earlier requests: they
    /// counted for all endpoints.
    pub fn stripe_v2(self) -> Self {
        self.resumable()
            .key_headers([IDEMPOTENCY_KEY.clone()])
            .keys_per_route()
            .methods([Method::POST, Method::DELETE])
            .outcomes(Outcomes::success_only())
            .key_reused_status(KeyReusedStatus::BadRequest)
            .in_progress_status(InProgressStatus::Conflict)
            .retention_at_least(RETENTION)
    }
}
