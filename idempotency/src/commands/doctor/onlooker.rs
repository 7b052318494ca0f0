//! A store that a watcher looks at once, and that does not notice.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tower_idempotency::core::{Key, Record, Version};
use tower_idempotency::store::{Durability, Filter, Loaded, Page, Query, Store, StoreError, Swap};

/// The store, but that what it survives is asked without moving the mark of its epoch: by that mark
/// `doctor` tells whether services use it.
#[derive(Debug)]
pub(super) struct Onlooker(Arc<dyn Store>);

impl Onlooker {
    pub(super) fn at(store: &Arc<dyn Store>) -> Self {
        Self(Arc::clone(store))
    }
}

#[async_trait]
impl Store for Onlooker {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.0.load(key).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        self.0.swap(key, expected, next).await
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.0.remove(key, expected).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.0.scan(query).await
    }

    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        self.0.count(filter, most).await
    }

    /// Without the epoch: two that are the same would look like a store that went back in time.
    async fn durability(&self) -> Result<Durability, StoreError> {
        let mut found = self.0.inspect().await?;
        found.epoch = None;
        Ok(found)
    }

    fn patience(&self) -> Duration {
        self.0.patience()
    }

    fn keeps_parts(&self) -> bool {
        self.0.keeps_parts()
    }

    fn indexes_labels(&self) -> bool {
        self.0.indexes_labels()
    }
}
