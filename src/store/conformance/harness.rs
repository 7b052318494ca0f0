//! What the cases need of a store under test.

use std::fmt;
use std::sync::Arc;
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

/// One store under test, empty at first, and its clock.
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

    /// Closes the store and opens it again with what it kept; `false` if it
    /// keeps nothing. By then the cases have dropped their handles.
    ///
    /// The leases that were held may be gone after it.
    async fn reopen(&self) -> bool {
        false
    }

    /// Damages the stored record at `key`, behind the store's back; `false` if that
    /// can't be done. The record stays where scans look for it.
    ///
    /// By default it can't; then the cases about what can't be read test nothing.
    async fn damage(&self, _key: &Key, _how: Damage) -> bool {
        false
    }

    /// Another store, empty and on the same clock, which is full once it has
    /// this many records; `None` if its capacity can't be set.
    fn bounded(&self, _records: usize) -> Option<Arc<dyn Store>> {
        None
    }
}

type Make = Box<dyn Fn(usize) -> Arc<dyn Store> + Send + Sync>;
type DamageRecord = Box<dyn Fn(Key, Damage) + Send + Sync>;

/// The [`Harness`] of a store on a [`ManualClock`].
pub struct Manual {
    store: Arc<dyn Store>,
    clock: ManualClock,
    bounded: Option<Make>,
    damage: Option<DamageRecord>,
}

impl Manual {
    /// A store that was made with (a clone of) this clock.
    pub fn new(store: impl Store, clock: ManualClock) -> Self {
        Self { store: Arc::new(store), clock, bounded: None, damage: None }
    }

    /// How to damage one of its records.
    #[must_use]
    pub fn damaged_by(mut self, damage: impl Fn(Key, Damage) + Send + Sync + 'static) -> Self {
        self.damage = Some(Box::new(damage));
        self
    }

    /// How to make one with room for so many records, on the same clock.
    #[must_use]
    pub fn bounded_by<S: Store>(mut self, make: impl Fn(usize) -> S + Send + Sync + 'static) -> Self {
        self.bounded = Some(Box::new(move |records| Arc::new(make(records))));
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

    async fn damage(&self, key: &Key, how: Damage) -> bool {
        self.damage.iter().for_each(|damage| damage(*key, how));
        self.damage.is_some()
    }

    fn bounded(&self, records: usize) -> Option<Arc<dyn Store>> {
        self.bounded.as_ref().map(|make| make(records))
    }
}
