//! Whether all that was acknowledged is there, before the first one of a machine
//! writes to the store again.

use std::fs;
use std::path::Path;

use super::connection::beside;
use super::error::{SqliteOpenError, SqliteOpenErrorKind as Kind};
use super::inspect::{Database, Meta, Moved};
use super::owner::Other;
use super::wal::{Wal, wal};
use crate::util::nonce::fresh_nonce;

/// What the files say, each for itself.
#[derive(Debug)]
pub(super) struct Evidence<'e> {
    path: &'e Path,
    database: &'e Database,
    wal: Option<Wal>,
    /// The most transactions that any process knew to be on the disk; `None` if none
    /// noted it.
    known: Option<i64>,
    /// Whether there were no more than that: power was not lost since.
    is_exact: bool,
    pages_in_file: u64,
}

const RESTORE: &str = "put the files back as they were, or restore the store from a backup and open it once with \
    `SqliteStoreOptions::accept_the_loss_of_acknowledged_writes`";

impl<'e> Evidence<'e> {
    pub(super) fn gather(path: &'e Path, database: &'e Database, others: &[Other]) -> Result<Self, SqliteOpenError> {
        let io = |error| SqliteOpenError::io(path, error);
        let pages_in_file = fs::metadata(path).map_err(io)?.len() / database.page_size.max(512);
        let wal = Wal::walk(&wal(path), database.tallies_page.unsigned_abs(), pages_in_file).map_err(io)?;
        let of_this_boot = |other: &Other| matches!(other, Other::Dead(dead) if dead.is_of_this_boot);
        let is_exact = !others.is_empty() && others.iter().all(of_this_boot);
        Ok(Self { path, database, wal, known: known_by(others), is_exact, pages_in_file })
    }

    /// Before the library looks at the WAL, and perhaps forgets half of it.
    pub(super) fn check_files(&self) -> Result<(), SqliteOpenError> {
        let (is_open, commits) = match &self.database.meta {
            Moved::NoTables => return Ok(()),
            Moved::Torn if self.commits_in_wal() == 0 => {
                return self.refused(
                    Kind::Damaged,
                    "has a damaged page about the whole store, which no -wal file makes up for",
                );
            }
            // By a process that had it open. The WAL tells the rest.
            Moved::Torn => (true, i64::MAX),
            Moved::All(meta) => (meta.is_open, meta.commits),
        };
        if let Some(wal) = &self.wal {
            // A process that was killed in its commit leaves the like of it behind what
            // others wrote over it. Where the count is exact, it tells.
            if wal.is_damaged && !self.is_exact {
                return self
                    .refused(Kind::Damaged, "has a damaged -wal file, with acknowledged writes behind the damage");
            }
            if !wal.covers(self.pages_in_file, self.database.page_size) {
                return self.refused(Kind::Damaged, "is shorter than it was");
            }
        }
        if is_open && self.known.is_none() {
            let what = "was not closed, and the files are missing that lay beside it (-wal, .owner-…): perhaps it is a copy \
                        of this file alone";
            return self.refused(Kind::Incomplete, what);
        }
        // A shell that was killed may leave such a WAL. So does a file of another
        // database, which would be written all over this one.
        if self.is_strange() {
            let what = "was closed, and the -wal file beside it is not the one that it was closed with";
            return self.refused(Kind::Incomplete, what);
        }
        if self.commits_in_wal() == 0 {
            return check_count(self.path, self.known, commits);
        }
        Ok(())
    }

    fn commits_in_wal(&self) -> u64 {
        self.wal.as_ref().map_or(0, |wal| wal.commits)
    }

    fn is_strange(&self) -> bool {
        let closed = matches!(&self.database.meta, Moved::All(meta) if !meta.is_open);
        let holds_others = self.wal.as_ref().is_some_and(|wal| wal.commits > 0 && !wal.has_page);
        self.database.is_own && closed && holds_others
    }

    /// With what the library made of the WAL.
    pub(super) fn check_state(&self, now: &Meta) -> Result<(), SqliteOpenError> {
        let is_older = |meta: &Meta| now.id != meta.id || now.commits < meta.commits;
        if matches!(&self.database.meta, Moved::All(meta) if is_older(meta)) {
            return self
                .refused(Kind::Incomplete, "has a -wal file beside it that is another database's, or an old one");
        }
        check_count(self.path, self.known, now.commits)
    }

    fn refused(&self, kind: Kind, what: &str) -> Result<(), SqliteOpenError> {
        refused(self.path, kind, what)
    }

    /// Puts a WAL aside that is not this database's: the loss was accepted, and it
    /// must not become damage.
    pub(super) fn set_aside(&self) -> Result<(), SqliteOpenError> {
        if !self.is_strange() {
            return Ok(());
        }
        let aside = beside(self.path, &format!("-wal.set-aside-{:x}", fresh_nonce().get()));
        fs::rename(wal(self.path), aside).map_err(|error| SqliteOpenError::io(self.path, error))
    }

    /// The count that the next process takes over.
    pub(super) fn known(&self) -> i64 {
        self.known.unwrap_or_default()
    }
}

/// The most transactions that any process knew to be on the disk; `None` if none noted
/// it. That of one that seems to live counts, too: its lock may be held by a child that it
/// forked, and that is all that is left of it.
pub(super) fn known_by(others: &[Other]) -> Option<i64> {
    others.iter().filter_map(Other::commits).max()
}

/// Whether what others knew to be on the disk is there.
pub(super) fn check_count(path: &Path, known: Option<i64>, commits: i64) -> Result<(), SqliteOpenError> {
    let missing = known.unwrap_or_default().saturating_sub(commits);
    if missing <= 0 {
        return Ok(());
    }
    let what = format!(
        "lacks the last {missing} transactions that were acknowledged: its -wal file is missing, cut short or an old one"
    );
    refused(path, Kind::Incomplete, &what)
}

fn refused(path: &Path, kind: Kind, what: &str) -> Result<(), SqliteOpenError> {
    Err(SqliteOpenError::new(kind, path, format!("{what}; {RESTORE}")))
}

/// Refuses to create a database where there was one.
pub(super) fn check_absence(path: &Path, was_there: bool, others: &[Other]) -> Result<(), SqliteOpenError> {
    if !was_there && others.is_empty() && !wal(path).exists() {
        return Ok(());
    }
    let detail = "is missing, and the files beside it (.lock, .owner-…, -wal) say that it was there; put it back, or restore \
                  it from a backup";
    Err(SqliteOpenError::new(Kind::Incomplete, path, detail))
}
