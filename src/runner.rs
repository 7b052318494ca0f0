//! The same engine without HTTP: a closure under a key. It may know `core`, `util`, `store`,
//! `telemetry` and `engine`. Start with [`Runner::run`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::{
    Change, Claim, Claimed, Fingerprint, IdempotencyKey, InvalidKey, Key, Mode, StoredResponse, canonical,
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
/// What the layer does for a request, this does for a call: the first one
/// claims the key and runs, later ones get its stored result, and one that
/// died half-way is resumed from its last recovery point. Resumable unless
/// set otherwise.
///
/// The store may be shared with a layer. In one process, make the runner of that layer,
/// or both of one [`Engine`]: made apart, each takes the other for another process, and
/// goes by leases alone.
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
}

impl Runner {
    /// A runner over this store, or over the store of this [`Engine`] or layer;
    /// resumable. Its names and those of a layer's requests never meet.
    ///
    /// Of one engine with a layer, each knows what the other has in hand: the layer's
    /// completer does not take for abandoned what this runner still runs, or could not
    /// save yet, though its lease is over. The layer's [`Callback`](crate::Callback) is
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
        Self { engine: engine.into(), mode: Mode::Resumable }
    }

    /// For work that is not written with steps: it is started at most once, unless
    /// it calls [`Operation::nothing_happened`] and ends with an error before any
    /// step was begun or done. Then the next call runs.
    pub const fn at_most_once(mut self) -> Self {
        self.mode = Mode::AtMostOnce;
        self
    }

    /// Runs `work` under `key` within `scope`, or gives the result it had.
    /// `input` is what the key stands for: the same key with another input is
    /// an error. The order of a map's entries makes no other input; that of a
    /// `HashSet` does, for JSON has no sets. No request shares an operation with
    /// this, whatever its scope and key.
    ///
    /// Input and result must survive a round trip through JSON: see
    /// [`Operation::step`]. For an input that JSON can't carry, NaN and infinity among
    /// them, [`RunError::Json`] is given and nothing is run. A result that can't be read back is
    /// [`RunError::Json`] to this call and to every later one, and the work is not
    /// run again.
    ///
    /// # Errors
    ///
    /// [`RunError`]. An error of `work` is not stored: in resumable mode the
    /// next call resumes; in at-most-once mode the next call is told that the outcome is
    /// unknown, unless [`Operation::nothing_happened`] was called.
    ///
    /// # Cancellation
    ///
    /// Lazy: dropped before it is polled, nothing happens. Dropped after the
    /// claim, the work goes on in a task of its own.
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
        async move {
            let (key, fingerprint) = named?;
            Detached::new(async move { runner.work(key, fingerprint, work).await }).await
        }
    }

    async fn work<T, E, F, Fut>(self, key: Key, fingerprint: Fingerprint, work: F) -> Result<T, RunError<E>>
    where
        T: Serialize + DeserializeOwned + Send,
        E: Send,
        F: FnOnce(Operation) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
    {
        let lease = self.engine.limits().lease;
        let command = Claim { fingerprint: fingerprint.clone(), mode: self.mode, lease, request: None };
        let attempt = match claim(&self.engine, key, command).await {
            Ok(Admission::Granted(attempt)) => attempt,
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
                give_up(&attempt).await;
                Err(RunError::Work(error))
            }
            Err(_panicked) => {
                attempt.emit(|| EventKind::Panicked);
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
        Claimed::Granted(_) | Claimed::Unknown { .. } => Err(RunError::OutcomeUnknown),
    }
}

fn decode<T: DeserializeOwned, E>(stored: &StoredResponse) -> Result<T, RunError<E>> {
    serde_json::from_slice(stored.body().map_or(&[], |body| body)).map_err(RunError::Json)
}

/// Why [`Runner::run`] gave no result. `E` is the work's own error.
///
/// `Debug` leaves out what is wrong with JSON: it can quote from it.
#[non_exhaustive]
pub enum RunError<E> {
    /// The work failed. It may be tried again.
    Work(E),
    /// Another call holds the key, for at least this long.
    Busy(Duration),
    /// The key was used for another input.
    InputChanged,
    /// What an earlier call did can't be known. It is not run again until an
    /// operator decides.
    OutcomeUnknown,
    /// The work panicked.
    Panicked,
    /// The key is not one.
    Key(InvalidKey),
    /// The input or the result is not the JSON it should be.
    Json(serde_json::Error),
    /// The store can't be asked. The work was not run.
    Store(StoreError),
}

impl<E: fmt::Debug> fmt::Debug for RunError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Work(error) => f.debug_tuple("Work").field(error).finish(),
            Self::Busy(left) => f.debug_tuple("Busy").field(left).finish(),
            Self::InputChanged => f.write_str("InputChanged"),
            Self::OutcomeUnknown => f.write_str("OutcomeUnknown"),
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
            Self::OutcomeUnknown => f.write_str("it is not known what an earlier call with this key did"),
            Self::Panicked => f.write_str("the work panicked"),
            Self::Key(error) => error.fmt(f),
            Self::Json(_) => f.write_str("the input or the result is not the JSON it should be"),
            Self::Store(error) => write!(f, "the store failed, nothing was run: {error}"),
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
