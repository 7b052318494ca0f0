//! What of requests that are repeated late, or can't be guarded.

use http::HeaderName;

use super::IdempotencyLayer;
use crate::http::acceptance::AcceptanceMark;

impl IdempotencyLayer {
    /// Asks of requests with a key that they say, in this header field, when they were first
    /// sent: an HTTP date in its preferred form (IMF-fixdate, RFC 9110 §5.6.7), of the first
    /// try, in each retry. By default the layer does not ask.
    ///
    /// It closes the hole that a retention leaves. By default a retry runs anew that comes
    /// after its response was forgotten. With this setting a request that was first sent
    /// longer ago than the [retention](crate::Engine::retention), and of which nothing is on
    /// record, is refused: 412 `too-old`. What is on record is replayed, or goes on.
    ///
    /// A key without the time, the time without a key, and a time in another form are
    /// refused: 400 `first-sent-invalid`. Such refusals run and store nothing (OASIS Repeatable
    /// Requests 1.0 §5).
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .first_sent(HeaderName::from_static("x-first-sent"));
    /// ```
    ///
    /// # Caveats
    ///
    /// - Each request with a key costs one more read of the store.
    /// - The time is the client's, and is compared with the store's clock: a client that is
    ///   ahead of that by an hour can repeat within that hour after its response was forgotten.
    /// - A [`Retention`](crate::Retention) of a response that is shorter than the engine's
    ///   leaves the hole for the rest of that.
    /// - It does not count towards what makes two requests the same.
    pub fn first_sent(self, name: HeaderName) -> Self {
        self.set(|policy| policy.coverage.first_sent = Some(name))
    }

    /// Refuses requests that carry a key in a header and that the layer does not guard:
    /// 501 `not-guarded`. They are of a [method](Self::methods) that is not covered,
    /// [skipped](Self::skip), or calls of gRPC that are not [named](Self::grpc_methods). By
    /// default they pass, and run each time; then the key is a promise that is not kept.
    ///
    /// `GET`, `HEAD`, `OPTIONS`, `TRACE` and `CONNECT` pass in any case, with whatever key
    /// (OASIS Repeatable Requests 1.0 §5). So does what the handler of a guarded request sends
    /// on to this layer.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).refuse_unguarded();
    /// ```
    pub fn refuse_unguarded(self) -> Self {
        self.set(|policy| policy.coverage.refuses_unguarded = true)
    }

    /// Says in a header field of each response to a request with a key whether it was taken
    /// (OASIS Repeatable Requests 1.0 §3.2.1). By default the layer does not say so.
    ///
    /// *Rejected* means that this request did nothing: any problem does, but for
    /// `interrupted`, `outcome-unknown` and `not-retained`. All else is *accepted*, also a
    /// failure of the handler's, which tells a 501 of its own from the layer's.
    ///
    /// ```
    /// use http::{HeaderName, HeaderValue};
    /// use tower_idempotency::{AcceptanceMark, IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let [yes, no] = ["yes", "no"].map(HeaderValue::from_static);
    /// let mark = AcceptanceMark::new(HeaderName::from_static("x-taken"), yes, no)?;
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).acceptance_mark(mark);
    /// # Ok::<_, tower_idempotency::ReservedHeader>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// It replaces what a handler says in this field. An error of the inner service is no
    /// response, and says nothing.
    pub fn acceptance_mark(self, mark: AcceptanceMark) -> Self {
        self.set(|policy| policy.words.acceptance = Some(mark))
    }
}
