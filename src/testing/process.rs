//! A store as one process sees it.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::SetOnce;

use super::crash::{Crash, Fate};
use super::shared::Shared;
use crate::core::{Key, Record, Version};
use crate::store::{Loaded, Page, Query, Store, StoreError, Swap};
use crate::util::signal::lock;

/// A process of a [`TestBed`](super::TestBed): a store to build a layer, an engine or a
/// runner over. Clones are the same process.
///
/// Once it is dead, none of its calls returns or has an effect: its work stops at its
/// next call to the store, as if killed there, and it does not renew its leases.
///
/// # Caveats
///
/// Work that runs beside the step at which it dies continues until its own next call.
#[derive(Clone, Debug)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bed: Arc<Shared>,
    crash: Mutex<Option<Crash>>,
    /// At which new step it died, if that is where it was to die.
    died: SetOnce<Option<Box<str>>>,
}

impl Process {
    pub(super) fn of(bed: Arc<Shared>) -> Self {
        Self(Arc::new(Inner { bed, crash: Mutex::default(), died: SetOnce::new() }))
    }

    /// Where it dies, the first time that one of its operations gets there. Without this it
    /// does not die.
    pub fn crash_at(&self, crash: Crash) {
        *lock(&self.0.crash) = Some(crash);
    }

    /// Runs `work` until it is over. `None` if the process died before that, or is dead.
    pub async fn run<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            _ = self.0.died.wait() => None,
            output = work => Some(output),
        }
    }

    /// Whether it died.
    pub fn is_dead(&self) -> bool {
        self.0.died.initialized()
    }

    /// The step at which it was not to arrive.
    pub(super) fn new_step(&self) -> Option<&str> {
        self.0.died.get()?.as_deref()
    }

    /// A call of a process that lives; of one that is dead it never begins.
    async fn living(&self) -> &Shared {
        if self.is_dead() {
            pending::<()>().await;
        }
        &self.0.bed
    }

    async fn die(&self, at: Option<Box<str>>) {
        // Another call may have been the first.
        let _ = self.0.died.set(at);
        pending::<()>().await;
    }
}

#[async_trait]
impl Store for Process {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.living().await.store.load(key).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        let bed = self.living().await;
        let before = bed.store.load(key).await?.record.filter(|record| Some(record.version()) == expected);
        let crash = lock(&self.0.crash).clone();
        let fate = crash.as_ref().map_or(Fate::Lives, |crash| crash.fate(before.as_ref(), next));
        let at = || crash.as_ref().and_then(|crash| crash.met(next));
        if fate == Fate::DiesBefore {
            self.die(at()).await;
        }
        let swapped = bed.swap(key, expected, next).await?;
        if fate == Fate::DiesAfter && matches!(swapped, Swap::Stored) {
            self.die(at()).await;
        }
        Ok(swapped)
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.living().await.store.remove(key, expected).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.living().await.store.scan(query).await
    }

    /// A call of a dead process does not fail: it never returns.
    fn patience(&self) -> Duration {
        Duration::MAX
    }
}
