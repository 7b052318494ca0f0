//! What a store promises, and what passes between it and its callers.

mod durability;
mod error;
mod kept;
mod page;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::durability::{Durability, DurabilityLevel, Epoch, RequireError, Since};
pub use self::error::{ConnectError, StoreError, StoreErrorKind};
pub use self::kept::KeptRecord;
pub(in crate::store) use self::page::Entry;
pub use self::page::{Cursor, Filter, Found, Page, Query, Unreadable};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(in crate::store) use self::page::{status_code, status_of};

use crate::core::{Key, Record, Timestamp, Version};

/// How long a store may take for one call, unless it says otherwise.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps records and compares versions; never decides.
///
/// # Contract
///
/// - [`swap`](Self::swap) and [`remove`](Self::remove) are atomic and
///   linearizable per key: of many concurrent calls that expect the same
///   version, exactly one takes.
/// - A swap that returned [`Swap::Stored`] survives whatever the store says it
///   survives. One that returned an error may or may not have taken effect, and may
///   even do so later; callers find out by reading the version.
/// - A stored record is [`stamped_over`](KeptRecord::stamped_over) the one it
///   replaces, with the store's own clock, and every reply that shows a record
///   carries that clock's time. The store never uses a caller's clock.
/// - Scans and expiry go by what a record is [indexed under](KeptRecord::index_class):
///   a complete one whose [callback](crate::Callback) is still pending counts as
///   unfinished.
/// - The store never drops unfinished records: not by age, not by memory pressure,
///   not by eviction. When there is no room, `swap` returns
///   [`StoreErrorKind::Full`].
/// - The store keeps a complete record at least until it [expires](Record::is_expired).
///   Expired ones may vanish at any time, and the store may still return them.
/// - Bytes that do not decode are an error, never "no record", and the store does not
///   overwrite them.
/// - Dropping a future abandons the reply, not necessarily the write.
///
/// The `conformance` feature has this contract as tests, and as its model the
/// smallest store that keeps it: a map under one lock.
///
/// ```
/// # use std::{collections::BTreeMap, sync::Mutex};
/// use tower_idempotency::clock::{Clock, SystemClock};
/// use tower_idempotency::core::{Key, Record, Version};
/// use tower_idempotency::store::{KeptRecord, Loaded, Page, Query, Store, StoreError, Swap};
///
/// #[derive(Debug)]
/// struct Map {
///     records: Mutex<BTreeMap<Key, Record>>,
///     clock: SystemClock,
/// }
///
/// #[async_trait::async_trait]
/// impl Store for Map {
///     async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
///         let mut records = self.records.lock().unwrap();
///         let (found, now) = (records.get(key).cloned(), self.clock.now());
///         if found.as_ref().map(Record::version) != expected {
///             return Ok(Swap::Conflict(Loaded { record: found, now }));
///         }
///         let created = found.and_then(|found| found.created_at());
///         records.insert(*key, next.clone().stamped_over(created, now));
///         Ok(Swap::Stored)
///     }
///     // And the other three.
/// #     async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
/// #         Ok(Loaded { record: self.records.lock().unwrap().get(key).cloned(), now: self.clock.now() })
/// #     }
/// #     async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> { todo!() }
/// #     async fn scan(&self, query: &Query) -> Result<Page, StoreError> { todo!() }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let runner = tower_idempotency::Runner::new(Map { records: Mutex::default(), clock: SystemClock::new() });
/// # for _ in 0..2 { assert_eq!(runner.run("s", "k", "", |_| async { Ok::<_, std::fmt::Error>(1) }).await?, 1); }
/// # Ok(()) }
/// ```
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// The record at `key`, and the store's time.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store fails or the record can't be read.
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError>;

    /// If the record at `key` is at `expected` (absent, for `None`), puts
    /// `next` there.
    ///
    /// A step costs O(step): of the parts of `next`, only those that are new
    /// in its version need to be written ([`KeptRecord::encode`]).
    ///
    /// # Errors
    ///
    /// [`StoreError`]; unless its kind says otherwise, the write may have taken effect.
    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError>;

    /// If the record at `key` is at `expected`, removes it and returns `true`.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the removal may have taken effect.
    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError>;

    /// Finds records by what falls due, a page at a time, in the order of the
    /// [filter](Filter).
    ///
    /// A page is a hint: a record may have changed since, and may prove
    /// unreadable when the caller loads it.
    ///
    /// A scan skips what it can't read, and [counts it](Page::unreadable). Each page
    /// that has a next one ends after the page before it, even if it found nothing, so
    /// that unreadable records do not hide those after them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be asked.
    async fn scan(&self, query: &Query) -> Result<Page, StoreError>;

    /// How many records `filter` finds, those that can't be read included; `most`, if there
    /// are as many or more.
    ///
    /// By default it scans, a page of 500 at a time. A store that knows without looking at each
    /// of them may count what has just gone, too.
    ///
    /// # Errors
    ///
    /// As [`scan`](Self::scan).
    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        let (mut count, mut query) = (0, Query::new(filter, most.min(500)));
        while count < most {
            let page = self.scan(&query).await?;
            count += page.found.len() + page.unreadable.count;
            let Some(next) = page.next else { break };
            query = query.after(next);
        }
        Ok(count.min(most))
    }

    /// What the store survives with its current settings.
    ///
    /// By default: nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be asked.
    async fn durability(&self) -> Result<Durability, StoreError> {
        Ok(Durability::of(DurabilityLevel::Nothing))
    }

    /// The same as [`durability`](Self::durability), and changes nothing: the mark of the
    /// [epoch](Durability::epoch) is as the last `durability` left it, and before the first there may be no epoch.
    /// For a look from outside, which services should not notice. Not for two looks to be compared.
    ///
    /// By default it asks for the durability. A store around another one returns what the inner one does.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store can't be asked.
    async fn inspect(&self) -> Result<Durability, StoreError> {
        self.durability().await
    }

    /// How long one call may take: the ledger waits no longer. 5 seconds by default. A store
    /// around another one returns the value of the inner one.
    fn patience(&self) -> Duration {
        STORE_TIMEOUT
    }

    /// Whether a [`scan`](Self::scan) can be asked for the records with one
    /// [label](Query#structfield.label). `false` by default: then no query has a label. A store
    /// around another one returns the value of the inner one.
    ///
    /// A store that does finds every record of the filter that was last written by this release
    /// with the index on, and has the label; and it may find others. What a write without the index
    /// left behind need not be found until it is written again.
    fn indexes_labels(&self) -> bool {
        false
    }

    /// Whether a [`swap`](Self::swap) writes only those parts of a record that
    /// [`KeptRecord::encode`] returns. `false` by default, for a store that keeps whole
    /// records, say. A store around another one returns the value of the inner one.
    ///
    /// If records are [encrypted](crate::Engine), a store that keeps parts gets only the
    /// ciphertexts of the new ones; any other store gets all of them with each write.
    fn keeps_parts(&self) -> bool {
        false
    }

    /// The same store by plain calls, if it never waits: the ledger then asks it without a future.
    #[doc(hidden)]
    fn immediate(&self) -> Option<&dyn ImmediateStore> {
        None
    }
}

/// The calls of a [`Store`] that replies without waiting, as plain calls: the same
/// contract, and no future in a box for each call.
pub trait ImmediateStore {
    /// See [`Store::load`].
    ///
    /// # Errors
    ///
    /// The same.
    fn load(&self, key: &Key) -> Result<Loaded, StoreError>;

    /// See [`Store::swap`].
    ///
    /// # Errors
    ///
    /// The same.
    fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError>;

    /// See [`Store::remove`].
    ///
    /// # Errors
    ///
    /// The same.
    fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError>;
}

/// A record, and the store's time when it was read.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "built by stores")]
pub struct Loaded {
    /// The record, if there is one.
    pub record: Option<Record>,
    /// The store's time.
    pub now: Timestamp,
}

/// The outcome of a [`Store::swap`].
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "built by stores")]
pub enum Swap {
    /// The record is there.
    Stored,
    /// The store has another record, or none. This is what it has, to save a second read.
    Conflict(Loaded),
}

/// Asks `store` what it survives, and refuses less than `minimum`.
///
/// Call it at the start of a service that must not run on a store which forgets.
///
/// ```
/// use tower_idempotency::store::{self, MemoryStore, DurabilityLevel};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let refused = store::require(&MemoryStore::new(), DurabilityLevel::PowerLoss).await;
/// assert_eq!(
///     refused.unwrap_err().to_string(),
///     "the store survives nothing, and power loss is required",
/// );
/// # }
/// ```
///
/// # Errors
///
/// [`RequireError`] if the store survives less, or does not say.
pub async fn require(store: &(impl Store + ?Sized), minimum: DurabilityLevel) -> Result<Durability, RequireError> {
    let found = store.durability().await.map_err(RequireError::Unknown)?;
    if found.survives < minimum {
        return Err(RequireError::Below { minimum, found });
    }
    Ok(found)
}

type BoxFuture<'r, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'r>>;

/// Written out rather than with `async_trait`, which would box every reply twice.
impl<S: Store + ?Sized> Store for Arc<S> {
    fn load<'s: 'r, 'k: 'r, 'r>(&'s self, key: &'k Key) -> BoxFuture<'r, Loaded> {
        self.as_ref().load(key)
    }

    fn swap<'s: 'r, 'k: 'r, 'n: 'r, 'r>(
        &'s self,
        key: &'k Key,
        expected: Option<Version>,
        next: &'n Record,
    ) -> BoxFuture<'r, Swap> {
        self.as_ref().swap(key, expected, next)
    }

    fn remove<'s: 'r, 'k: 'r, 'r>(&'s self, key: &'k Key, expected: Version) -> BoxFuture<'r, bool> {
        self.as_ref().remove(key, expected)
    }

    fn scan<'s: 'r, 'q: 'r, 'r>(&'s self, query: &'q Query) -> BoxFuture<'r, Page> {
        self.as_ref().scan(query)
    }

    fn count<'s: 'r, 'r>(&'s self, filter: Filter, most: usize) -> BoxFuture<'r, usize> {
        self.as_ref().count(filter, most)
    }

    fn durability<'s: 'r, 'r>(&'s self) -> BoxFuture<'r, Durability> {
        self.as_ref().durability()
    }

    fn inspect<'s: 'r, 'r>(&'s self) -> BoxFuture<'r, Durability> {
        self.as_ref().inspect()
    }

    fn patience(&self) -> Duration {
        self.as_ref().patience()
    }

    fn keeps_parts(&self) -> bool {
        self.as_ref().keeps_parts()
    }

    fn indexes_labels(&self) -> bool {
        self.as_ref().indexes_labels()
    }

    fn immediate(&self) -> Option<&dyn ImmediateStore> {
        self.as_ref().immediate()
    }
}
