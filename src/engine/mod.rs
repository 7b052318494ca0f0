//! An operation from its claim to its end, without HTTP.
//!
//! It may know `core`, `util`, `store` and `telemetry`. Start with [`Engine`], what
//! all that works over one store shares; then [`ledger`], the only loop (look, decide,
//! swap, again); then [`attempt`], what the holder of a claim does; then [`operation`],
//! what a handler sees of it. [`handoff`] is how the layer gives a claim to a completer
//! of its process.

pub(crate) mod attempt;
pub(crate) mod claim;
pub(crate) mod content;
pub(crate) mod control;
pub(crate) mod drain;
pub(crate) mod dropped;
#[cfg(feature = "encryption")]
pub(crate) mod encryption;
pub(crate) mod handoff;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod look;
pub(crate) mod near;
pub(crate) mod operation;
pub(crate) mod outage;
pub(crate) mod outcome;
pub(crate) mod outcomes;
pub(crate) mod plan;
mod process;
pub(crate) mod shares;
pub(crate) mod unpersisted;
pub(crate) mod waiting;
mod windows;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use self::drain::{Drain, WorkToken};
use self::ledger::Ledger;
use self::limits::{Limits, MIN_LEASE, MIN_RETENTION};
use self::near::Near;
#[cfg(feature = "near-cache")]
use self::near::NearCache;
use self::outage::{Calls, Outage};
use self::process::{InHand, Process};
use self::unpersisted::UnpersistedResponses;
use self::waiting::Waiting;
use crate::core::{Command, Done, Exchange, Key, Record, Reference, Version};
use crate::store::{Durability, Filter, Loaded, Page, Query, Store, StoreError};
use crate::telemetry::drained::Drained;
use crate::telemetry::emit::{Observer, emit};
use crate::telemetry::event::{Event, EventKind};
use crate::util::backoff::{self, Backoff};
use crate::util::nonce::fresh_nonce;
use crate::util::signal::{Alarm, Hints};

/// A store with the settings that all its users in this process share: how long
/// leases and responses last, and the observer of events. Cheap to clone.
///
/// You make an [`IdempotencyLayer`](crate::IdempotencyLayer), a [`Runner`](crate::Runner),
/// a [`Sweeper`](crate::Sweeper), a [`Watcher`](crate::Watcher) and an
/// [`Operator`](crate::Operator) from an engine. Each of them also takes a store, which
/// becomes an engine with the default settings, or a layer, whose engine it then shares.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{Engine, IdempotencyLayer, Runner, Scope, Watcher, store::MemoryStore};
///
/// let engine = Engine::new(MemoryStore::new())
///     .lease(Duration::from_secs(30))
///     .retention(Duration::from_secs(7 * 24 * 60 * 60))
///     .instance("web-1")
///     .on_event(|event| eprintln!("{event:?}"));
/// let layer = IdempotencyLayer::new(&engine, Scope::extension::<u64>()).resumable();
/// let watcher = Watcher::new(&engine);
/// // This runner's results last an hour; all other settings are the layer's.
/// let runner = Runner::new(engine.retention(Duration::from_secs(60 * 60)));
/// ```
///
/// Clones of an engine know which operations each of them still runs, whatever you set on
/// them since: a completer does not take over what a runner of the same engine still runs or
/// could not save yet, even after the lease has expired. Two engines that you make with
/// `new` take each other for other processes, and go by leases alone.
///
/// A setter changes this value and later clones of it.
#[derive(Clone)]
#[must_use]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Shared {
    ledger: Ledger,
    process: Arc<Process>,
    observer: Option<Observer>,
    /// What this instance calls itself in the history of operations.
    instance: Option<Arc<str>>,
    limits: Limits,
    /// Whether a callback is to be made at the end of what it begins.
    callback: bool,
    redact_reason: Option<Arc<ReasonHook>>,
    near: Near,
}

type ReasonHook = dyn Fn(&mut String) + Send + Sync;

impl Engine {
    /// An engine over this store.
    pub fn new(store: impl Store) -> Self {
        #[cfg(feature = "metrics")]
        crate::telemetry::metrics::begin();
        let shared = Shared {
            ledger: Ledger::new(store),
            process: Arc::default(),
            observer: None,
            instance: None,
            limits: Limits::default(),
            callback: false,
            redact_reason: None,
            near: Near::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How long a claim lasts unless its holder renews it: 60 seconds by default, at
    /// least 10 ms. While the handler runs, the holder renews it at a third of that.
    ///
    /// # Caveats
    ///
    /// A handler that blocks its thread for longer, without an `.await`, can
    /// not renew it.
    pub fn lease(self, lease: Duration) -> Self {
        self.set(|shared| shared.limits.lease = lease.max(MIN_LEASE))
    }

    /// For how long the holder renews the lease while its handler runs: one
    /// hour by default. After that the handler still runs, but its lease expires.
    pub fn max_execution(self, limit: Duration) -> Self {
        self.set(|shared| shared.limits.max_execution = limit)
    }

    /// How long a [`Completer`](crate::Completer), of any process, leaves a resumable
    /// operation alone after an attempt that ended without a final response: up to 2 seconds
    /// after the first try and up to 10 minutes later on by default. A client's retry does
    /// not wait.
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.set(|shared| shared.limits.backoff = backoff)
    }

    /// How long the store keeps a response, or the result of a runner, from its
    /// completion: 24 hours by default, at least one second. A retry after that runs
    /// anew.
    pub fn retention(self, retention: Duration) -> Self {
        self.set(|shared| shared.limits.retention = retention.max(MIN_RETENTION))
    }

    /// The same, remembering for this long at least.
    pub(crate) fn retention_at_least(self, retention: Duration) -> Self {
        self.set(|shared| shared.limits.retention = shared.limits.retention.max(retention))
    }

    /// The name of this process, or of the operator who decides by hand, in the
    /// history of operations ([`Record::history`]): a host's name, say. Empty by
    /// default.
    pub fn instance(self, name: &str) -> Self {
        self.set(|shared| shared.instance = Some(name.into()))
    }

    /// Calls `observer` with each event, on the request's path: it should be quick. If it
    /// panics, that affects nothing else. There is one observer: a second call replaces the
    /// first.
    pub fn on_event(self, observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.set(|shared| shared.observer = Some(Arc::new(observer)))
    }

    /// Encrypts records with the active key of this ring, and decrypts records of any of its
    /// keys. By default records are in clear.
    ///
    /// It encrypts the fingerprint, the stored request and response, the steps with their
    /// names, results and inputs, and the words of the history, with XChaCha20-Poly1305: each
    /// part under a random nonce, bound to its key and its place.
    /// [The guide](crate::guide::stored) lists what stays in clear. It works on every store, and
    /// in transactions.
    ///
    /// The engine reads records in clear, and encrypts their head with the next write. It never
    /// takes a record whose key is not in the ring for "no record", and neither does a process
    /// without a ring: the client gets 503 `store-unavailable`, nothing
    /// runs, and [`StoreFailed`](crate::EventKind::StoreFailed) or
    /// [`Unreadable`](crate::EventKind::Unreadable) names the key. So introduce it readers first:
    /// give all processes the ring as [`read_only`](crate::encryption::Keyring::read_only), and
    /// then without that.
    ///
    /// ```
    /// use tower_idempotency::encryption::{EncryptionKey, Keyring};
    /// use tower_idempotency::{Engine, store::MemoryStore};
    ///
    /// # fn from_your_secret_manager() -> [u8; 32] { std::array::from_fn(|n| n as u8) }
    /// let key = EncryptionKey::new("2026-11", &from_your_secret_manager())?;
    /// let engine = Engine::new(MemoryStore::new()).encryption(Keyring::new(key));
    /// # Ok::<_, tower_idempotency::encryption::KeyError>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// Each engine over one store needs the ring: that of the layer, of runners, of
    /// operators, of watchers. A lost encryption key is a lost record: until you find the
    /// key, or remove the record by hand, the client's key can't be used. An attacker who can
    /// write to the store can put back an earlier state of a record, or remove it.
    #[cfg(feature = "encryption")]
    pub fn encryption(self, keys: encryption::Keyring) -> Self {
        self.set(|shared| {
            shared.ledger.set_cipher(keys);
            shared.near.read_anew();
        })
    }

    /// Keeps complete records in this process's memory for a while, so that a replay asks no
    /// store. By default each replay asks the store.
    ///
    /// A complete record stays as it is until it expires, is acknowledged, or an operator decides
    /// anew. So what is kept serves replays only: a key that was used for another request, a
    /// record that is unfinished, and every write go to the store. Expiry goes by the store's
    /// time. The status resource and an [`Operator`](crate::Operator) read the store.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::{Engine, NearCache, store::MemoryStore};
    ///
    /// # let store = MemoryStore::new();
    /// let near = NearCache::new(Duration::from_secs(10)).max_bytes(32 << 20);
    /// let engine = Engine::new(store).near_cache(near);
    /// ```
    ///
    /// # Caveats
    ///
    /// After a client acknowledged, or an operator forgot a record or had it run again, in
    /// *another* process, this one goes on replaying the old response for up to `max_age`, and
    /// begins nothing new under the key meanwhile. In the process that wrote, the record is gone
    /// at once, also if the caller hung up or the reply was lost; a write that takes effect only
    /// after that counts as another process's. While the store is away, this process replays what
    /// it keeps. Records are in memory in clear, also where the store has them
    /// [encrypted](crate::guide::stored); one that is too old stays there until its key is used
    /// again or others need the room. With a [`MemoryStore`](crate::store::MemoryStore) there is
    /// nothing to gain.
    ///
    /// Engines share what is kept if they are clones from after this call, with the same
    /// encryption keys.
    #[cfg(feature = "near-cache")]
    pub fn near_cache(self, settings: NearCache) -> Self {
        self.set(|shared| shared.near = Near::new(settings))
    }

    /// Calls `hook` with the line that says why an attempt ended without a response, before it is
    /// stored, reported and logged. The hook may change it or leave nothing of it. By default the
    /// line stays as it is: the status and the problem type of the handler's response, and the
    /// name and error of the step that failed ([`StepFuture::explain`](crate::StepFuture::explain)).
    ///
    /// Whatever the hook leaves, the engine keeps one line of at most 200 bytes: control
    /// characters become spaces, and the end of a longer line is cut off.
    ///
    /// ```
    /// use tower_idempotency::{Engine, store::MemoryStore};
    ///
    /// let engine = Engine::new(MemoryStore::new()).redact_reason(|line| {
    ///     // What follows the name of a step may quote from a receiver's response.
    ///     if let Some((before, _)) = line.split_once("; step") {
    ///         *line = before.to_owned();
    ///     }
    /// });
    /// ```
    ///
    /// # Caveats
    ///
    /// If the hook panics, no reason is stored, nor in the event. The reason why an operation is
    /// parked does not pass through here: the handler, the layer or the operator words it.
    pub fn redact_reason(self, hook: impl Fn(&mut String) + Send + Sync + 'static) -> Self {
        self.set(|shared| shared.redact_reason = Some(Arc::new(hook)))
    }

    /// Lets what works over this engine come to its end: see
    /// [`IdempotencyLayer::drain`](crate::IdempotencyLayer::drain), which is the same for the
    /// engine of a layer. A [`Runner`](crate::Runner) then gives
    /// [`RunError::Draining`](crate::RunError::Draining) for what would be new.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::{Engine, RunError, Runner, store::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let engine = Engine::new(MemoryStore::new());
    /// let runner = Runner::new(&engine);
    /// assert!(engine.drain(Duration::from_secs(20)).await.is_empty());
    /// let refused = runner.run("jobs", "17", "", |_| async { Ok::<_, std::io::Error>(42) }).await;
    /// assert!(matches!(refused, Err(RunError::Draining)));
    /// # }
    /// ```
    pub fn drain(&self, deadline: Duration) -> impl Future<Output = Drained> + Send + use<> {
        let engine = self.clone();
        async move {
            if engine.draining().start(backoff::after(deadline)) {
                engine.emit_unkeyed(|| EventKind::DrainBegun { deadline });
            }
            let (drained, is_first) = engine.draining().wait().await;
            if is_first {
                engine.emit_unkeyed(|| EventKind::DrainEnded { left: Box::new(drained.clone()) });
            }
            drained
        }
    }

    /// Whether a [drain](Self::drain) has begun.
    pub fn is_draining(&self) -> bool {
        self.draining().has_begun()
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        self.shared.ledger.store()
    }

    /// The same, with or without callbacks for the operations that it begins.
    pub(crate) fn calling_back(self, callback: bool) -> Self {
        self.set(|shared| shared.callback = callback)
    }

    fn set(mut self, set: impl FnOnce(&mut Shared)) -> Self {
        set(Arc::make_mut(&mut self.shared));
        self
    }
}

impl<S: Store> From<S> for Engine {
    fn from(store: S) -> Self {
        Self::new(store)
    }
}

impl From<&Self> for Engine {
    fn from(engine: &Self) -> Self {
        engine.clone()
    }
}

impl Engine {
    /// What this instance calls itself.
    pub(crate) fn name(&self) -> Option<&Arc<str>> {
        self.shared.instance.as_ref()
    }

    /// What changes the line that says why an attempt ended without a response.
    pub(crate) fn redaction_of_reasons(&self) -> Option<&Arc<ReasonHook>> {
        self.shared.redact_reason.as_ref()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.shared.limits
    }

    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Whether the operations that it begins have a callback.
    pub(crate) fn calls_back(&self) -> bool {
        self.shared.callback
    }

    /// Whether its store never has to be waited for.
    pub(crate) fn is_immediate(&self) -> bool {
        self.shared.ledger.is_immediate()
    }

    /// Whether both were made of one: over the same store, for the same process.
    pub(crate) fn is_kin(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared.process, &other.shared.process)
    }

    /// What it keeps of complete records.
    pub(crate) fn near(&self) -> &Near {
        &self.shared.near
    }

    /// The operations that are waited for in this process.
    pub(crate) fn waiting(&self) -> &Arc<Waiting> {
        &self.shared.process.waiting
    }

    /// What this process still has in hand.
    pub(crate) fn in_hand(&self) -> &Arc<InHand> {
        &self.shared.process.in_hand
    }

    /// Responses that could not be stored.
    pub(crate) fn unpersisted(&self) -> &UnpersistedResponses {
        &self.shared.process.unpersisted
    }

    /// The end of this process.
    pub(crate) fn draining(&self) -> &Drain {
        &self.shared.process.drain
    }

    /// Counts work that belongs to what was begun before.
    pub(crate) fn go_on(&self) -> WorkToken {
        self.draining().go_on()
    }

    pub(crate) fn due(&self) -> &Alarm {
        &self.shared.process.due
    }

    pub(crate) fn accepted(&self) -> &Hints<Key> {
        &self.shared.process.accepted
    }

    /// The right to withdraw a claim, if not too many are being withdrawn.
    pub(crate) fn may_withdraw(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.process.withdrawing).try_acquire_owned().ok()
    }

    pub(crate) fn emit(&self, key: &Key, kind: impl FnOnce() -> EventKind) {
        emit(self.shared.observer.as_ref(), Some(*key), None, kind);
    }

    /// Tells something of one attempt.
    pub(crate) fn emit_of(&self, Reference { key, attempt }: Reference, kind: impl FnOnce() -> EventKind) {
        emit(self.shared.observer.as_ref(), Some(key), Some(attempt).filter(|attempt| *attempt > 0), kind);
    }

    pub(crate) fn emit_unkeyed(&self, kind: impl FnOnce() -> EventKind) {
        emit(self.shared.observer.as_ref(), None, None, kind);
    }

    /// The same exchange, with what this engine says of its writes.
    pub(crate) fn with_metadata<C: Command<Output = T>, T>(&self, exchange: Exchange<C, T>) -> Exchange<C, T> {
        exchange.with_metadata(self.shared.instance.clone(), Duration::ZERO).calling_back(self.shared.callback)
    }

    /// Applies one command: see [`Ledger::apply`].
    pub(crate) async fn apply<C: Command + Send + Sync>(
        &self,
        key: &Key,
        guess: Option<Record>,
        command: C,
    ) -> Result<Done<C::Output>, StoreError>
    where
        C::Output: Send,
    {
        let mut exchange = self.with_metadata(Exchange::guessing(command, fresh_nonce(), guess.map(Arc::new)));
        self.drive(key, &mut exchange).await?;
        exchange.finish().ok_or_else(ledger::undecided)
    }

    /// Drives an exchange until its outcome is known. After an error it can be
    /// driven on.
    pub(crate) async fn drive<C, T>(&self, key: &Key, exchange: &mut Exchange<C, T>) -> Result<(), StoreError>
    where
        C: Command<Output = T> + Send + Sync,
        T: Send,
    {
        let _change = self.near().change(key);
        self.drive_claim(key, exchange).await
    }

    /// The same for a claim, which says itself what is kept of the record.
    pub(crate) async fn drive_claim<C, T>(&self, key: &Key, exchange: &mut Exchange<C, T>) -> Result<(), StoreError>
    where
        C: Command<Output = T> + Send + Sync,
        T: Send,
    {
        let driven = self.shared.ledger.drive(key, exchange).await;
        self.driven(key, exchange, driven)
    }

    /// The same as [`drive`](Self::drive) without waiting; `None` if the store may have to be waited
    /// for, and was not asked.
    pub(crate) fn drive_at_once<C, T>(&self, key: &Key, exchange: &mut Exchange<C, T>) -> Option<Result<(), StoreError>>
    where
        C: Command<Output = T>,
    {
        if !self.is_immediate() {
            return None;
        }
        let _change = self.near().change(key);
        self.drive_claim_at_once(key, exchange)
    }

    /// The same for a claim.
    pub(crate) fn drive_claim_at_once<C, T>(
        &self,
        key: &Key,
        exchange: &mut Exchange<C, T>,
    ) -> Option<Result<(), StoreError>>
    where
        C: Command<Output = T>,
    {
        let driven = self.shared.ledger.drive_at_once(key, exchange)?;
        Some(self.driven(key, exchange, driven))
    }

    fn driven<C: Command<Output = T>, T>(
        &self,
        key: &Key,
        exchange: &Exchange<C, T>,
        driven: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if driven.is_ok() {
            self.wrote(key, exchange.writes());
        }
        driven
    }

    /// The same with pauses, until the outcome is known or `patience` is over.
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
        let _change = self.near().change(key);
        let failed = |error: &StoreError| self.store_failed(Some(key), Calls::Writes, error);
        let driven = self.shared.ledger.persist(key, exchange, patience, failed).await;
        self.driven(key, exchange, driven)
    }

    /// A call failed. The first of an outage says that the store is lost.
    pub(crate) fn store_failed(&self, key: Option<&Key>, calls: Calls, error: &StoreError) {
        let repeated = error.is_outage() && self.outage().failed(calls);
        let kind = || EventKind::StoreFailed { error: error.clone(), repeated };
        emit(self.shared.observer.as_ref(), key.copied(), None, kind);
    }

    /// A call succeeded.
    #[inline]
    pub(crate) fn store_succeeded(&self, calls: Calls) {
        if self.outage().succeeded(calls) {
            self.emit_unkeyed(|| EventKind::StoreBack);
        }
    }

    pub(crate) fn outage(&self) -> &Arc<Outage> {
        &self.shared.process.outage
    }

    fn wrote(&self, key: &Key, written: Option<&Record>) {
        if written.is_some() {
            self.store_succeeded(Calls::Writes);
        }
        self.hint(key, written);
    }

    /// What was written may have a callback that is to be made now, by a completer.
    pub(crate) fn hint(&self, key: &Key, written: Option<&Record>) {
        if written.is_some_and(Record::owes_since_now) {
            self.accepted().put(*key);
        }
    }

    /// What the store has; as it has it, if it is encrypted with a key that is not here.
    pub(crate) async fn look_at_any(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.shared.ledger.look_at_any(key).await
    }

    /// What the store has.
    pub(crate) async fn look(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.shared.ledger.look(key).await
    }

    /// One page of what the store finds.
    pub(crate) async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.shared.ledger.scan(query).await
    }

    /// How many records the store finds, up to `most`.
    pub(crate) async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        self.shared.ledger.count(filter, most).await
    }

    /// Whether the store finds records by their labels.
    pub(crate) fn indexes_labels(&self) -> bool {
        self.shared.ledger.indexes_labels()
    }

    /// What the store survives.
    pub(crate) async fn durability(&self) -> Result<Durability, StoreError> {
        self.shared.ledger.durability().await
    }

    /// Removes the record at `key` if it is still at `version`.
    pub(crate) async fn forget(&self, key: &Key, version: Version) -> Result<bool, StoreError> {
        let _change = self.near().change(key);
        self.shared.ledger.forget(key, version).await
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("store", self.store())
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}
