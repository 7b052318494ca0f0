//! Who may have the database's write lock next.
//!
//! A transaction of the caller's may hold it for seconds, and renewals must not wait
//! for two of them. So a store's transactions ask its writer for their turn, which
//! serves all who wait to write between two of them. Between processes, two files
//! are locked: writers that wait shut the gate, and no transaction begins; and a
//! transaction that is next has writers that did not wait let it go first.

use std::convert::Infallible;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::connection::{BUSY, beside};
use super::files::Locked;
use crate::store::contract::StoreError;

/// How long a transaction may take to begin, once it may: it does not wait long.
const TRY: Duration = Duration::from_secs(1);

/// A transaction that gets it may try to have the write lock, and gives it back by
/// dropping this.
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
    // The transaction that asked may have gone.
    asking.send(Ok(Turn { begun, ends })).ok()?;
    begins.recv_timeout(TRY).ok()?;
    // Or another process could be next, and who waits here would wait for both.
    let since = Instant::now();
    let shut = loop {
        match gate.shut() {
            // One that enters may be slow, and there is time until this one ends.
            None if is_going_on(&ending) && since.elapsed() < BUSY => {}
            shut => break shut,
        }
    };
    // Work that does not end keeps the lock: then the next one that wants it reports
    // that.
    let _ = ending.recv_timeout(BUSY.saturating_sub(since.elapsed()));
    shut
}

fn is_going_on(ending: &Receiver<Infallible>) -> bool {
    matches!(ending.recv_timeout(Duration::from_millis(5)), Err(RecvTimeoutError::Timeout))
}

/// Two files beside the database. There are none before there was a transaction.
#[derive(Debug)]
pub(super) struct Gate {
    /// Shared by writers that wait; exclusive for a moment as a transaction begins.
    gate: PathBuf,
    /// That of the transaction that is next.
    next: PathBuf,
}

/// No transaction begins while this lives.
#[derive(Debug)]
pub(super) struct Shut {
    _locked: Locked,
}

/// To be dropped as soon as a transaction has begun, or has not.
#[derive(Debug)]
pub(super) struct Entered {
    _locked: Locked,
}

/// Writers that do not wait let this transaction go first.
#[derive(Debug)]
pub(super) struct Next {
    _locked: Option<Locked>,
}

impl Gate {
    pub(super) fn of(database: &Path) -> Self {
        Self { gate: beside(database, ".turn"), next: beside(database, ".turn-next") }
    }

    /// For a transaction that has its turn. One process's transaction is the next; those of
    /// others try all the same.
    pub(super) fn next(&self) -> io::Result<Next> {
        let file = open(&self.next)?;
        let locked = file.try_lock().is_ok();
        Ok(Next { _locked: locked.then(|| Locked(file)) })
    }

    /// `None` while a writer of any process waits.
    pub(super) fn enter(&self) -> io::Result<Option<Entered>> {
        let file = open(&self.gate)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Entered { _locked: Locked(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Keeps transactions from beginning. `None` if that can't be done: then it is
    /// luck who is next.
    pub(super) fn shut(&self) -> Option<Shut> {
        // A transaction that enters is gone at once, unless its process was stopped there.
        shared(&self.gate, Duration::from_millis(50)).map(|locked| Shut { _locked: locked })
    }

    /// Lets a transaction begin that is next, if one is.
    pub(super) fn let_go_first(&self) {
        // It tries all the time, unless it was stopped there.
        drop(shared(&self.next, Duration::from_millis(20)));
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Locks the file for one of many, if it is there and that can be done in so long.
fn shared(path: &Path, patience: Duration) -> Option<Locked> {
    let file = File::open(path).ok()?;
    let since = Instant::now();
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Some(Locked(file)),
            Err(TryLockError::WouldBlock) if since.elapsed() < patience => thread::sleep(Duration::from_millis(1)),
            Err(_) => return None,
        }
    }
}
