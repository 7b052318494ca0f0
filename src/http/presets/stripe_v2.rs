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
    /// Each of these can be set otherwise after it, but for the mode, and that a key counts
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
    /// It is for handlers that are written with steps ([`Operation`](crate::Operation)): what
    /// a handler does outside of them is done again after a failure. An operation that can't
    /// go on is `outcome-unknown`, until an operator decides.
    ///
    /// Keys of requests that were made before the preset was set are forgotten with it: they
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
