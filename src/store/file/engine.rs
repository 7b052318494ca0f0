//! The storage engine, with the keyspaces of the [layout](super::layout).

use std::fs;
use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Snapshot};

use super::directory::{Directory, create_private, sync_directory, sync_tree};
use super::error::{OpenError, OpenErrorKind, unreadable};
use super::journal;
use super::layout::{Value, part_key};
use crate::core::{DecodeError, Key, PartId, Record};
use crate::store::StoreError;

/// What the engine keeps in memory before it writes a table of it.
const MEMTABLE_BYTES: u64 = 32 << 20;
/// Journals are kept until what is in them is in tables as well.
const JOURNAL_BYTES: u64 = 192 << 20;

pub(super) struct Engine {
    db: Database,
    pub(super) open: Keyspace,
    pub(super) parts: Keyspace,
    pub(super) done: Keyspace,
    pub(super) expiry: Keyspace,
    #[cfg(test)]
    pub(super) written: std::sync::atomic::AtomicUsize,
}

impl Engine {
    pub(super) fn open(directory: &mut Directory, cache_bytes: u64) -> Result<Self, OpenError> {
        let path = directory.engine();
        if !path.is_dir() {
            create(directory, &path, cache_bytes)?;
        }
        // Without this or without a journal, the engine would start afresh.
        let version = path.join("version").is_file();
        let whole = version && journal::mend(&path).map_err(|error| OpenError::io(directory.path(), error))?;
        if !whole {
            return Err(OpenError::new(OpenErrorKind::Damaged, directory.path()));
        }
        let engine = Self::start(&path, cache_bytes).map_err(|error| OpenError::engine(directory.path(), error))?;
        directory.set_ready()?;
        Ok(engine)
    }

    fn start(path: &Path, cache_bytes: u64) -> fjall::Result<Self> {
        // More than one would only keep each other busy: there is one writer.
        let builder = Database::builder(path).worker_threads(1).cache_size(cache_bytes);
        let db = builder.manual_journal_persist(true).max_journaling_size(JOURNAL_BYTES).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        Ok(Self {
            open: db.keyspace("open", options)?,
            parts: db.keyspace("parts", options)?,
            done: db.keyspace("done", options)?,
            expiry: db.keyspace("expiry", options)?,
            db,
            #[cfg(test)]
            written: Default::default(),
        })
    }

    /// An empty batch that is on the disk when its commit returns.
    pub(super) fn batch(&self) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.db.clone(), 256).durability(Some(PersistMode::SyncData))
    }

    /// The record at `key`, as of one moment.
    pub(super) fn load(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        if let Some(value) = self.done.get(key.as_bytes()).map_err(unreadable)? {
            return Ok(Some(Value::parse(&value)?.complete()?));
        }
        // Not in there: it is unfinished, or absent, or just moving from one
        // to the other. A snapshot sees it in one place.
        let snapshot = self.snapshot();
        if let Some(value) = snapshot.get(&self.open, key.as_bytes()).map_err(unreadable)? {
            return Ok(Some(self.unfinished(&snapshot, key, &value).map_err(unreadable)??));
        }
        let value = snapshot.get(&self.done, key.as_bytes()).map_err(unreadable)?;
        Ok(value.map(|value| Value::parse(&value)?.complete()).transpose()?)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }

    /// An unfinished record with its parts. The outer error is the engine's.
    pub(super) fn unfinished(
        &self,
        snapshot: &Snapshot,
        key: &Key,
        value: &[u8],
    ) -> fjall::Result<Result<Record, DecodeError>> {
        let mut failed = None;
        let mut part = |id| match snapshot.get(&self.parts, part_key(key, id)) {
            Ok(bytes) => bytes.map(|bytes| Bytes::copy_from_slice(&bytes)),
            Err(error) => {
                failed = Some(error);
                None
            }
        };
        let record = Value::parse(value).and_then(|value| {
            // One that owes a callback has its answer, as a complete one does.
            let answer = |id| (id == PartId::Response).then(|| Bytes::copy_from_slice(value.answer));
            value.record(|id| answer(id).or_else(|| part(id)))
        });
        failed.map_or(Ok(record), Err)
    }
}

/// Builds an empty engine beside its place and moves it there when it is
/// whole: a crash leaves none, or all of it.
fn create(directory: &Directory, path: &Path, cache_bytes: u64) -> Result<(), OpenError> {
    if directory.is_ready() {
        return Err(OpenError::new(OpenErrorKind::Damaged, directory.path()));
    }
    let io = |error| OpenError::io(directory.path(), error);
    let unfinished = directory.unfinished_engine();
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(io)?;
    }
    create_private(&unfinished).map_err(io)?;
    let engine = Engine::start(&unfinished, cache_bytes).map_err(|error| OpenError::engine(directory.path(), error))?;
    drop(engine);
    sync_tree(&unfinished).map_err(io)?;
    fs::rename(&unfinished, path).map_err(io)?;
    sync_directory(directory.path()).map_err(io)
}
