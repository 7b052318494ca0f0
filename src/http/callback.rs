//! The hook that is called when an operation is over.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::core::{Key, Record, StoredResponse};
use crate::util::backoff::Backoff;
use crate::util::detached::CatchPanic;

type Hook = dyn Fn(Ended) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync;

/// The end of an operation: it is complete, or a human has to look.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Names this end of this operation and no other: 40 hexadecimal characters,
    /// the same at every call for it. By this the receiver knows a repetition.
    pub id: String,
    /// What the operation is stored under: its scope and its idempotency key, as
    /// [`Key::new`] makes it of them.
    pub key: Key,
    /// Which call for this end this is; the first is 1.
    pub call: u32,
    /// The operation: its answer, its steps if it is parked, its history.
    pub record: Record,
}

impl Ended {
    /// Its answer, if it is complete.
    pub fn response(&self) -> Option<&StoredResponse> {
        self.record.response().map(AsRef::as_ref)
    }

    /// Why a human has to look, if one has to.
    pub fn parked(&self) -> Option<&str> {
        self.record.parked_for().map(AsRef::as_ref)
    }

    /// The steps that were begun and have no result, if it is
    /// parked.
    pub fn in_doubt(&self) -> impl Iterator<Item = &str> {
        self.record.in_doubt()
    }
}

/// A hook that is told when an operation completes or is parked: for a webhook,
/// say. Set with [`IdempotencyLayer::callback`](crate::IdempotencyLayer::callback),
/// called by a [`Completer`](crate::Completer).
///
/// That the hook is to be called is stored by the very write that ends the
/// operation. So it is called *at least once* for every end: a process that dies
/// in between, or during the call, leaves it to another one. It is called again
/// until it returns `Ok`, with a back-off that is kept in the store, and at most
/// as often as [`max_tries`](Self::max_tries) says. Completers claim it by a swap,
/// so for one end it is not called twice at a time.
///
/// ```
/// use axum::{Router, body::Body, http::Request, routing::post};
/// use tower_idempotency::{Callback, Completer, IdempotencyLayer, Scope, store::MemoryStore};
/// # use tower::ServiceExt;
/// # async fn post_to_shop(id: String, body: String) -> std::io::Result<()> {
/// #     assert_eq!((id.len(), body.as_str()), (40, "complete: 200 OK")); Ok(())
/// # }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let tell = Callback::new(|ended| async move {
///     let news = match (ended.response(), ended.parked()) {
///         (Some(answer), _) => format!("complete: {}", answer.status()),
///         (None, why) => format!("a human has to look: {}", why.unwrap_or_default()),
///     };
///     // The receiver drops what has an id that it knows.
///     post_to_shop(ended.id, news).await
/// });
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).callback(tell);
/// let app: Router = Router::new().route("/payments", post(|| async { "paid" })).layer(layer.clone());
/// let completer = Completer::new(&layer, app.clone());
///
/// let request = Request::post("/payments").header("idempotency-key", "order-17").body(Body::empty())?;
/// app.oneshot(request).await?;
/// // In production the completer runs, and does so at once.
/// assert_eq!(completer.run_once().await?.callbacks_delivered, 1);
/// # Ok(()) }
/// ```
///
/// # Caveats
///
/// - Without a running completer of a layer with a callback no hook is called, and
///   what is to be told is kept for as long. Give the callback to all layers that
///   share a store.
/// - Only operations that began under a layer with a callback have one.
/// - A parked operation that goes on before its callback was made is told when it
///   ends again, and not before.
/// - A process that stands still for longer than the hook may take, and its claim
///   with it, may call while another one does; so it may if the store's clock
///   leaps ahead. The id is still the same.
/// - A parked operation that goes on during its callback, and ends again, is told
///   again beside it, under another id.
/// - The retention of an answer counts from its callback.
#[derive(Clone)]
#[must_use]
pub struct Callback {
    hook: Arc<Hook>,
    pub(crate) backoff: Backoff,
    pub(crate) max_tries: u32,
    pub(crate) deadline: Duration,
}

impl Callback {
    /// Calls `hook`. An `Err` is told as an [event](crate::EventKind::CallbackFailed),
    /// and the hook is called again; so it is after a panic.
    ///
    /// # Cancellation
    ///
    /// The hook's future is dropped when it takes longer than the
    /// [`deadline`](Self::deadline), or when the completer is dropped.
    pub fn new<F, Fut, E>(hook: F) -> Self
    where
        F: Fn(Ended) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        Self {
            hook: Arc::new(move |ended| {
                let called = hook(ended);
                Box::pin(async move { called.await.map_err(|error| error.to_string()) })
            }),
            backoff: Backoff::new(Duration::from_secs(2), Duration::from_secs(60 * 60)),
            max_tries: 50,
            deadline: Duration::from_secs(30),
        }
    }

    /// The pause after a call that failed: up to 2 seconds after the first one, and
    /// up to an hour later on by default.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How often it is called for one end before it is given up, with an
    /// [event](crate::EventKind::CallbackFailed): 50 times by default, which takes
    /// about a day; at least once. A call during which its process died counts.
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.max_tries = tries.max(1);
        self
    }

    /// How long one call may take: 30 seconds by default. Then it is cut off, and
    /// has failed.
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// Calls it once.
    pub(crate) async fn call(&self, ended: Ended, limit: Duration) -> Result<(), String> {
        let called = CatchPanic::new(async { (self.hook)(ended).await });
        match timeout(limit, called).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panicked)) => Err("it panicked".to_owned()),
            Err(_) => Err(format!("it took longer than {limit:?}")),
        }
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("backoff", &self.backoff)
            .field("max_tries", &self.max_tries)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
