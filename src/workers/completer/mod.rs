//! Finishes operations whose client does not retry.
//!
//! This file has the settings. `run` looks for work round by round, `round` starts
//! what is due, `drive` finishes one operation, `callback` makes its callback, `probe`
//! asks whether the service leads to the layer, `whose` tells which scope an operation
//! counts for, and through `slots` a completer gets what its layer accepts.

mod body;
mod callback;
mod calls;
mod drive;
mod place;
mod probe;
mod report;
mod rest;
mod resting;
mod round;
mod run;
mod slots;
mod through;
mod whose;
mod wiring;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use tokio::time::Instant;
use tower_service::Service;

pub use self::body::StoredBody;
pub use self::report::Report;
pub use self::wiring::CompleterError;

use self::resting::Resting;
use self::through::{BoxFuture, Drive, HttpResponse};
use self::wiring::Wiring;
use crate::core::{Key, Record, Resume};
use crate::engine::operation::Reconciled;
use crate::http::guarded::Shared;
use crate::http::layer::IdempotencyLayer;
use crate::store::Cursor;
use crate::workers::pace;

type Prepare = dyn Fn(Parts) -> BoxFuture<Result<Parts, String>> + Send + Sync;
type Reconcile = dyn Fn(Doubt) -> BoxFuture<Reconciled<Response<Bytes>>> + Send + Sync;

/// An at-most-once operation whose holder is gone: what it did is unknown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Doubt {
    /// The name of its record; [`StepKey`](crate::StepKey)s are derived from it.
    pub key: Key,
    /// What is known about it.
    pub record: Record,
}

/// Finishes operations whose client does not retry.
///
/// It looks for resumable operations that no attempt holds and that are
/// [due](crate::core::Record::due), claims one at a time by a swap, and drives
/// its stored request through the same service. Any number of completers may
/// work on one store, in any number of processes: none runs an operation that
/// another one holds. After a failure a completer tries again after the engine's
/// [back-off](crate::Engine::backoff), which the store keeps, so that it
/// holds for all of them. It parks an operation that fails too often, for an operator.
///
/// It also makes the [callbacks](crate::Callback) of the layer.
///
/// It never runs an at-most-once operation again. It asks the
/// [reconciler](Self::reconcile) what happened, and parks the operation if that does not
/// know.
///
/// ```
/// use axum::{Router, body::Body, routing::post};
/// use tower_idempotency::{Completer, IdempotencyLayer, Scope, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::header("x-user".parse().unwrap())).resumable();
/// let app: Router = Router::new().route("/payments", post(|| async { "paid" })).layer(layer.clone());
/// // Inside authentication: a completer has no credentials to show.
/// let completer = Completer::new(&layer, app.clone());
/// // let app = app.layer(authentication);
///
/// // In a test, or by hand:
/// let report = completer.run_once().await.unwrap();
/// assert_eq!(report.found, 0);
/// // In production:
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let completing = tokio::spawn(async move { completer.run(async { stopped.await.unwrap_or(()) }).await });
/// stop.send(()).unwrap();
/// completing.await.unwrap().unwrap();
/// # }
/// ```
///
/// # Caveats
///
/// - All processes that share a store share its work, so the service should have the routes
///   of all of them. If it lacks one, another process tries the operation, see
///   [the guide](crate::guide::completer#rolling-updates).
/// - Before it drives anything, the completer checks that its service leads to the layer: it
///   sends an empty request with the method `IDEMPOTENCY-PROBE` to the path of the
///   operation. The layer responds to it; no other service should serve
///   that method. Outer layers see the request.
/// - Credentials are not stored. If a handler needs to know its caller, let the layer keep the
///   extension that says so: [`principal`](crate::IdempotencyLayer::principal).
/// - Every attempt repeats what a handler does outside its steps.
#[derive(Clone)]
#[must_use]
pub struct Completer {
    shared: Arc<Shared>,
    drive: Drive,
    prepare: Option<Arc<Prepare>>,
    reconcile: Option<Arc<Reconcile>>,
    settings: Settings,
    wiring: Arc<Wiring>,
    /// Operations that the completer can't do anything about, and until when it leaves them
    /// alone.
    quarantined: Arc<Mutex<HashMap<Key, Instant>>>,
    /// Operations that rest for a maintenance window.
    resting: Arc<Mutex<Resting>>,
    /// Where the last round stopped, if there was more than it starts.
    place: Arc<Mutex<Option<Cursor>>>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    poll: Duration,
    concurrency: usize,
    deadline: Duration,
    max_tries: u32,
    max_age: Duration,
}

impl Completer {
    /// A completer for the operations of `layer`, which drives them through
    /// `service`. The service must contain the layer, or a clone of it, around the routes and
    /// inside authentication.
    ///
    /// A service that does not lead to the layer would run its handlers unprotected.
    /// So the completer claims nothing before the layer has responded to a probe, and stops
    /// with [`CompleterError::NotWired`] if the service does not lead there.
    ///
    /// An axum `Router` is such a service. Map a service that takes another body than
    /// [`StoredBody`]: `service.map_request(|request: Request<StoredBody>| …)`.
    pub fn new<S>(layer: &IdempotencyLayer, service: S) -> Self
    where
        S: Service<Request<StoredBody>> + Clone + Send + 'static,
        S::Response: HttpResponse,
        S::Future: Send,
    {
        Self {
            shared: Arc::clone(layer.shared()),
            drive: through::through(service),
            prepare: None,
            reconcile: None,
            settings: Settings {
                poll: Duration::from_secs(5),
                concurrency: 16,
                deadline: Duration::from_secs(5 * 60),
                max_tries: 20,
                max_age: Duration::from_secs(3 * 24 * 60 * 60),
            },
            wiring: Arc::default(),
            quarantined: Arc::default(),
            resting: Arc::default(),
            place: Arc::default(),
        }
    }

    /// Drives without the probe that the service leads to the layer: for a service that
    /// responds to an unknown method before the request reaches the layer. axum's
    /// `post(handler).route_layer(layer)` is such a service;
    /// `post(handler).layer(layer)` and `Router::route_layer` are not.
    ///
    /// # Caveats
    ///
    /// If the service does not lead to the layer, an operation runs unprotected before the
    /// completer notices: it stops at a 2xx or 3xx that did not come from the layer.
    pub fn assume_guarded(self) -> Self {
        // Of its own: clones that were made before go on asking.
        let wiring = Arc::new(Wiring::default());
        wiring.prove();
        Self { wiring, ..self }
    }

    /// Calls a hook with each stored request before driving it, to restore what the request
    /// lacks, or to check whether its [principal](crate::IdempotencyLayer::principal), which is
    /// back in its extensions, still has its rights. An error parks the operation, with the
    /// error as the reason.
    ///
    /// The completer may also call it before the claim, if the layer's [`Scope`](crate::Scope)
    /// can't tell from the stored request whose it is: see
    /// [shares](crate::guide::completer#shares). So it may run more often than there are
    /// attempts, also for a request that is not driven then. An error or a panic in such a call
    /// parks nothing.
    pub fn prepare<F, Fut>(mut self, prepare: F) -> Self
    where
        F: Fn(Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Parts, String>> + Send + 'static,
    {
        self.prepare = Some(Arc::new(move |parts| Box::pin(prepare(parts))));
        self
    }

    /// A hook that finds out what an at-most-once operation did whose holder is gone. The
    /// completer stores [`Happened`](Reconciled::Happened) as its response. After
    /// [`DidNotHappen`](Reconciled::DidNotHappen) a retry runs it. The completer parks it
    /// after [`Unknown`](Reconciled::Unknown), after a panic, and if the hook
    /// takes longer than the [deadline](Self::deadline).
    ///
    /// Two completers may call their hooks at the same time; the first decision counts.
    pub fn reconcile<F, Fut>(mut self, reconcile: F) -> Self
    where
        F: Fn(Doubt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reconciled<Response<Bytes>>> + Send + 'static,
    {
        self.reconcile = Some(Arc::new(move |doubt| Box::pin(reconcile(doubt))));
        self
    }

    /// How often the completer asks the store what is due: every 5 seconds, give or take
    /// a third, by default; at least 10 ms. It asks for an operation that this process itself
    /// released when that falls due.
    pub fn poll(mut self, every: Duration) -> Self {
        self.settings.poll = pace::at_least(every);
        self
    }

    /// How many operations the completer runs at once: 16 by default, at least one. Scopes
    /// [share](crate::guide::completer#shares) them, so that one that hangs leaves some to
    /// others. It makes as many [callbacks](crate::Callback) beside them, which scopes do not
    /// share.
    pub fn concurrency(mut self, operations: usize) -> Self {
        self.settings.concurrency = operations.max(1);
        self
    }

    /// How long one attempt may take: 5 minutes by default. After that the completer cuts it
    /// off, and it counts as failed. The completer renews its lease until then.
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.settings.deadline = limit;
        self
    }

    /// After how many attempts, including the client's, the completer parks an operation:
    /// 20 by default, at least one. An operator's decision starts the count anew.
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.settings.max_tries = tries.max(1);
        self
    }

    /// How old an operation may be, from its first claim, before the completer parks it
    /// instead of trying again: three days by default.
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.settings.max_age = age;
        self
    }

    fn command(&self) -> Resume {
        let Settings { max_tries, max_age, .. } = self.settings;
        Resume { lease: self.shared.engine.limits().lease, max_tries, max_age, outgoing: false }
    }
}

impl fmt::Debug for Completer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completer").field("settings", &self.settings).finish_non_exhaustive()
    }
}
