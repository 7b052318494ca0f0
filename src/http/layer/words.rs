//! What the layer says on the wire.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::IdempotencyLayer;
use crate::http::replay_mark::ReplayMark;
use crate::http::words::{HeaderFilter, InProgressStatus, KeyReusedStatus, Problem};

impl IdempotencyLayer {
    /// With which status a key that was used for a different request is refused: 422 by
    /// default (IETF draft §2.7).
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

    /// With which status a request is refused while the first one with its key is
    /// running: 409 by default (IETF draft §2.7).
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

    /// Has each response that the layer makes up itself, a problem (RFC 9457), pass
    /// through `hook`, which may say it in another form. It gets the response that the
    /// client would get otherwise, and gives the one that the client gets. Replays are
    /// no problems, and neither are responses of the handler. It is not asked for calls of
    /// [gRPC](Self::grpc_methods).
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
    /// // Ready made: the same members as plain JSON, and a line of text.
    /// # let base = layer;
    /// let layer = base.clone().problems(|problem, response| problem.json(response));
    /// let layer = base.problems(|problem, response| problem.plain_text(response));
    /// ```
    ///
    /// # Caveats
    ///
    /// A status of 2xx tells the client that the operation is done: do not make one of
    /// a problem. The head of each covered request is copied for the hook.
    pub fn problems(
        self,
        hook: impl Fn(&Problem<'_>, Response<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.set(|policy| policy.words.hook = Some(Arc::new(hook)))
    }

    /// What marks a replay: `Idempotent-Replayed: true` by default. The layer takes the
    /// same field out of the head of a handler's response.
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
    /// The mark replaces what a stored response says in a field of that name. Fields that
    /// have a meaning in HTTP are refused; those of your API are yours to know.
    pub fn replay_mark(self, mark: ReplayMark) -> Self {
        self.set(|policy| policy.words.replayed = mark)
    }

    /// Tells clients how much longer their key is remembered (IETF draft §2.3 asks to
    /// publish it): the header field `Idempotency-Expires-In` is on each response that is
    /// stored and on each replay. Its value is a number of whole seconds, on the store's
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
    /// A response that is still being saved when its client gets it, since the store was
    /// away, does not have the field. A [bounded memory
    /// store](crate::store::MemoryStore::max_entries) may drop a response earlier.
    pub fn tell_expiry(self) -> Self {
        self.set(|policy| policy.words.expiry = true)
    }

    /// Sends the key back, in the field and the form in which it came, with each
    /// response to a covered request whose key is valid; with replays and problems,
    /// too. By default the layer does not.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).echo_key();
    /// ```
    pub fn echo_key(self) -> Self {
        self.set(|policy| policy.words.echo = true)
    }

    /// Which header fields of a handler's response are stored, and so which ones
    /// retries get: by default all but those of the connection, of one delivery, and
    /// credentials, which are left out in any case. The first client gets all of them.
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
    /// Trailers are not looked at. What is stored already stays as it is, and what a
    /// handler stores itself by [`Operation::complete`](crate::Operation::complete) is
    /// stored as it gives it.
    pub fn replay_headers(self, filter: HeaderFilter) -> Self {
        self.set(|policy| policy.words.kept = Some(filter))
    }
}
