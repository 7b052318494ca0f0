//! Who may have the database's write lock next.
//!
//! A transaction of the caller's may hold it for seconds, and renewals must not wait
//! for two of them. So a store's transactions ask its writer for their turn, which
//! serves all who wait to write between two of them; and writers that wait keep the
//! transactions of all processes from beginning, with a lock on a file.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::connection::{BUSY, beside};
use crate::store::StoreError;

/// How long a transaction may take to begin, once it may: it does not wait then.
const TRY: Duration = Duration::from_secs(1);
const SUFFIX: &str = ".turn";

/// Whoever gets it may try to have the write lock, and gives it back by dropping this.
#[derive(Debug)]
pub(super) struct Turn {
    begun: Sender<()>,
    ends: Ends,
}

/// Dropped, it says that the lock is free.
pub(super) type Ends = Sender<Infallible>;

impl Turn {
    /// The first is to tell that the lock was had; it is, until the second goes.
    pub(super) fn parts(self) -> (Sender<()>, Ends) {
        (self.begun, self.ends)
    }
}

pub(super) type Asking = oneshot::Sender<Result<Turn, StoreError>>;

/// Lets a transaction have the lock, until it ends. Then a writer that waits has the
/// gate shut.
pub(super) fn give(asking: Asking, gate: &Gate) -> Option<Shut> {
    let ((begun, begins), (ends, ending)) = (mpsc::channel(), mpsc::channel());
    // Whoever asked may have gone.
    asking.send(Ok(Turn { begun, ends })).ok()?;
    begins.recv_timeout(TRY).ok()?;
    // Or another process could be next, and who waits here would wait for both.
    let shut = gate.shut();
    // Work that does not end, but for what is no query, keeps the lock: then whoever
    // wants that tells.
    let _ = ending.recv_timeout(BUSY);
    shut
}

/// The file that keeps transactions from beginning. There is none before there was
/// a transaction.
#[derive(Debug)]
pub(super) struct Gate(PathBuf);

/// No transaction begins while this lives.
#[derive(Debug)]
pub(super) struct Shut {
    _locked: File,
}

/// To be dropped as soon as a transaction has begun, or has not.
#[derive(Debug)]
pub(super) struct Entered {
    _locked: File,
}

impl Gate {
    pub(super) fn of(database: &Path) -> Self {
        Self(beside(database, SUFFIX))
    }

    /// `None` while a writer of any process waits.
    pub(super) fn enter(&self) -> io::Result<Option<Entered>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.0)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Entered { _locked: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Keeps transactions from beginning. `None` if that can't be done: then it is
    /// luck who is next.
    pub(super) fn shut(&self) -> Option<Shut> {
        if !fs::exists(&self.0).unwrap_or_default() {
            return None;
        }
        let file = File::open(&self.0).ok()?;
        // Whoever enters is gone at once, unless it was stopped there.
        for _ in 0..50 {
            match file.try_lock_shared() {
                Ok(()) => return Some(Shut { _locked: file }),
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
                Err(TryLockError::Error(_)) => return None,
            }
        }
        None
    }
}
