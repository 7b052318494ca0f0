//! What the writer and the readers share.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::buckets::Buckets;
use super::checkpoint::Checkpoints;
use super::clock::Timeline;
use super::connection::Place;
use super::owner::Owner;
use super::process::OpenHere;
use super::schema::Sql;
use super::turn::Gate;
use crate::store::contract::{StoreError, StoreErrorKind};

/// An open store, but for its threads.
#[derive(Debug)]
pub(super) struct OpenStore {
    pub(super) place: Place,
    pub(super) sql: Sql,
    /// Whether the file is the store's own.
    pub(super) is_own: bool,
    pub(super) boot: String,
    pub(super) clock: Timeline,
    pub(super) owner: Owner,
    pub(super) guard: Guard,
    pub(super) buckets: Buckets,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) gate: Gate,
    pub(super) transaction_limit: Duration,
    pub(super) _here: OpenHere,
    /// What was found as the store was opened, for callers of `durability`.
    pub(super) warnings: Vec<String>,
}

/// Notices that the files are others by now, or that the process is another one.
#[derive(Debug)]
pub(super) struct Guard {
    process: u32,
    path: PathBuf,
    file: Identity,
    wal: PathBuf,
    /// Known once there is one.
    wal_file: OnceLock<Identity>,
}

/// Tells a file from all others of its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    /// That of the file at `path`.
    #[cfg(target_os = "linux")]
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
        // Not its times: once they were asked for, the next write to the file changes
        // them to the nanosecond, and the sync of each commit would write them, too.
        let Ok(found) = statx(CWD, path, AtFlags::empty(), StatxFlags::INO) else { return Self::by_metadata(path) };
        Ok(Self(rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Self::by_metadata(path)
    }

    fn by_metadata(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            Self(found.dev(), found.ino())
        };
        #[cfg(not(unix))]
        let identity = Self(0, u64::from(found.is_file()));
        Ok(identity)
    }
}

impl Guard {
    pub(super) fn new(path: &Path, wal: PathBuf) -> io::Result<Self> {
        let file = Identity::of(path)?;
        Ok(Self { process: process::id(), path: path.to_owned(), file, wal, wal_file: OnceLock::new() })
    }

    /// From now on, this is the WAL.
    pub(super) fn know_the_wal(&self) {
        if let Ok(found) = Identity::of(&self.wal) {
            let _ = self.wal_file.set(found);
        }
    }

    /// Whether this is the process that opened the store.
    pub(super) fn is_at_home(&self) -> bool {
        process::id() == self.process
    }

    /// Refuses a copy of the process: SQLite's locks are not inherited, and its
    /// threads are not there.
    pub(super) fn check_process(&self) -> Result<(), StoreError> {
        if self.is_at_home() {
            return Ok(());
        }
        Err(unavailable("a process that was forked can't use the SQLite store of its parent; open it after the fork"))
    }

    /// Whether the database lies at `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        Identity::of(path).is_ok_and(|found| found == self.file)
    }

    /// What is written to a file that was removed or replaced is lost.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.check_process()?;
        same(&self.path, self.file)?;
        self.wal_file.get().map_or(Ok(()), |known| same(&self.wal, *known))
    }
}

fn same(path: &Path, known: Identity) -> Result<(), StoreError> {
    let missing = |what| unavailable(&format!("{} {what}; put the file back", path.display()));
    match Identity::of(path) {
        Ok(found) if found == known => Ok(()),
        Ok(_) => Err(missing("was replaced while the store was open")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing("was removed while the store was open")),
        Err(error) => Err(unavailable(&format!("{} can't be looked at", path.display())).caused_by(error)),
    }
}

fn unavailable(message: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, message)
}
