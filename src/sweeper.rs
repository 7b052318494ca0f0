//! Forgets what has expired.

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

use crate::backoff;
use crate::ledger::Ledger;
use crate::store::{Filter, Query, Store, StoreError};

/// How many records one page of a scan has.
const PAGE: usize = 100;

/// Removes complete records whose retention is over, a few at a time.
/// Unfinished ones never.
///
/// Stores that forget by themselves (memory, file) do not need it, and it does
/// them no harm. On Postgres it works, and `PostgresStore::sweep` does the same
/// in one statement for many records.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{Sweeper, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let sweeper = Sweeper::new(MemoryStore::new()).every(Duration::from_secs(300));
/// assert_eq!(sweeper.run_once().await.unwrap(), 0);
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Sweeper {
    ledger: Ledger,
    every: Duration,
}

impl Sweeper {
    /// A sweeper of this store, once a minute.
    pub fn new(store: impl Store) -> Self {
        Self { ledger: Ledger::new(store), every: Duration::from_secs(60) }
    }

    /// How often it looks, give or take half; at least 10 ms.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every.max(Duration::from_millis(10));
        self
    }

    /// Removes all that has expired by now; how many there were.
    ///
    /// A record is removed only if it is still what the scan found.
    ///
    /// # Errors
    ///
    /// [`StoreError`]. What was removed before stays removed.
    ///
    /// # Cancellation
    ///
    /// It may be dropped at any time.
    pub async fn run_once(&self) -> Result<usize, StoreError> {
        let (mut query, mut removed) = (Query::new(Filter::Expired, PAGE), 0);
        loop {
            let page = self.ledger.scan(&query).await?;
            for found in page.found {
                removed += usize::from(self.ledger.forget(&found.key, found.version).await?);
            }
            let Some(next) = page.next else { return Ok(removed) };
            query = query.after(next);
        }
    }

    /// Does so again and again, until `shutdown` resolves. A store that fails is
    /// asked again the next time.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        loop {
            let swept = async {
                sleep(backoff::jittered(self.every, 0.5, 1.5)).await;
                let _ = self.run_once().await;
            };
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = swept => {}
            }
        }
    }
}
