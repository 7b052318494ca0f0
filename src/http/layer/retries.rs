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

    /// Asks `hook` what a retry gets once the operation is complete: for APIs that show the
    /// newest state, as PayPal's, or have another status for it. By default it is the stored
    /// response, byte for byte (IETF draft §2.6).
    ///
    /// The hook gets the stored response, and what the retry's head says, and gives the one
    /// that the client gets. That is marked as a replay. It is not asked for a response that
    /// was [not retained](crate::core::NotRetained), for calls of
    /// [gRPC](Self::grpc_methods), and by [`StatusService`](crate::StatusService).
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
    /// - A retry that gets a failure where the operation succeeded may be tried again under
    ///   another key: say what is different, and not that it failed.
    /// - It runs for each retry, under a place of [`max_running`](Self::max_running) unless the
    ///   retry [waited](Self::wait), and without a time limit of its own. If it panics, or
    ///   gives a 1xx, the client gets the stored response.
    /// - Trailers stay as they are stored. `ETag` and the like may be wrong for another body.
    /// - The head of each covered request is copied for it.
    pub fn replay_with<Fut>(self, hook: impl Fn(Replay) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = Response<Bytes>> + Send + 'static,
    {
        self.set(|policy| policy.words.replay = Some(Arc::new(move |replay| Box::pin(hook(replay)))))
    }
}
