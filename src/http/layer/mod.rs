//! The layer, and what can be set about it.

mod cors;
mod coverage;
mod drain;
mod fingerprint;
mod grpc;
mod outcomes;
mod redaction;
mod repeatability;
mod retries;
mod streaming;
mod waiting;
pub(crate) mod webhooks;
mod whose;
mod words;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tower_layer::Layer;

use crate::core::Mode;
use crate::engine::Engine;
use crate::http::background::Background;
use crate::http::callback::Callback;
use crate::http::guarded::Shared;
use crate::http::policy::Policy;
use crate::http::scope::Scope;
use crate::http::service::Idempotency;

/// Makes the services it wraps idempotent, for requests that carry an
/// `Idempotency-Key`.
///
/// See the [crate docs](crate) for an example, and [`Scope`] for the choice
/// the constructor asks for.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{Engine, IdempotencyLayer, Scope, store::MemoryStore};
///
/// // A store alone will do. An engine is for other leases and retentions, and for an
/// // observer.
/// let engine = Engine::new(MemoryStore::new())
///     .retention(Duration::from_secs(7 * 24 * 60 * 60))
///     .on_event(|event| eprintln!("{event:?}"));
/// let layer = IdempotencyLayer::new(engine, Scope::extension::<u64>()).resumable().required();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct IdempotencyLayer {
    shared: Arc<Shared>,
}

impl IdempotencyLayer {
    /// A layer over this store, or over the store of this [`Engine`], in at-most-once
    /// mode, for `POST` and `PATCH`: requests of other [methods](Self::methods) pass.
    ///
    /// It starts a handler at most once for one key, unless the response means that the
    /// handler did not start or that nothing happened. [`Outcome`] lists the
    /// statuses that mean so.
    ///
    /// [`Outcome`]: crate::Outcome
    pub fn new(engine: impl Into<Engine>, scope: Scope) -> Self {
        let (engine, policy) = (engine.into(), Policy::new(scope));
        Self { shared: Arc::new(Shared { engine, policy, handoff: Arc::default() }) }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn set(mut self, set: impl FnOnce(&mut Policy)) -> Self {
        set(&mut Arc::make_mut(&mut self.shared).policy);
        self
    }

    /// Remembers responses for this long at least, whatever the engine says.
    pub(crate) fn retention_at_least(mut self, retention: Duration) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        shared.engine = shared.engine.clone().retention_at_least(retention);
        self
    }

    /// A key counts for one endpoint.
    pub(crate) fn keys_per_route(self) -> Self {
        self.set(|policy| policy.scope = policy.scope.clone().per_route())
    }

    /// For handlers that are written with steps ([`Operation`](crate::Operation)): after a
    /// crash, the next attempt runs the handler again, from its last recovery point.
    ///
    /// # Caveats
    ///
    /// Every attempt repeats what a handler does outside its steps.
    pub fn resumable(self) -> Self {
        self.set(|policy| policy.mode = Mode::Resumable)
    }

    /// The largest request body, in bytes and with its trailers: 2 MiB by
    /// default, 413 above.
    pub fn request_limit(self, bytes: usize) -> Self {
        self.set(|policy| policy.request_limit = bytes)
    }

    /// The largest response body that the layer keeps, in bytes and with its trailers:
    /// 2 MiB by default. It delivers larger ones and does not retain them; the same goes for
    /// [streams](Self::stream_after). It reads any other body to its end before the client gets
    /// the first byte; framing and end stay as without the layer.
    ///
    /// If the layer does not retain the first response, its head says so, and so does the
    /// response to each retry: see
    /// [the guide](crate::guide::problems#responses-that-are-not-retained).
    pub fn response_limit(self, bytes: usize) -> Self {
        self.set(|policy| policy.response_limit = bytes)
    }

    /// How many guarded requests may run at once, over all clones of
    /// this layer: 10,000 by default, 503 above. They continue when their client
    /// hangs up, so nothing else bounds them.
    pub fn max_running(self, operations: usize) -> Self {
        let permits = operations.min(Semaphore::MAX_PERMITS);
        self.set(|policy| policy.permits = Arc::new(Semaphore::new(permits)))
    }

    /// How many bytes the request bodies that are being read may hold in memory,
    /// all together, over all clones of this layer: 256 MiB by default, 503
    /// `upload-overload` above. It is at least [`request_limit`](Self::request_limit),
    /// so that any one body that is accepted fits.
    ///
    /// A body counts, with the memory reserved for it, from when the layer first has to
    /// wait for it until it is complete or its client leaves. A body that is available at
    /// once never counts, so that slow uploads do not keep others out. Once the layer has
    /// read the body, [`max_running`](Self::max_running) bounds it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .upload_budget(64 << 20)
    ///     .upload_budget_per_scope(8 << 20)
    ///     .upload_timeout(Duration::from_secs(10));
    /// ```
    pub fn upload_budget(self, bytes: usize) -> Self {
        self.set(|policy| policy.upload_limits.budget = bytes)
    }

    /// How many bytes of the [`upload_budget`](Self::upload_budget) the callers of
    /// one scope may hold: a quarter of it by default, 503 `upload-overload` above.
    /// It is at least [`request_limit`](Self::request_limit). Under
    /// [`Scope::shared`] there is only one scope, which may hold all of the
    /// budget; the layer then ignores this setting.
    ///
    /// # Caveats
    ///
    /// Four scopes that use their full share hold the whole budget, until
    /// [`upload_timeout`](Self::upload_timeout) is over. Meanwhile the layer still serves
    /// bodies that are available at once.
    pub fn upload_budget_per_scope(self, bytes: usize) -> Self {
        self.set(|policy| policy.upload_limits.per_scope = Some(bytes))
    }

    /// How long it may take to read one request body, from when the layer first has to
    /// wait for it: 30 seconds by default, 408 `body-timeout` after that. A body
    /// that is available at once needs no time, whatever you set here. A body that is always
    /// ready but yields no data counts as slow.
    ///
    /// # Caveats
    ///
    /// It is the time for the whole body, not for the pause between two pieces of
    /// it: allow for the largest body over the slowest line that you serve.
    pub fn upload_timeout(self, limit: Duration) -> Self {
        self.set(|policy| policy.upload_limits.timeout = limit)
    }

    /// Requests may get a 202 and run in the background, by a
    /// [`Completer`](crate::Completer): see [`Background`].
    pub fn background(self, background: Background) -> Self {
        self.set(|policy| policy.background = Some(background))
    }

    /// Calls a hook when an operation completes or is parked, at least once: see
    /// [`Callback`]. Without this setting the layer stores and calls nothing for it.
    pub fn callback(mut self, callback: Callback) -> Self {
        let shared = Arc::make_mut(&mut self.shared);
        shared.engine = shared.engine.clone().calling_back(true);
        shared.policy.callback = Some(callback);
        self
    }

    /// The page that documents your use of keys: retention, fingerprint rules, problems. The
    /// problems' `type`s become `url#missing-key` and so on, and link to it.
    ///
    /// Tell your clients there which field marks a stored response,
    /// `Idempotent-Replayed: true`, and which field marks a response that no retry gets,
    /// `Idempotency-Replay-Unavailable`: it is on the first response, and on the problem
    /// `url#not-retained` that retries get in its place, under the stored status
    /// code ([the guide](crate::guide::problems#responses-that-are-not-retained)).
    pub fn documentation(self, url: &str) -> Self {
        self.set(|policy| policy.problems.set_page(url))
    }
}

impl From<&IdempotencyLayer> for Engine {
    fn from(layer: &IdempotencyLayer) -> Self {
        layer.shared.engine.clone().calling_back(false)
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency::new(inner, Arc::clone(&self.shared))
    }
}
