//! What of requests and responses is not stored as it came.

use std::sync::Arc;

use super::IdempotencyLayer;
use crate::http::redaction::{RequestToStore, ResponseToStore};

impl IdempotencyLayer {
    /// Has each request pass through `hook` before it is stored, which may drop or replace its
    /// header lines, body, trailers and target. A request is stored in resumable mode, and
    /// where it is accepted for later. By default it is stored as it came, less credentials,
    /// which are left out in any case and which the hook sees.
    ///
    /// The fingerprint is taken before: a retry is compared with what the client sent first.
    /// The attempt that its client waits for gets the request as it came. **A completer's
    /// attempt gets what is stored**, and so does each attempt at what was accepted for
    /// later, the first one, too. So leave in it what the handler needs, and have the handler
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
    /// The hook is on the path of each request that may be stored, and gets a copy of its
    /// head. What it makes larger than [`request_limit`](Self::request_limit) is not stored, and
    /// neither is a request whose hook panics: then only a retry of the client goes on with
    /// the operation, nothing is accepted for later, and
    /// [`RedactionFailed`](crate::EventKind::RedactionFailed) is told.
    pub fn redact_request(self, hook: impl Fn(&mut RequestToStore<'_>) + Send + Sync + 'static) -> Self {
        self.set(|policy| policy.redaction.request = Some(Arc::new(hook)))
    }

    /// Has each response of the handler pass through `hook` before it is stored, which may drop
    /// or replace its header lines, body and trailers. The first client gets the response
    /// as the handler gave it. Retries, status resources and callbacks get what is stored. By
    /// default it is stored as it came, less what is [left out](Self::replay_headers).
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
    ///             // Retries are told that it is not retained.
    ///             response.body = None;
    ///         }
    ///     });
    /// ```
    ///
    /// # Caveats
    ///
    /// A body that the hook takes away, or whose hook panics, is
    /// [not retained](crate::guide::problems#responses-that-are-not-retained), for the reason
    /// `redacted`, and one that it makes larger than [`response_limit`](Self::response_limit) for
    /// `size-exceeded`. A hook that panics loses the header lines, too, and
    /// [`RedactionFailed`](crate::EventKind::RedactionFailed) is told. It may be called more
    /// than once for one response. What is stored already stays as it is, and what a
    /// handler stores itself is stored as it gives it: results of steps, and responses of
    /// [`Operation::complete`](crate::Operation::complete).
    pub fn redact_response(self, hook: impl Fn(&mut ResponseToStore<'_>) + Send + Sync + 'static) -> Self {
        self.set(|policy| policy.redaction.response = Some(Arc::new(hook)))
    }
}
