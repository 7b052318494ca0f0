//! The only loop: look, decide, swap, again.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod joined;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use crate::core::{Ask, Command, Done, Exchange, Key, Record, Reply, Version};
use crate::engine::in_hand::InHand;
use crate::engine::unsaved::UnsavedAnswers;
use crate::store::{Durability, Loaded, Page, Query, Store, StoreError, StoreErrorKind, Swap};
use crate::telemetry::emit::{Observer, emit};
use crate::telemetry::event::EventKind;
use crate::util::backoff;
use crate::util::nonce::fresh_nonce;
use crate::util::signal::{Alarm, Hints};

/// A failure that took longer is not tried again at once: somebody waits.
const QUICK: Duration = Duration::from_secs(1);
/// How many claims of unknown outcome are taken back at once. A store that is
/// away must not fill the process with tasks that wait for it.
const DISOWNING: usize = 256;
/// How many failures of the store one try of a command stands.
const FAILURES: u32 = 3;
/// The longest pause between tries.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What keeps its records through a ledger: a layer. It lets
/// [`Runner::beside`](crate::Runner::beside) know nothing of HTTP.
#[doc(hidden)]
pub trait OverLedger {
    fn ledger(&self) -> &Ledger;
}

/// Carries commands to a store. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::core::{Claim, Claimed, Fingerprint, IdempotencyKey, Key, Mode};
/// use tower_idempotency::{Ledger, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ledger = Ledger::new(MemoryStore::new());
/// let key = Key::new("tenant-1", &IdempotencyKey::parse(b"order-17")?);
/// let claim = Claim {
///     fingerprint: Fingerprint::of([b"POST".as_slice()]),
///     mode: Mode::AtMostOnce,
///     lease: Duration::from_secs(60),
///     request: None,
/// };
/// let first = ledger.apply(&key, None, claim.clone()).await?;
/// assert!(matches!(first.output, Claimed::Granted(_)));
/// let second = ledger.apply(&key, None, claim).await?;
/// assert!(matches!(second.output, Claimed::Busy(_)));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    store: Arc<dyn Store>,
    observer: Option<Observer>,
    disowning: Arc<Semaphore>,
    /// Rings when an operation that this process released falls due.
    due: Arc<Alarm>,
    /// What this process has for a completer: accepted, or ended and to be told.
    accepted: Arc<Hints<Key>>,
    unsaved: Arc<UnsavedAnswers>,
    in_hand: Arc<InHand>,
    /// What this instance calls itself in the history of operations.
    instance: Option<Arc<str>>,
    /// Whether the end of what it begins is to be told.
    callback: bool,
}

impl Ledger {
    /// A ledger over this store.
    pub fn new(store: impl Store) -> Self {
        let disowning = Arc::new(Semaphore::new(DISOWNING));
        let shared = Shared {
            store: Arc::new(store),
            observer: None,
            disowning,
            due: Arc::default(),
            accepted: Arc::default(),
            unsaved: Arc::default(),
            in_hand: Arc::default(),
            instance: None,
            callback: false,
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn observed_by(&self, observer: Observer) -> Self {
        Self { shared: Arc::new(Shared { observer: Some(observer), ..self.shared.as_ref().clone() }) }
    }

    /// The same ledger, for an instance that has a name in the history of
    /// operations ([`Record::history`]): a host's, or that of whoever decides by
    /// hand. Layers and runners have a name of their own.
    #[must_use]
    pub fn named(&self, instance: &str) -> Self {
        Self { shared: Arc::new(Shared { instance: Some(instance.into()), ..self.shared.as_ref().clone() }) }
    }

    pub(crate) fn calling_back(&self, callback: bool) -> Self {
        Self { shared: Arc::new(Shared { callback, ..self.shared.as_ref().clone() }) }
    }

    /// The same exchange, with what this ledger says of those who write.
    pub(crate) fn noted<C: Command<Output = T>, T>(&self, exchange: Exchange<C, T>) -> Exchange<C, T> {
        exchange.noting(self.shared.instance.clone(), Duration::ZERO).calling_back(self.shared.callback)
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The right to take back a claim, if not too many do.
    pub(crate) fn may_disown(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.disowning).try_acquire_owned().ok()
    }

    /// Whether both were made of one: over the same store, for the same process.
    pub(crate) fn is_kin(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared.in_hand, &other.shared.in_hand)
    }

    /// What this process still has in hand.
    pub(crate) fn in_hand(&self) -> &Arc<InHand> {
        &self.shared.in_hand
    }

    /// Answers that could not be stored.
    pub(crate) fn unsaved(&self) -> &UnsavedAnswers {
        &self.shared.unsaved
    }

    pub(crate) fn due(&self) -> &Alarm {
        &self.shared.due
    }

    pub(crate) fn accepted(&self) -> &Hints<Key> {
        &self.shared.accepted
    }

    pub(crate) fn emit(&self, key: &Key, kind: impl FnOnce() -> EventKind) {
        emit(self.shared.observer.as_ref(), Some(*key), kind);
    }

    pub(crate) fn emit_unkeyed(&self, kind: impl FnOnce() -> EventKind) {
        emit(self.shared.observer.as_ref(), None, kind);
    }

    /// Applies one command. `guess` is what the store probably has: right, it
    /// saves a round trip; wrong, it costs none.
    ///
    /// A lost acknowledgement is found out by looking, so a success is one.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be asked. The command may have taken,
    /// or may take yet.
    pub async fn apply<C: Command + Send + Sync>(
        &self,
        key: &Key,
        guess: Option<Record>,
        command: C,
    ) -> Result<Done<C::Output>, StoreError>
    where
        C::Output: Send,
    {
        let mut exchange = self.noted(Exchange::guessing(command, fresh_nonce(), guess.map(Arc::new)));
        self.drive(key, &mut exchange).await?;
        exchange.finish().ok_or_else(undecided)
    }

    /// Drives an exchange until its outcome is known. After an error it can be
    /// driven on.
    pub(crate) async fn drive<C, T>(&self, key: &Key, exchange: &mut Exchange<C, T>) -> Result<(), StoreError>
    where
        C: Command<Output = T> + Send + Sync,
        T: Send,
    {
        let mut failures = 0;
        loop {
            let reply = match exchange.ask() {
                Ask::Finish => return Ok(()),
                Ask::Load => self.load(key).await,
                Ask::Swap { expected, next } => self.swap(key, expected, next).await,
                Ask::Remove { expected } => self.remove(key, expected).await,
            };
            let reply = match reply {
                Ok(reply) => reply,
                Err(error) => {
                    failures += 1;
                    exchange.answer(Reply::Unknown);
                    let hopeless = error.was_slow() || error.kind() != StoreErrorKind::Unavailable;
                    if failures == FAILURES || hopeless {
                        return Err(error);
                    }
                    continue;
                }
            };
            if exchange.answer(reply) {
                return Ok(());
            }
        }
    }

    /// Drives an exchange, with pauses, until its outcome is known or
    /// `patience` is over.
    pub(crate) async fn persist<C, T>(
        &self,
        key: &Key,
        exchange: &mut Exchange<C, T>,
        patience: Duration,
    ) -> Result<(), StoreError>
    where
        C: Command<Output = T> + Send + Sync,
        T: Send,
    {
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let Err(error) = self.drive(key, exchange).await else { return Ok(()) };
            self.emit(key, || EventKind::StoreFailed { error: error.clone() });
            if error.is_unreadable() || started.elapsed().saturating_add(pause) > patience {
                return Err(error);
            }
            // Jitter: a store that comes back must not meet everybody at once.
            sleep(backoff::jittered(pause, 0.5, 1.0)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// What the store has.
    pub(crate) async fn look(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.within(self.shared.store.load(key)).await
    }

    /// One page of what the store finds.
    pub(crate) async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.within(self.shared.store.scan(query)).await
    }

    /// What the store survives.
    pub(crate) async fn durability(&self) -> Result<Durability, StoreError> {
        self.within(self.shared.store.durability()).await
    }

    /// Removes the record at `key` if it is still at `version`, which a scan
    /// found to be expired.
    pub(crate) async fn forget(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.within(self.shared.store.remove(key, version)).await
    }

    async fn load(&self, key: &Key) -> Result<Reply, StoreError> {
        let loaded = self.look(key).await?;
        Ok(Reply::Found(loaded.record, loaded.now))
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Reply, StoreError> {
        Ok(match self.within(self.shared.store.swap(key, expected, next)).await? {
            Swap::Stored => {
                if next.owes_since_now() {
                    self.shared.accepted.put(*key);
                }
                Reply::Written
            }
            Swap::Conflict(found) if found.record.as_ref().map(Record::version) == expected => return Err(stale()),
            Swap::Conflict(found) => Reply::Found(found.record, found.now),
        })
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<Reply, StoreError> {
        if self.within(self.shared.store.remove(key, expected)).await? {
            return Ok(Reply::Written);
        }
        match self.load(key).await? {
            Reply::Found(Some(found), _) if found.version() == expected => Err(stale()),
            reply => Ok(reply),
        }
    }

    /// A store that hangs is a store that fails. One that answers at once, as
    /// those in memory do, costs no timer.
    async fn within<T>(&self, reply: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let mut reply = pin!(reply);
        if let Poll::Ready(reply) = poll_fn(|cx| Poll::Ready(reply.as_mut().poll(cx))).await {
            return reply;
        }
        let started = Instant::now();
        let patience = self.shared.store.patience();
        let reply = timeout(patience, reply).await.unwrap_or_else(|_| Err(StoreError::timed_out()));
        reply.map_err(|error| if started.elapsed() < QUICK { error } else { error.slow() })
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("store", self.store()).finish_non_exhaustive()
    }
}

/// A replica that lags behind, perhaps. Taken for an answer, it would be asked
/// for ever.
fn stale() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the store refused a write and showed the very version it expected")
}

fn undecided() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the store's answer decided nothing")
}
