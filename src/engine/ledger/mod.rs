//! The only loop: look, decide, swap, again.

mod immediate;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod joined;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

#[cfg(feature = "encryption")]
use crate::core::Cipher;
use crate::core::{Ask, Command, Done, Exchange, Key, Record, Reply, Version};
use crate::store::sealing::{SealingStore, is_sealed, locked};
use crate::store::{Durability, Filter, Loaded, Page, Query, Store, StoreError, StoreErrorKind, Swap};
use crate::util::backoff;
use crate::util::nonce::fresh_nonce;

/// A failure that took longer is not tried again at once: its caller waits.
const QUICK: Duration = Duration::from_secs(1);
/// How many failures of the store one try of a command survives.
const FAILURES: u32 = 3;
/// The longest pause between tries.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Carries commands to a store: the loop, and nothing besides. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::core::{Claim, Claimed, Fingerprint, IdempotencyKey, Key, Labels, Mode};
/// use tower_idempotency::{spi::Ledger, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ledger = Ledger::new(MemoryStore::new());
/// let key = Key::new("tenant-1", &IdempotencyKey::parse(b"order-17")?);
/// let claim = Claim {
///     fingerprint: Fingerprint::of([b"POST".as_slice()]),
///     mode: Mode::AtMostOnce,
///     lease: Duration::from_secs(60),
///     request: None,
///     labels: Labels::new(),
/// };
/// let first = ledger.apply(&key, None, claim.clone()).await?;
/// assert!(matches!(first.output, Claimed::Granted(_)));
/// let second = ledger.apply(&key, None, claim).await?;
/// assert!(matches!(second.output, Claimed::Busy(_)));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Ledger {
    /// What it drives: the store, or what encrypts on the way to it.
    store: Arc<dyn Store>,
    sealing: Option<Arc<SealingStore>>,
}

impl Ledger {
    /// A ledger over this store.
    pub fn new(store: impl Store) -> Self {
        Self { store: Arc::new(store), sealing: None }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        self.sealing.as_ref().map_or(&self.store, |sealing| sealing.store())
    }

    /// Encrypts what it stores from here on.
    #[cfg(feature = "encryption")]
    pub(crate) fn set_cipher(&mut self, cipher: impl Cipher + 'static) {
        let sealing = Arc::new(SealingStore::new(Arc::clone(self.store()), cipher));
        self.store = Arc::clone(&sealing) as Arc<dyn Store>;
        self.sealing = Some(sealing);
    }

    /// Applies one command. `guess` is what the store probably has: a right guess
    /// saves a round trip, a wrong one costs none.
    ///
    /// If an acknowledgement is lost, the ledger reads the record, so a success is certain.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store fails. The command may have taken effect,
    /// or may still do so.
    pub async fn apply<C: Command + Send + Sync>(
        &self,
        key: &Key,
        guess: Option<Record>,
        command: C,
    ) -> Result<Done<C::Output>, StoreError>
    where
        C::Output: Send,
    {
        let mut exchange = Exchange::guessing(command, fresh_nonce(), guess.map(Arc::new));
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
        if let Some(driven) = self.drive_at_once(key, exchange) {
            return driven;
        }
        let mut failures = 0;
        loop {
            let reply = match exchange.ask() {
                Ask::Finish => return Ok(()),
                Ask::Load => self.load(key).await,
                Ask::Swap { expected, next } => self.swap(key, expected, next).await,
                Ask::Remove { expected } => self.remove(key, expected).await,
            };
            if let Some(driven) = take_in(exchange, reply, &mut failures) {
                return driven;
            }
        }
    }

    /// Drives an exchange, with pauses, until its outcome is known or
    /// `patience` is over. Every failure of the store is handed to `failed`.
    pub(crate) async fn persist<C, T>(
        &self,
        key: &Key,
        exchange: &mut Exchange<C, T>,
        patience: Duration,
        failed: impl Fn(&StoreError) + Send,
    ) -> Result<(), StoreError>
    where
        C: Command<Output = T> + Send + Sync,
        T: Send,
    {
        let started = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let Err(error) = self.drive(key, exchange).await else { return Ok(()) };
            failed(&error);
            if error.is_unreadable() || started.elapsed().saturating_add(pause) > patience {
                return Err(error);
            }
            // Jitter: a store that comes back must not meet all holders at once.
            sleep(backoff::jittered(pause, 0.5, 1.0)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// What the store has.
    pub(crate) async fn look(&self, key: &Key) -> Result<Loaded, StoreError> {
        match self.within(self.store.load(key)).await {
            Ok(found) if is_sealed(&found) => Err(locked(key, found)),
            loaded => loaded,
        }
    }

    /// What the store has; as it has it, if it is encrypted with a key that is not here.
    pub(crate) async fn look_at_any(&self, key: &Key) -> Result<Loaded, StoreError> {
        match self.look(key).await {
            Err(error) if error.is_locked() => self.within(self.store().load(key)).await,
            looked => looked,
        }
    }

    /// One page of what the store finds.
    pub(crate) async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.within(self.store.scan(query)).await
    }

    /// How many records the store finds, up to `most`.
    pub(crate) async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        self.within(self.store.count(filter, most)).await
    }

    /// Whether the store finds records by their labels.
    pub(crate) fn indexes_labels(&self) -> bool {
        self.store.indexes_labels()
    }

    /// What the store survives.
    pub(crate) async fn durability(&self) -> Result<Durability, StoreError> {
        self.within(self.store.durability()).await
    }

    /// Removes the record at `key` if it is still at `version`, which a scan
    /// found to be expired.
    pub(crate) async fn forget(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        self.within(self.store.remove(key, version)).await
    }

    async fn load(&self, key: &Key) -> Result<Reply, StoreError> {
        let loaded = self.look(key).await?;
        Ok(Reply::Found(loaded.record, loaded.now))
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Reply, StoreError> {
        swapped(key, expected, self.within(self.store.swap(key, expected, next)).await?)
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<Reply, StoreError> {
        if self.within(self.store.remove(key, expected)).await? {
            return Ok(Reply::Written);
        }
        not_removed(expected, self.load(key).await?)
    }

    /// A store that hangs is a store that fails. One that replies at once, as
    /// those in memory do, costs no timer.
    async fn within<T>(&self, reply: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        let mut reply = pin!(reply);
        if let Poll::Ready(reply) = poll_fn(|cx| Poll::Ready(reply.as_mut().poll(cx))).await {
            return reply;
        }
        let started = Instant::now();
        let patience = self.store.patience();
        let reply = timeout(patience, reply).await.unwrap_or_else(|_| Err(StoreError::timed_out()));
        reply.map_err(|error| if started.elapsed() < QUICK { error } else { error.slow() })
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("store", self.store()).finish_non_exhaustive()
    }
}

/// Takes in what the store said, or how it failed; how it went, if the exchange is over.
fn take_in<C: Command<Output = T>, T>(
    exchange: &mut Exchange<C, T>,
    reply: Result<Reply, StoreError>,
    failures: &mut u32,
) -> Option<Result<(), StoreError>> {
    match reply {
        Ok(reply) => exchange.answer(reply).then_some(Ok(())),
        Err(error) => {
            *failures += 1;
            exchange.answer(Reply::Unknown);
            let hopeless = error.was_slow() || error.kind() != StoreErrorKind::Unavailable;
            (*failures == FAILURES || hopeless).then_some(Err(error))
        }
    }
}

/// What the store had in the place of a record, or that it has that now.
fn swapped(key: &Key, expected: Option<Version>, swap: Swap) -> Result<Reply, StoreError> {
    match swap {
        Swap::Stored => Ok(Reply::Written),
        Swap::Conflict(found) if found.record.as_ref().map(Record::version) == expected => Err(stale()),
        Swap::Conflict(found) if is_sealed(&found) => Err(locked(key, found)),
        Swap::Conflict(found) => Ok(Reply::Found(found.record, found.now)),
    }
}

/// What the store had in the place of a record that was to be removed.
fn not_removed(expected: Version, reply: Reply) -> Result<Reply, StoreError> {
    match reply {
        Reply::Found(Some(found), _) if found.version() == expected => Err(stale()),
        reply => Ok(reply),
    }
}

/// A replica that lags behind, perhaps. If the loop believed it, it would never end.
fn stale() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the store refused a write and showed the very version it expected")
}

pub(super) fn undecided() -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        "the store's reply fits no write and no record; report this to the store's author",
    )
}
