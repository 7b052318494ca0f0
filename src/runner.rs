//! The same engine without HTTP: a closure under a key. It may know `core`, `util`, `store`,
//! `telemetry` and `engine`. Start with [`Runner::run`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::core::{
    Change, Claim, Claimed, Fingerprint, IdempotencyKey, Intake, InvalidKey, Key, Labels, Mode, Rest, StoredResponse,
    Work, canonical,
};
use crate::engine::Engine;
use crate::engine::attempt::{Attempt, End};
use crate::engine::claim::{Admission, claim, superseding_response, under_lease};
use crate::engine::operation::Operation;
use crate::engine::operation::finite::to_json;
use crate::engine::operation::result::to_bytes;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;
use crate::telemetry::span;
use crate::util::detached::Detached;

/// Runs closures under a key: a queue's message, a day's export.
///
/// The runner does for a call what the layer does for a request: the first call
/// claims the key and runs, later calls get its stored result, and an operation that
/// died half-way resumes from its last recovery point. A runner is resumable unless
/// you set [`at_most_once`](Self::at_most_once).
///
/// A runner and a layer may share a store. In one process, make the runner from that layer,
/// or both from one [`Engine`]. If you make them separately, each takes the other for another
/// process, and goes by leases alone.
///
/// ```
/// use tower_idempotency::{Runner, StepError, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runner = Runner::new(MemoryStore::new());
/// let export = |day: &'static str| {
///     runner.run("exports", day, &day, move |op| async move {
///         let rows = op.step("query", |_| async { Ok::<u32, std::io::Error>(42) }).await?;
///         op.pay("upload", |_key| async move { Ok(format!("{day}: {rows} rows")) }).await
///     })
/// };
/// assert_eq!(export("2026-11-21").await?, "2026-11-21: 42 rows");
/// // Done already: the stored result.
/// assert_eq!(export("2026-11-21").await?, "2026-11-21: 42 rows");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Runner {
    engine: Engine,
    mode: Mode,
    labels: Labels,
}

impl Runner {
    /// A runner over this store, or over the store of this [`Engine`] or layer;
    /// resumable. Its names and those of a layer's requests never meet.
    ///
    /// A runner and a layer of one engine know what the other still runs. The layer's
    /// completer does not take over what this runner still runs or could not save yet,
    /// even after the lease has expired. The layer's [`Callback`](crate::Callback) is
    /// not called for the runner's operations.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Runner, Scope, store::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared());
    /// let runner = Runner::new(&layer);
    /// assert_eq!(runner.run("jobs", "17", "", |_| async { Ok::<_, std::io::Error>(42) }).await?, 42);
    /// # Ok(()) }
    /// ```
    pub fn new(engine: impl Into<Engine>) -> Self {
        Self { engine: engine.into(), mode: Mode::Resumable, labels: Labels::new() }
    }

    /// For work that is not written with steps: the runner starts it at most once, unless
    /// the work calls [`Operation::nothing_happened`] and ends with an error before any
    /// step was begun or done. Then the next call runs.
    pub const fn at_most_once(mut self) -> Self {
        self.mode = Mode::AtMostOnce;
        self
    }

    /// The [labels](Labels) by which an operator finds what this runner runs from now on, stored
    /// with the first claim of each operation. By default there are none. The work adds others
    /// with [`Operation::label`].
    ///
    /// ```
    /// use tower_idempotency::{Labels, Runner, store::MemoryStore};
    ///
    /// let runner = Runner::new(MemoryStore::new());
    /// let exports = runner.clone().labels(Labels::new().with("job", "export"));
    /// ```
    pub fn labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    /// Runs `work` under `key` within `scope`, or returns the result of an earlier call.
    /// `input` is what the key stands for: the same key with another input is
    /// an error. The order of a map's entries does not count; that of a
    /// `HashSet` does, because JSON has no sets. No request shares an operation with
    /// a runner's call, whatever its scope and key.
    ///
    /// Input and result must survive a round trip through JSON: see
    /// [`Operation::step`]. If JSON can't carry the input (NaN or infinity, say), the call
    /// fails with [`RunError::Json`] and runs nothing. If the result can't be read back, this
    /// call and every later one fail with [`RunError::Json`], and the work does not
    /// run again.
    ///
    /// # Errors
    ///
    /// [`RunError`]. An error of `work` is not stored: in resumable mode the
    /// next call resumes; in at-most-once mode the next call gets
    /// [`RunError::OutcomeUnknown`], unless the work called [`Operation::nothing_happened`].
    ///
    /// # Cancellation
    ///
    /// The future is lazy: if you drop it before you poll it, nothing happens. If you
    /// drop it after the claim, the work continues in a task of its own.
    pub fn run<I, T, E, F, Fut>(
        &self,
        scope: &str,
        key: &str,
        input: &I,
        work: F,
    ) -> impl Future<Output = Result<T, RunError<E>>> + Send + use<I, T, E, F, Fut>
    where
        I: Serialize + ?Sized,
        T: Serialize + DeserializeOwned + Send + 'static,
        E: Send + 'static,
        F: FnOnce(Operation) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let runner = self.clone();
        let named = name(scope, key, input);
        let scope: Box<str> = scope.into();
        async move {
            let (key, fingerprint) = named?;
            Detached::new(async move {
                let rest = match runner.engine.may_rest() {
                    true => Box::pin(runner.rest_of(scope)).await,
                    false => None,
                };
                match rest {
                    Some(rest) if rest.intake == Intake::Closed => Err(at_rest(*rest)),
                    rest => runner.work(key, fingerprint, rest, work).await,
                }
            })
            .await
        }
    }

    /// The maintenance window that covers a call in this scope.
    async fn rest_of(&self, scope: Box<str>) -> Option<Box<Rest>> {
        self.engine.rest_of(Work::Operation { route: None, scope: Some(&scope) }).await.map(Box::new)
    }

    async fn work<T, E, F, Fut>(
        self,
        key: Key,
        fingerprint: Fingerprint,
        rest: Option<Box<Rest>>,
        work: F,
    ) -> Result<T, RunError<E>>
    where
        T: Serialize + DeserializeOwned + Send,
        E: Send,
        F: FnOnce(Operation) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let lease = self.engine.limits().lease;
        let labels = self.labels.clone();
        let command = Claim { fingerprint: fingerprint.clone(), mode: self.mode, lease, request: None, labels };
        let counted = self.engine.draining().begin();
        let admission = claim(&self.engine, key, command, counted, rest.as_deref(), Instant::now()).get().await;
        let (attempt, _counted) = match admission {
            Ok(Admission::Granted(attempt, counted)) => (attempt, counted),
            Ok(Admission::Refused(Claimed::Closed, _)) => {
                let rest = rest.filter(|_| !self.engine.is_draining());
                return Err(rest.map_or(RunError::Draining, |rest| at_rest(*rest)));
            }
            Ok(Admission::Refused(claimed, _)) => return refused(claimed),
            Err(error) => return Err(RunError::Store(error)),
        };
        let held = Arc::clone(&attempt);
        span::attempt(held.key(), held.claimed(), None, self.granted(attempt, fingerprint, work)).await
    }

    async fn granted<T, E, F, Fut>(
        &self,
        attempt: Arc<Attempt>,
        fingerprint: Fingerprint,
        work: F,
    ) -> Result<T, RunError<E>>
    where
        T: Serialize + DeserializeOwned + Send,
        E: Send,
        F: FnOnce(Operation) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let operation = Operation::new(Arc::clone(&attempt), None);
        let run = under_lease(&attempt, async { work(operation).await }).await;
        if let Some(stored) = attempt.completed() {
            attempt.emit_late_doubt();
            return decode(stored);
        }
        match run {
            Ok(Ok(result)) => self.complete(&attempt, fingerprint, result).await,
            Ok(Err(error)) => {
                attempt.explain("the work failed".to_owned());
                give_up(&attempt).await;
                Err(RunError::Work(error))
            }
            Err(_panicked) => {
                attempt.emit(|| EventKind::Panicked);
                attempt.explain("the work panicked".to_owned());
                give_up(&attempt).await;
                Err(RunError::Panicked)
            }
        }
    }

    async fn complete<T, E>(
        &self,
        attempt: &Arc<Attempt>,
        fingerprint: Fingerprint,
        result: T,
    ) -> Result<T, RunError<E>>
    where
        T: Serialize + DeserializeOwned + Send,
        E: Send,
    {
        let (body, unreadable) = to_bytes(&result);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let response = Arc::new(StoredResponse::capture(StatusCode::OK, &headers, Some(body)));
        match attempt.end(attempt.complete(response, &http::Extensions::new())).await {
            End::Stored => attempt.emit(|| EventKind::Completed { status: 200, retained: true }),
            End::Unsaved(error) => attempt.emit(|| EventKind::Unsaved { error }),
            End::Lost(found) => return refused(superseding_response(&fingerprint, found)),
            End::Parked => return Err(RunError::OutcomeUnknown),
        }
        unreadable.map_or(Ok(result), |error| Err(RunError::Json(error)))
    }
}

/// What the operation is stored under, and what it is.
fn name<I: Serialize + ?Sized, E>(scope: &str, key: &str, input: &I) -> Result<(Key, Fingerprint), RunError<E>> {
    let key = IdempotencyKey::parse(key.as_bytes()).map_err(RunError::Key)?;
    let input = to_json(input).map_err(RunError::Json)?;
    Ok((Key::of_runner(scope, &key), Fingerprint::of([b"run".as_slice(), &canonical(&input)])))
}

async fn give_up(attempt: &Arc<Attempt>) {
    let withdraw = attempt.nothing_happened();
    let end = attempt.end(if withdraw { Change::Withdraw } else { Change::Release }).await;
    attempt.emit_end(&end, withdraw);
}

fn refused<T: DeserializeOwned, E>(claimed: Claimed) -> Result<T, RunError<E>> {
    match claimed {
        Claimed::Replay(stored, _) => decode(&stored),
        Claimed::Mismatch => Err(RunError::InputChanged),
        Claimed::Busy(left) => Err(RunError::Busy(left)),
        Claimed::Closed => Err(RunError::Draining),
        Claimed::Granted(_) | Claimed::Unknown { .. } => Err(RunError::OutcomeUnknown),
    }
}

fn at_rest<E>(rest: Rest) -> RunError<E> {
    RunError::Maintenance { retry_in: rest.notice.left, reason: rest.notice.reason }
}

fn decode<T: DeserializeOwned, E>(stored: &StoredResponse) -> Result<T, RunError<E>> {
    serde_json::from_slice(stored.body().map_or(&[], |body| body)).map_err(RunError::Json)
}

/// Why [`Runner::run`] gave no result. `E` is the work's own error.
///
/// `Debug` leaves out the error of JSON: it can quote from the input or the result.
#[non_exhaustive]
pub enum RunError<E> {
    /// The work failed. In resumable mode the next call resumes it.
    Work(E),
    /// Another call holds the key, for at least this long.
    Busy(Duration),
    /// The key was used for another input.
    InputChanged,
    /// A call with this key ended without a result, and what it did is unknown. The work
    /// does not run again until an operator decides.
    OutcomeUnknown,
    /// The engine is [draining](Engine::drain). The work was not run.
    Draining,
    /// A [maintenance window](crate::guide::maintenance) covers the call. The work was not run.
    Maintenance {
        /// How long the window lasts.
        retry_in: Duration,
        /// Why, as the operator wrote it.
        reason: String,
    },
    /// The work panicked.
    Panicked,
    /// The key is not a valid one.
    Key(InvalidKey),
    /// The input or the result is not the JSON it should be.
    Json(serde_json::Error),
    /// The store failed. The work did not run.
    Store(StoreError),
}

impl<E: fmt::Debug> fmt::Debug for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(error) => f.debug_tuple("Work").field(error).finish(),
            Self::Busy(left) => f.debug_tuple("Busy").field(left).finish(),
            Self::InputChanged => f.write_str("InputChanged"),
            Self::OutcomeUnknown => f.write_str("OutcomeUnknown"),
            Self::Draining => f.write_str("Draining"),
            Self::Maintenance { retry_in, reason } => {
                f.debug_struct("Maintenance").field("retry_in", retry_in).field("reason", reason).finish()
            }
            Self::Panicked => f.write_str("Panicked"),
            Self::Key(error) => f.debug_tuple("Key").field(error).finish(),
            Self::Json(error) => f.debug_tuple("Json").field(&error.classify()).finish(),
            Self::Store(error) => f.debug_tuple("Store").field(error).finish(),
        }
    }
}

impl<E: fmt::Display> fmt::Display for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(error) => error.fmt(f),
            Self::Busy(_) => f.write_str("another call with this key is running; try again later"),
            Self::InputChanged => f.write_str("the key was used for another input"),
            Self::OutcomeUnknown => {
                f.write_str("a call with this key ended, and what it did is unknown; an operator has to decide")
            }
            Self::Draining => {
                f.write_str("this process is shutting down, and begins nothing new; the work was not run")
            }
            Self::Maintenance { retry_in, reason } => write!(
                f,
                "planned maintenance ({reason}); the work was not run: call again in {} seconds",
                retry_in.as_secs()
            ),
            Self::Panicked => f.write_str("the work panicked"),
            Self::Key(error) => error.fmt(f),
            Self::Json(_) => f.write_str("the input or the result is not the JSON it should be"),
            Self::Store(error) => write!(f, "the store failed, so the work did not run; try again later: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for RunError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Work(error) => error.source(),
            Self::Json(error) => Some(error),
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}
