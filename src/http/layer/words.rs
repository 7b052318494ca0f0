//! How the layer words its responses.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::IdempotencyLayer;
use crate::http::replay_mark::ReplayMark;
use crate::http::words::{HeaderFilter, InProgressStatus, KeyReusedStatus, Problem};

impl IdempotencyLayer {
    /// The status for a key that was used for a different request: 422 by default (IETF
    /// draft §2.7).
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, KeyReusedStatus, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .key_reused_status(KeyReusedStatus::BadRequest);
    /// ```
    pub fn key_reused_status(self, status: KeyReusedStatus) -> Self {
        self.set(|policy| policy.problems.key_reused = status.code())
    }

    /// The status for a request while the first one with its key is running: 409 by
    /// default (IETF draft §2.7).
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, InProgressStatus, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .in_progress_status(InProgressStatus::Locked);
    /// ```
    pub fn in_progress_status(self, status: InProgressStatus) -> Self {
        self.set(|policy| policy.problems.in_progress = status.code())
    }

    /// Calls `hook` with each problem (RFC 9457), which is a response that the layer makes
    /// itself. The hook may give it another form: it gets the response that the client would
    /// get otherwise, and returns the one that the client gets. The layer does not call it for
    /// replays, for the handler's responses, or for [gRPC](Self::grpc_methods) calls.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{HeaderValue, Response, header::CONTENT_TYPE};
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .problems(|problem, mut response| {
    ///         response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.api+json"));
    ///         let error = format!(r#"{{"errors":[{{"code":"{}"}}]}}"#, problem.refusal().name());
    ///         response.map(|_| Bytes::from(error))
    ///     });
    /// // These come with the crate: the same members as plain JSON, and a line of text.
    /// # let base = layer;
    /// let layer = base.clone().problems(|problem, response| problem.json(response));
    /// let layer = base.problems(|problem, response| problem.plain_text(response));
    /// ```
    ///
    /// # Caveats
    ///
    /// A status of 2xx tells the client that the operation is done: do not turn a problem
    /// into one. The layer copies the head of each covered request for the hook.
    pub fn problems(
        self,
        hook: impl Fn(&Problem<'_>, Response<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.set(|policy| policy.words.hook = Some(Arc::new(hook)))
    }

    /// The field that marks a replay: `Idempotent-Replayed: true` by default. The layer removes
    /// the same field from the head of a handler's response.
    ///
    /// ```
    /// use http::{HeaderName, HeaderValue};
    /// use tower_idempotency::{IdempotencyLayer, ReplayMark, Scope, store::MemoryStore};
    ///
    /// let mark = ReplayMark::new(HeaderName::from_static("x-replay"), HeaderValue::from_static("1"))?;
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).replay_mark(mark);
    /// # Ok::<_, tower_idempotency::ReservedHeader>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// The mark replaces a field of that name in the stored response. `ReplayMark` refuses
    /// fields that have a meaning in HTTP, but it can't know those of your API.
    pub fn replay_mark(self, mark: ReplayMark) -> Self {
        self.set(|policy| policy.words.replayed = mark)
    }

    /// Tells clients how much longer the store remembers their key (IETF draft §2.3 asks
    /// servers to publish that): each stored response and each replay has the header field
    /// `Idempotency-Expires-In`. Its value is a number of whole seconds, on the store's
    /// clock. A request with the same key that comes later runs anew. By default the layer
    /// does not tell.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).tell_expiry();
    /// ```
    ///
    /// # Caveats
    ///
    /// If the store was unreachable and the layer is still saving a response when the client
    /// gets it, that response does not have the field, and neither does the first one of
    /// [`Operation::complete`](crate::Operation::complete). A [bounded memory
    /// store](crate::store::MemoryStore::max_entries) may drop a response earlier.
    pub fn tell_expiry(self) -> Self {
        self.set(|policy| policy.words.expiry = true)
    }

    /// Sends the key back, in the field and the form in which it came, with each
    /// response to a covered request with a valid key, including replays and problems.
    /// By default the layer does not.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).echo_key();
    /// ```
    pub fn echo_key(self) -> Self {
        self.set(|policy| policy.words.echo = true)
    }

    /// Which header fields of a handler's response the layer stores, and so which fields
    /// retries get. By default it stores all fields, except those of the connection, those of
    /// one delivery, and credentials, which it never stores. The first client gets all of them.
    ///
    /// ```
    /// use http::{HeaderName, header::LOCATION};
    /// use tower_idempotency::{HeaderFilter, IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .replay_headers(HeaderFilter::except([HeaderName::from_static("x-request-id")]));
    /// # let layer = layer.replay_headers(HeaderFilter::only([LOCATION]));
    /// ```
    ///
    /// # Caveats
    ///
    /// The filter does not apply to trailers, to responses that are already stored, and to
    /// responses that a handler stores itself with
    /// [`Operation::complete`](crate::Operation::complete).
    pub fn replay_headers(self, filter: HeaderFilter) -> Self {
        self.set(|policy| policy.words.kept = Some(filter))
    }
}
