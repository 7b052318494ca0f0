//! Records on their way to a store and back, where they are encrypted.
//!
//! Around the store, so that it costs nothing where it is off.

use std::sync::Arc;

use async_trait::async_trait;

use crate::core::{Cipher, Key, Record, SealError, Version};
use crate::store::contract::{Durability, Filter, Loaded, Page, Query, Store, StoreError, StoreErrorKind, Swap};

/// Gives a store ciphertexts, and what the store has in clear. It indexes no labels: those of what
/// is encrypted the store does not see.
#[derive(Clone, Debug)]
pub(crate) struct SealingStore {
    store: Arc<dyn Store>,
    cipher: Arc<dyn Cipher>,
}

impl SealingStore {
    #[cfg(feature = "encryption")]
    pub(crate) fn new(store: Arc<dyn Store>, cipher: impl Cipher + 'static) -> Self {
        Self { store, cipher: Arc::new(cipher) }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What the store is to get in the place of `next`, if that is to be encrypted.
    pub(crate) fn sealed(&self, key: &Key, next: &Record, whole: bool) -> Result<Option<Box<Record>>, StoreError> {
        if !self.cipher.seals() {
            return Ok(None);
        }
        Ok(Some(Box::new(next.sealed_by(key, &*self.cipher, whole).map_err(not_sealed)?)))
    }

    /// What the store has, in clear.
    pub(crate) fn opened(&self, key: &Key, loaded: Loaded) -> Result<Loaded, StoreError> {
        opened(key, loaded, Some(&*self.cipher))
    }
}

#[async_trait]
impl Store for SealingStore {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.opened(key, self.store.load(key).await?)
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        let sealed = self.sealed(key, next, !self.store.keeps_parts())?;
        match self.store.swap(key, expected, sealed.as_deref().unwrap_or(next)).await? {
            Swap::Stored => Ok(Swap::Stored),
            Swap::Conflict(found) => Ok(Swap::Conflict(self.opened(key, found)?)),
        }
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.store.remove(key, expected).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.store.scan(query).await
    }

    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        self.store.count(filter, most).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        self.store.durability().await
    }

    async fn inspect(&self) -> Result<Durability, StoreError> {
        self.store.inspect().await
    }

    fn patience(&self) -> std::time::Duration {
        self.store.patience()
    }
}

fn opened(key: &Key, mut loaded: Loaded, cipher: Option<&dyn Cipher>) -> Result<Loaded, StoreError> {
    let opened = loaded.record.map(|record| record.opened(key, cipher));
    loaded.record = opened.transpose().map_err(not_sealed)?;
    Ok(loaded)
}

/// Whether it is still encrypted, as there are no keys.
#[inline]
pub(crate) fn is_sealed(loaded: &Loaded) -> bool {
    loaded.record.as_ref().is_some_and(Record::is_sealed)
}

/// Why it can't be read then.
#[cold]
pub(crate) fn locked(key: &Key, loaded: Loaded) -> StoreError {
    let refused = || StoreError::new(StoreErrorKind::Undecryptable, "the stored record is encrypted");
    opened(key, loaded, None).err().unwrap_or_else(refused)
}

fn not_sealed(error: SealError) -> StoreError {
    let kind = match error {
        SealError::Decode(error) => return error.into(),
        SealError::NoNonce => StoreErrorKind::Unavailable,
        SealError::NoKey(_) | SealError::Refused(_) => StoreErrorKind::Undecryptable,
    };
    StoreError::new(kind, error.to_string())
}
