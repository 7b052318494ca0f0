//! What the cases need of a store under test.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::ManualClock;
use crate::store::Store;

/// One store under test, empty at first, and its clock.
#[async_trait]
pub trait Harness: fmt::Debug + Send + Sync {
    /// The store. Always the same one, until it is [reopened](Self::reopen).
    fn store(&self) -> Arc<dyn Store>;

    /// Moves the store's clock forward by at least this much.
    ///
    /// A store that can't be told the time waits that long.
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
    /// The lease of whoever held a record may be gone after it.
    async fn reopen(&self) -> bool {
        false
    }

    /// Another store, empty and on the same clock, which is full once it has
    /// this many records; `None` if it can't be told how many it may have.
    fn bounded(&self, _records: usize) -> Option<Arc<dyn Store>> {
        None
    }
}

type Make = Box<dyn Fn(usize) -> Arc<dyn Store> + Send + Sync>;

/// The [`Harness`] of a store on a [`ManualClock`].
pub struct Manual {
    store: Arc<dyn Store>,
    clock: ManualClock,
    bounded: Option<Make>,
}

impl Manual {
    /// A store that was made with (a clone of) this clock.
    pub fn new(store: impl Store, clock: ManualClock) -> Self {
        Self { store: Arc::new(store), clock, bounded: None }
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

    fn bounded(&self, records: usize) -> Option<Arc<dyn Store>> {
        self.bounded.as_ref().map(|make| make(records))
    }
}
