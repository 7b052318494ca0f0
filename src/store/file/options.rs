//! What can be set before a store is opened.

use std::path::Path;
use std::sync::Arc;

use super::{FileStore, OpenError};
use crate::clock::{Clock, SystemClock};

/// How a [`FileStore`] is to be opened.
///
/// ```
/// use tower_idempotency::clock::ManualClock;
/// use tower_idempotency::store::FileStore;
///
/// # let path = std::env::temp_dir().join(format!("file-store-options-doc-{}", std::process::id()));
/// let store = FileStore::options().cache_bytes(64 << 20).with_clock(ManualClock::new()).open(&path)?;
/// # drop(store);
/// # std::fs::remove_dir_all(path).unwrap();
/// # Ok::<_, tower_idempotency::store::OpenError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct FileStoreOptions {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cache_bytes: u64,
}

impl FileStoreOptions {
    /// The system's clock and a cache of 16 MiB.
    pub fn new() -> Self {
        Self { clock: Arc::new(SystemClock::new()), cache_bytes: 16 << 20 }
    }

    /// Tells the store the time. What it tells must survive a restart: leases
    /// and retentions are counted in it.
    pub fn with_clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How much of what was read from the disk is kept in memory.
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Opens the store, as [`FileStore::open`] does.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(self, path: impl AsRef<Path>) -> Result<FileStore, OpenError> {
        FileStore::open_with(self, path.as_ref())
    }
}

impl Default for FileStoreOptions {
    fn default() -> Self {
        Self::new()
    }
}
