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

/// The end of an operation: it is complete, or an operator has to decide.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Ended {
    /// Names this end of this operation and no other: 40 hexadecimal characters,
    /// the same at every call for it. By this id the receiver recognises a repeated call.
    pub id: String,
    /// The name of the record: what [`Key::new`] makes of scope and idempotency key.
    pub key: Key,
    /// The number of this call for this end; the first is 1.
    pub call: u32,
    /// The operation: its response, its steps if it is parked, its history.
    pub record: Record,
}

impl Ended {
    /// Its response, if it is complete.
    pub fn response(&self) -> Option<&StoredResponse> {
        self.record.response().map(AsRef::as_ref)
    }

    /// Why an operator has to decide, if one has to.
    pub fn parked(&self) -> Option<&str> {
        self.record.parked_for().map(AsRef::as_ref)
    }

    /// The steps that were begun and have no result, if it is
    /// parked.
    pub fn in_doubt(&self) -> impl Iterator<Item = &str> {
        self.record.in_doubt()
    }
}

/// A hook that a [`Completer`](crate::Completer) calls when an operation completes or is
/// parked: to send a webhook, say. Set it with
/// [`IdempotencyLayer::callback`](crate::IdempotencyLayer::callback).
///
/// The write that ends the operation also stores that a callback is pending. So completers
/// call the hook *at least once* for every end: if a process dies before or during the call,
/// another one calls. They call it again until it returns `Ok`, with a back-off that the
/// store keeps, and at most [`max_tries`](Self::max_tries) times. A completer claims the
/// callback by a swap, so no two calls for one end run at a time.
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
///         (Some(response), _) => format!("complete: {}", response.status()),
///         (None, why) => format!("an operator has to decide: {}", why.unwrap_or_default()),
///     };
///     // The receiver drops a call whose id it knows.
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
/// - Without a running completer of a layer with a callback, the hook is not called, and
///   the callback stays pending. Give the callback to all layers that share a store.
/// - Only operations that began under a layer with a callback have one.
/// - If a parked operation continues before its callback was made, the hook is called when the
///   operation ends again, and not before.
/// - A process that is paused in the hook for longer than its claim lasts may call while
///   another one does; so it may if the store's clock leaps ahead. The id is still the same.
/// - If a parked operation continues during its callback, and ends again, a second call may
///   run beside the first, under another id.
/// - The retention of a response counts from its callback.
#[derive(Clone)]
#[must_use]
pub struct Callback {
    hook: Arc<Hook>,
    pub(crate) backoff: Backoff,
    pub(crate) max_tries: u32,
    pub(crate) deadline: Duration,
}

impl Callback {
    /// Calls `hook`. After an `Err` or a panic the completer emits an
    /// [event](crate::EventKind::CallbackFailed), and calls the hook again.
    ///
    /// # Cancellation
    ///
    /// The completer drops the hook's future when it takes longer than the
    /// [`deadline`](Self::deadline), or when the completer itself is dropped.
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

    /// How many calls for one end the completer makes before it gives up, with an
    /// [event](crate::EventKind::CallbackFailed): 50 by default, which take
    /// about a day; at least one. A call during which its process died counts.
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.max_tries = tries.max(1);
        self
    }

    /// How long one call may take: 30 seconds by default. After that the completer cuts it
    /// off, and the call has failed.
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
