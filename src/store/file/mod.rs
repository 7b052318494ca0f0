//! Records in a directory of this machine.

mod batch;
mod committer;
mod directory;
mod engine;
mod epoch;
mod error;
mod index;
mod journal;
mod layout;
mod options;
mod recover;
mod request;
mod scan;
mod sweep;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use tokio::sync::oneshot;

pub use self::error::{OpenError, OpenErrorKind};
pub use self::options::FileStoreOptions;

use self::committer::{Committer, Shared};
use self::directory::Directory;
use self::engine::Engine;
use self::error::stopped;
use self::request::{Outcome, Put, Request};
use super::{Durability, Loaded, Page, Query, Store, StoreError, Survives, Swap};
use crate::core::{Key, Record, Version};
use crate::sync::lock;

/// Keeps records in a directory, through crashes and power loss. For one
/// process.
///
/// A write is acknowledged once the disk has it (`fdatasync`). Writes that
/// wait at the same time share one sync, so 64 at once cost little more than
/// one. A replay is one look-up.
///
/// ```
/// use tower_idempotency::Ledger;
/// use tower_idempotency::store::FileStore;
///
/// # let parent = std::env::temp_dir().join(format!("file-store-doc-{}", std::process::id()));
/// # let path = parent.join("idempotency");
/// let store = FileStore::open(&path)?;
/// assert!(FileStore::open(&path).is_err(), "one at a time");
///
/// let ledger = Ledger::new(store);
/// # drop(ledger);
/// # std::fs::remove_dir_all(parent).unwrap();
/// # Ok::<_, tower_idempotency::store::OpenError>(())
/// ```
///
/// # What it keeps
///
/// - A swap or removal is atomic: after a crash all of it is there, or none.
///   Once acknowledged, it is there.
/// - Opening frees the leases of the process that had the store before: it
///   holds the directory's lock no longer, so it is dead. Where the system's
///   clock went back meanwhile, unfinished records count as written now.
/// - Unfinished records stay until they complete, whatever their age. Complete
///   ones are removed some time after they expired, as other writes come in.
/// - Bytes that don't decode are reported
///   ([`Corrupt`](super::StoreErrorKind::Corrupt),
///   [`NewerFormat`](super::StoreErrorKind::NewerFormat)) and left alone.
///
/// # Errors
///
/// A write that fails (no space, a broken disk) stops the store: it and every
/// later call answer [`Unavailable`](super::StoreErrorKind::Unavailable) until
/// the store is opened anew. What the disk holds is unknown then, and syncing
/// again may claim success without having written.
///
/// # Limits
///
/// The disk's space is the only bound on the number of records. Expect some
/// 300 MiB beside them for journals and tables in the making, and up to about
/// 200 MiB of memory under load. Unfinished records are also indexed in
/// memory, some 200 bytes each. A part (a body, a step's value) may have up to
/// 4 GiB.
///
/// # Caveats
///
/// One process at a time, and one machine: the lock is the operating system's,
/// which network file systems honour badly or not at all. A forked child must
/// not use the store of its parent. Wiping or editing the directory while the
/// store is open is not noticed.
///
/// It is as durable as the disk is honest: a disk that acknowledges a sync it
/// has not done loses what was acknowledged. Damage to the files is refused
/// when the store is opened, or reported when the record is read; but damage
/// to the very last write before a stop looks like a write that a crash cut
/// short, and is taken for one.
///
/// Opening, and dropping the last handle, do blocking I/O; look-ups that miss
/// the cache read the disk on the calling thread.
///
/// The writer is a thread outside the async runtime, so a paused tokio clock
/// does not stop its time. In tests, use
/// [`with_clock`](FileStoreOptions::with_clock).
#[derive(Clone)]
pub struct FileStore(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    path: PathBuf,
    /// Held while the epoch is read and moved.
    asking: Mutex<()>,
    /// Taken when the last handle goes, which ends the writer.
    requests: Option<Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    /// After everything else: the next one to open the directory must find
    /// nobody in it.
    _directory: Directory,
}

impl FileStore {
    /// Opens the store in the directory `path`, which it has for itself.
    /// Creates it if there is none: readable by this user only, and its parent
    /// directories too.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the path is something else, if a store has it open, or
    /// if it can't be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::options().open(path)
    }

    /// To set something other than the path.
    pub fn options() -> FileStoreOptions {
        FileStoreOptions::new()
    }

    fn open_with(options: FileStoreOptions, path: &Path) -> Result<Self, OpenError> {
        let mut directory = Directory::claim(path)?;
        let engine = Engine::open(&mut directory, options.cache_bytes)?;
        let index = recover::recover(&engine, &*options.clock).map_err(|error| OpenError::engine(path, error))?;
        let shared = Shared { engine, index: Mutex::new(index), clock: options.clock, failure: OnceLock::new() };
        let shared = Arc::new(shared);
        let (requests, waiting) = mpsc::channel();
        let committer = Committer::new(Arc::clone(&shared), waiting);
        let writer = thread::Builder::new().name("idempotency-file".to_owned()).spawn(|| committer.run());
        let writer = writer.map_err(|error| OpenError::io(path, error))?;
        let path = path.to_owned();
        let asking = Mutex::default();
        let handle =
            Handle { shared, path, asking, requests: Some(requests), writer: Some(writer), _directory: directory };
        Ok(Self(Arc::new(handle)))
    }

    /// Puts these bytes in the place of the record at `key`, as damage would.
    #[cfg(feature = "conformance")]
    #[doc(hidden)]
    pub fn damage(&self, key: &Key, value: &[u8]) -> bool {
        let engine = &self.0.shared.engine;
        let key = key.as_bytes();
        let place = [&engine.open, &engine.done].into_iter().find(|place| matches!(place.get(key), Ok(Some(_))));
        place.is_some_and(|place| place.insert(key, value).is_ok())
    }

    async fn write(&self, key: &Key, expected: Option<Version>, put: Option<Put>) -> Result<Outcome, StoreError> {
        self.check()?;
        let (reply, answer) = oneshot::channel();
        let request = Request { key: *key, expected, put, reply };
        let sent = self.0.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        match answer.await {
            Ok(outcome) if sent => outcome,
            _ => Err(self.0.shared.failure.get().cloned().unwrap_or_else(stopped)),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        self.0.shared.failure.get().cloned().map_or(Ok(()), Err)
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(writer) = self.writer.take() {
            // If it panicked, whoever waited has been told.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for FileStore {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.check()?;
        let record = self.0.shared.engine.load(key)?;
        // After the look-up: no record is newer than the time it comes with.
        Ok(Loaded { record, now: self.0.shared.clock.now() })
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        loop {
            match self.write(key, expected, Some(Put::new(next))).await? {
                Outcome::Took => return Ok(Swap::Stored),
                Outcome::Conflict => {}
            }
            let found = self.load(key).await?;
            // What was in the way may have gone since.
            if found.record.as_ref().map(Record::version) != expected {
                return Ok(Swap::Conflict(found));
            }
        }
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        Ok(self.write(key, Some(expected), None).await? == Outcome::Took)
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.check()?;
        scan::scan(&self.0.shared, query)
    }

    /// Power loss, if the disk is honest. Does blocking I/O.
    async fn durability(&self) -> Result<Durability, StoreError> {
        self.check()?;
        let _alone = lock(&self.0.asking);
        let epoch = epoch::advance(&self.0.path)?;
        Ok(Durability { epoch: Some(epoch), ..Durability::of(Survives::PowerLoss) })
    }
}
