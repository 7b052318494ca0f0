//! Removes what has expired.

use std::pin::pin;
use std::time::Duration;

use crate::core::{Key, Timestamp};
use crate::engine::Engine;
use crate::store::{Filter, Query, StoreError};
use crate::telemetry::event::EventKind;
use crate::workers::pace;

/// How many records one page of a scan has.
const PAGE: usize = 100;

/// What a [`Sweeper`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// How many records it removed.
    pub removed: usize,
    /// How many it left because they can't be read.
    pub unreadable: usize,
    /// Why it ended before it had seen all that has expired; `None` if it was through.
    pub stopped: Option<Stopped>,
}

/// Why a [`Sweeper`] ended a sweep early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// A [maintenance window](crate::guide::maintenance) covers the store.
    Maintenance {
        /// When work goes on, on the store's clock.
        until: Timestamp,
    },
}

/// Removes complete records whose retention is over, a few at a time. It never removes
/// unfinished ones.
///
/// Stores that forget by themselves (memory, SQLite) do not need it, and it does
/// them no harm. On Postgres it works, and `PostgresStore::sweep` does the same
/// in one statement for many records.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::{Sweeper, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let sweeper = Sweeper::new(MemoryStore::new()).every(Duration::from_secs(300));
/// assert_eq!(sweeper.run_once().await.unwrap().removed, 0);
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Sweeper {
    engine: Engine,
    every: Duration,
}

impl Sweeper {
    /// A sweeper of the store of this engine, once a minute. It also takes a store, or
    /// a layer.
    pub fn new(engine: impl Into<Engine>) -> Self {
        Self { engine: engine.into(), every: Duration::from_secs(60) }
    }

    /// How often it looks, give or take half; at least 10 ms.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = pace::at_least(every);
        self
    }

    /// Removes everything that has expired; nothing while a
    /// [maintenance window](crate::guide::maintenance) covers the store. One that begins
    /// meanwhile [stops](Swept::stopped) it before the next 100 records.
    ///
    /// It removes a record only if the record is still what the scan found. A record that can't
    /// be read stays: the sweeper emits [`Unreadable`](crate::EventKind::Unreadable) to
    /// `tracing` and `metrics`, and the sweep continues.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store fails. What was removed before stays removed.
    ///
    /// # Cancellation
    ///
    /// You may drop the future at any time.
    pub async fn run_once(&self) -> Result<Swept, StoreError> {
        let (mut query, mut swept) = (Query::new(Filter::Expired, PAGE), Swept::default());
        loop {
            if let Some(until) = self.engine.closed_until().await {
                return Ok(Swept { stopped: Some(Stopped::Maintenance { until }), ..swept });
            }
            let page = self.engine.scan(&query).await?;
            swept.unreadable += page.unreadable.count;
            for key in page.unreadable.keys {
                let error = self.engine.look(&key).await.err().filter(StoreError::is_unreadable);
                error.into_iter().for_each(|error| self.emit_unreadable(&key, error));
            }
            for found in page.found {
                match self.engine.forget(&found.key, found.version).await {
                    Ok(removed) => swept.removed += usize::from(removed),
                    Err(error) if error.is_unreadable() => {
                        swept.unreadable += 1;
                        self.emit_unreadable(&found.key, error);
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(next) = page.next else { return Ok(swept) };
            query = query.after(next);
        }
    }

    fn emit_unreadable(&self, key: &Key, error: StoreError) {
        self.engine.emit(key, || EventKind::Unreadable { error });
    }

    /// Calls [`run_once`](Self::run_once) again and again, until `shutdown` resolves. After a
    /// failure of the store it tries again the next time.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        loop {
            let swept = async {
                pace::pause(self.every).await;
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
