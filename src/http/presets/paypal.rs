//! As PayPal's REST APIs do it.

use bytes::Bytes;
use http::{HeaderName, Response, StatusCode};

use crate::http::layer::IdempotencyLayer;
use crate::http::replay_hook::Replay;
use crate::http::words::{InProgressStatus, KeyReusedStatus};

const REQUEST_ID: HeaderName = HeaderName::from_static("paypal-request-id");

impl IdempotencyLayer {
    /// As [PayPal's REST APIs](https://developer.paypal.com/api/rest/reference/idempotency/)
    /// do it. It is short for
    ///
    /// - the key in `PayPal-Request-Id`, which counts
    ///   [for one endpoint](crate::Scope::per_route); a request without one runs each time;
    /// - 422 for a key that was used for a different request, and 409 while the first
    ///   request runs;
    /// - 200 for a replay of a 201 ([`replay_with`](Self::replay_with)).
    ///
    /// You can override each of them after this call, except that a key counts for one endpoint.
    /// [The guide](crate::guide::presets) has the presets side by side.
    ///
    /// PayPal responds with "the latest status of the previous request". Your
    /// own [`replay_with`](Self::replay_with) hook can look that up.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).paypal();
    /// ```
    ///
    /// # Caveats
    ///
    /// After you set the preset, the layer no longer knows the keys of earlier requests: they
    /// counted for all endpoints.
    pub fn paypal(self) -> Self {
        self.key_headers([REQUEST_ID])
            .keys_per_route()
            .key_reused_status(KeyReusedStatus::UnprocessableContent)
            .in_progress_status(InProgressStatus::Conflict)
            .replay_with(|replay| std::future::ready(not_created(replay)))
    }
}

/// What was created before is there, and is not created now.
fn not_created(replay: Replay) -> Response<Bytes> {
    let mut response = replay.into_response();
    if response.status() == StatusCode::CREATED {
        *response.status_mut() = StatusCode::OK;
    }
    response
}
