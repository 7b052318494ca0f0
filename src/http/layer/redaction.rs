//! Hooks that remove parts of requests and responses before the layer stores them.

use std::sync::Arc;

use super::IdempotencyLayer;
use crate::http::redaction::{RequestToStore, ResponseToStore};

impl IdempotencyLayer {
    /// Calls `hook` with each request before the layer stores it. The hook may drop or replace
    /// header lines, body, trailers and target. The layer stores a request in resumable mode,
    /// and when it accepts one for the background. By default it stores the request as it came,
    /// except credentials: it leaves those out in any case, but the hook sees them.
    ///
    /// The layer takes the fingerprint before the hook runs: it compares a retry with what the
    /// client sent first. The attempt that a client waits for gets the request as it came. **A
    /// completer's attempt gets the stored request**, and so does each attempt of a background
    /// request, even the first. So leave in it what the handler needs, and let the handler
    /// find the rest by a reference.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .resumable()
    ///     .redact_request(|request| {
    ///         request.headers.remove("x-forwarded-for");
    ///         if request.uri.path() == "/cards" {
    ///             request.body = request.body.iter().map(|byte| if byte.is_ascii_digit() { b'*' } else { *byte }).collect();
    ///         }
    ///     });
    /// ```
    ///
    /// # Caveats
    ///
    /// The layer calls the hook on the path of each request that it may store, with a copy of
    /// the head. If the hook makes the request larger than [`request_limit`](Self::request_limit),
    /// or panics, the layer does not store the request: then only the client's retry continues
    /// the operation, the layer accepts nothing for the background, and emits
    /// [`RedactionFailed`](crate::EventKind::RedactionFailed).
    pub fn redact_request(self, hook: impl Fn(&mut RequestToStore<'_>) + Send + Sync + 'static) -> Self {
        self.set(|policy| policy.redaction.request = Some(Arc::new(hook)))
    }

    /// Calls `hook` with each response of the handler before the layer stores it. The hook may
    /// drop or replace header lines, body and trailers. The first client gets the response
    /// as the handler gave it. Retries, status resources and callbacks get the stored one. By
    /// default the layer stores all of it, except [some fields](Self::replay_headers).
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// /// In the extensions of a handler's response.
    /// #[derive(Clone)]
    /// struct Secret;
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .redact_response(|response| {
    ///         response.headers.remove("x-customer");
    ///         if response.extensions.get::<Secret>().is_some() {
    ///             // Retries get the problem `not-retained`.
    ///             response.body = None;
    ///         }
    ///     });
    /// ```
    ///
    /// # Caveats
    ///
    /// If the hook removes the body, or panics, the response is
    /// [not retained](crate::guide::problems#responses-that-are-not-retained), for the reason
    /// `redacted`; if it makes the response larger than
    /// [`response_limit`](Self::response_limit), for the reason `size-exceeded`. If the hook
    /// panics, the layer stores no header lines either, and emits
    /// [`RedactionFailed`](crate::EventKind::RedactionFailed). The layer may call the hook more
    /// than once for one response. It does not call the hook for responses that are already
    /// stored, nor for what a handler stores itself: results of steps, and responses of
    /// [`Operation::complete`](crate::Operation::complete).
    pub fn redact_response(self, hook: impl Fn(&mut ResponseToStore<'_>) + Send + Sync + 'static) -> Self {
        self.set(|policy| policy.redaction.response = Some(Arc::new(hook)))
    }
}
