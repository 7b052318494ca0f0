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
}

/// The [`Harness`] of a store on a [`ManualClock`].
#[derive(Debug)]
pub struct Manual {
    store: Arc<dyn Store>,
    clock: ManualClock,
}

impl Manual {
    /// A store that was made with (a clone of) this clock.
    pub fn new(store: impl Store, clock: ManualClock) -> Self {
        Self { store: Arc::new(store), clock }
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
}
