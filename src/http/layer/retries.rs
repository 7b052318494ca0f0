//! What the layer tells those that try again.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::IdempotencyLayer;
use crate::http::first_request::FirstRequest;
use crate::http::replay_hook::Replay;
use crate::http::retry_advice::RetryAdvice;

impl IdempotencyLayer {
    /// Says in a header field whether a retry with the same key may help, as Stripe's and
    /// Adyen's APIs do: a status does not tell whether a failure is stored. By default the
    /// layer does not say so.
    ///
    /// | response | the field says |
    /// |---|---|
    /// | a problem that a client may retry unchanged | `true` |
    /// | any other problem | `false` |
    /// | a failure of the handler that is stored, and its replays | `false` |
    /// | a failure that is not stored and that a retry resumes | `true`; in at-most-once mode `false` |
    /// | a failure that frees the key: 408, 425, 429, 5xx | `true` |
    /// | a failure that frees the key: any other 4xx | nothing: the client has to correct its request |
    /// | not a failure | nothing |
    ///
    /// If a handler sets this field itself, its value counts, and its replays have the same.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_idempotency::{IdempotencyLayer, RetryAdvice, Scope, store::MemoryStore};
    ///
    /// let advice = RetryAdvice::new(HeaderName::from_static("x-should-retry"))?;
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).retry_advice(advice);
    /// # Ok::<_, tower_idempotency::ReservedHeader>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// The layer stores the field with the response. So responses that were stored before you
    /// set this do not have it, nor do responses that a handler stores itself with
    /// [`Operation::complete`](crate::Operation::complete).
    pub fn retry_advice(self, advice: RetryAdvice) -> Self {
        self.set(|policy| policy.problems.advice = Some(advice))
    }

    /// Lets replays name the first request, by the id in the head of its response, as
    /// Stripe's API does. By default they do not.
    ///
    /// An id such as `X-Request-Id` belongs to one delivery, and the layer does not replay it,
    /// so that a replay may have another one.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_idempotency::{FirstRequest, IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let names = ["x-request-id", "x-first-request-id"].map(HeaderName::from_static);
    /// let [id, first] = names;
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .first_request(FirstRequest::new(id, first)?);
    /// # Ok::<_, tower_idempotency::ReservedHeader>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// The layer has to see the id: put the layer that sets it on first responses *inside*
    /// this one, and the layer that sets one on replays *outside*. A response that a handler
    /// stores with [`Operation::complete`](crate::Operation::complete) names no request.
    pub fn first_request(self, first: FirstRequest) -> Self {
        self.set(|policy| policy.words.first_request = Some(first))
    }

    /// Calls `hook` for each retry of a complete operation: for APIs that show the
    /// newest state, as PayPal's, or use another status. By default a retry gets the stored
    /// response, byte for byte (IETF draft §2.6).
    ///
    /// The hook gets the stored response and the retry's head, and returns the response
    /// that the client gets; the layer marks it as a replay. The layer does not call the hook
    /// for a response that was [not retained](crate::core::NotRetained), nor for
    /// [gRPC](Self::grpc_methods) calls; a [`StatusService`](crate::StatusService) does not
    /// call it either.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// # async fn current(_: &str) -> Option<bytes::Bytes> { None }
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).replay_with(
    ///     |replay| async move {
    ///         let location = replay.response().headers().get("location").and_then(|url| url.to_str().ok());
    ///         match current(location.unwrap_or_default()).await {
    ///             Some(order) => replay.into_response().map(|_| order),
    ///             // Deleted since: the stored response surprises the client least.
    ///             None => replay.into_response(),
    ///         }
    ///     },
    /// );
    /// ```
    ///
    /// # Caveats
    ///
    /// - If the operation succeeded and the hook returns a failure, the client may try again
    ///   under another key: respond with what has changed, not with a failure.
    /// - The hook runs for each retry, which counts under [`max_running`](Self::max_running)
    ///   unless it [waited](Self::wait). The layer sets no time limit for it. If the hook
    ///   panics, or returns a 1xx, the client gets the stored response.
    /// - Trailers stay as they are stored. `ETag` and the like may be wrong for another body.
    /// - The layer copies the head of each covered request for the hook.
    pub fn replay_with<Fut>(self, hook: impl Fn(Replay) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = Response<Bytes>> + Send + 'static,
    {
        self.set(|policy| policy.words.replay = Some(Arc::new(move |replay| Box::pin(hook(replay)))))
    }
}
