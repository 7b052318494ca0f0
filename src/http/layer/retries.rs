//! What the layer tells those that try again.

use super::IdempotencyLayer;
use crate::http::first_request::FirstRequest;
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
    /// | a failure of the handler's that is stored, and its replays | `false` |
    /// | one that is not, where a retry resumes | `true`; in at-most-once mode `false` |
    /// | one that frees the key: 408, 425, 429, 5xx | `true` |
    /// | one that frees the key: any other 4xx | nothing: the client has to mend its request |
    /// | no failure | nothing |
    ///
    /// What a handler says in this field itself counts more, and its replays say the same.
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
    /// It is stored with the response: what was stored before it was set says nothing. What a
    /// handler stores itself by [`Operation::complete`](crate::Operation::complete) is stored
    /// as it gives it.
    pub fn retry_advice(self, advice: RetryAdvice) -> Self {
        self.set(|policy| policy.problems.advice = Some(advice))
    }

    /// Lets replays name the first request, by the id in the head of its response, as
    /// Stripe's API does. By default they do not.
    ///
    /// An id such as `X-Request-Id` is of one delivery, and not replayed, so that a replay
    /// may have one of its own.
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
    /// The layer has to see the id: what sets it on the response of a first request stands
    /// *inside* of this layer, and what sets one on replays *outside*. A response that is
    /// stored by [`Operation::complete`](crate::Operation::complete) names none.
    pub fn first_request(self, first: FirstRequest) -> Self {
        self.set(|policy| policy.words.first_request = Some(first))
    }
}
