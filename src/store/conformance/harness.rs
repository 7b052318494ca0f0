//! What the cases need of a store under test.

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::core::Key;
use crate::store::{Store, StoreErrorKind};
use crate::util::clock::ManualClock;

/// What may be the matter with a record that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// Its bytes are no record's.
    Corrupt,
    /// A newer release wrote it, in a format of its own.
    NewerFormat,
}

impl Damage {
    /// What a load of such a record returns.
    pub const fn kind(self) -> StoreErrorKind {
        match self {
            Self::Corrupt => StoreErrorKind::Corrupt,
            Self::NewerFormat => StoreErrorKind::NewerFormat,
        }
    }
}

/// That a store, or its harness, can't do what a case needs, and why.
///
/// The case then tests nothing, and says so: a line on standard error, with how many those
/// are by now, which the test harness does not swallow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Cannot {
    reason: &'static str,
}

/// How many cases of this program tested nothing.
static UNTESTED: AtomicUsize = AtomicUsize::new(0);

impl Cannot {
    /// It can't, for this reason: what a person reads who wonders why a case tested nothing.
    pub const fn because(reason: &'static str) -> Self {
        Self { reason }
    }

    /// The reason.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// How many cases of this program could not test what they are for, so far.
    pub fn count() -> usize {
        UNTESTED.load(Ordering::SeqCst)
    }

    /// Says that the case which runs now tests nothing.
    pub(super) fn tell(self) {
        let count = UNTESTED.fetch_add(1, Ordering::SeqCst) + 1;
        let thread = std::thread::current();
        let case = thread.name().unwrap_or("a case");
        let line = format!("NOT TESTED ({count} so far): {case}: {}\n", self.reason);
        // Not by `eprintln!`, which tests that pass don't show.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// One store under test, empty at first, and its clock.
///
/// What not every store can do has no default: a harness does it, or says
/// [why it can't](Cannot). A case whose harness says that it did what it did not fails.
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync {
    /// The store. Always the same one, until it is [reopened](Self::reopen).
    fn store(&self) -> Arc<dyn Store>;

    /// Moves the store's clock forward by at least this much.
    ///
    /// A store whose clock can't be set waits that long.
    async fn advance(&self, by: Duration);

    /// The unit of every lease, retention and pause in the cases.
    ///
    /// With a clock that runs by itself: longer than a few calls take.
    fn tick(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Closes the store and opens it again with what it kept. By then the cases have
    /// dropped their handles.
    ///
    /// The leases that were held may be gone after it.
    ///
    /// # Errors
    ///
    /// [`Cannot`], if it keeps nothing.
    async fn reopen(&self) -> Result<(), Cannot>;

    /// Damages the stored record at `key`, behind the store's back. The record stays
    /// where scans look for it.
    ///
    /// # Errors
    ///
    /// [`Cannot`], if there are no bytes to damage.
    async fn damage(&self, key: &Key, how: Damage) -> Result<(), Cannot>;

    /// Another store, empty and on the same clock, which is full once it has
    /// this many records.
    ///
    /// # Errors
    ///
    /// [`Cannot`], if its capacity can't be set.
    fn bounded(&self, records: usize) -> Result<Arc<dyn Store>, Cannot>;
}

type Make = Box<dyn Fn(usize) -> Arc<dyn Store> + Send + Sync>;
type DamageRecord = Box<dyn Fn(Key, Damage) + Send + Sync>;

/// The [`Harness`] of a store on a [`ManualClock`].
///
/// It can't be reopened. Whether it can be damaged or bounded it must be told: without
/// [`damaged_by`](Self::damaged_by) or [`never_damaged`](Self::never_damaged), and
/// [`bounded_by`](Self::bounded_by) or [`never_full`](Self::never_full), the cases that need
/// it fail.
pub struct Manual {
    store: Arc<dyn Store>,
    clock: ManualClock,
    bounded: Result<Make, Cannot>,
    damage: Result<DamageRecord, Cannot>,
}

/// What is in a [`Manual`] that was not told.
const UNTOLD: Cannot = Cannot::because("");

impl Manual {
    /// A store that was made with (a clone of) this clock.
    pub fn new(store: impl Store, clock: ManualClock) -> Self {
        Self { store: Arc::new(store), clock, bounded: Err(UNTOLD), damage: Err(UNTOLD) }
    }

    /// How to damage one of its records.
    #[must_use]
    pub fn damaged_by(mut self, damage: impl Fn(Key, Damage) + Send + Sync + 'static) -> Self {
        self.damage = Ok(Box::new(damage));
        self
    }

    /// Why its records can't be damaged.
    #[must_use]
    pub fn never_damaged(mut self, why: Cannot) -> Self {
        self.damage = Err(why);
        self
    }

    /// How to make one with room for so many records, on the same clock.
    #[must_use]
    pub fn bounded_by<S: Store>(mut self, make: impl Fn(usize) -> S + Send + Sync + 'static) -> Self {
        self.bounded = Ok(Box::new(move |records| Arc::new(make(records))));
        self
    }

    /// Why there can be none that is full.
    #[must_use]
    pub fn never_full(mut self, why: Cannot) -> Self {
        self.bounded = Err(why);
        self
    }
}

impl fmt::Debug for Manual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manual").field("store", &self.store).field("clock", &self.clock).finish_non_exhaustive()
    }
}

#[async_trait]
impl Harness for Manual {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    async fn reopen(&self) -> Result<(), Cannot> {
        Err(Cannot::because("what is in memory ends with it"))
    }

    async fn damage(&self, key: &Key, how: Damage) -> Result<(), Cannot> {
        match &self.damage {
            Ok(damage) => damage(*key, how),
            Err(UNTOLD) => panic!("how is a record damaged? Say `damaged_by`, or why not, with `never_damaged`"),
            Err(why) => return Err(*why),
        }
        Ok(())
    }

    fn bounded(&self, records: usize) -> Result<Arc<dyn Store>, Cannot> {
        match &self.bounded {
            Ok(make) => Ok(make(records)),
            Err(UNTOLD) => panic!("which one is full soon? Say `bounded_by`, or why not, with `never_full`"),
            Err(why) => Err(*why),
        }
    }
}
