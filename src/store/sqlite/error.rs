//! Why a SQLite store did not open, and the library's errors as a store's.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::core::DecodeError;
use crate::store::contract::{StoreError, StoreErrorKind};

/// Why a [`SqliteStore`](super::SqliteStore) did not open. Nothing was changed,
/// unless the kind says otherwise.
#[derive(Debug)]
pub struct SqliteOpenError {
    kind: SqliteOpenErrorKind,
    path: PathBuf,
    detail: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What kind of [`SqliteOpenError`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SqliteOpenErrorKind {
    /// The SQLite that this program runs with is too old.
    LibraryTooOld,
    /// The file at the path is not a SQLite database.
    NotADatabase,
    /// The file is a database, but not one that a store made.
    Foreign,
    /// It was written by a newer release.
    NewerFormat,
    /// It lies where locks can't be relied on.
    NetworkFileSystem,
    /// Another process, or an open transaction, is in the way.
    Busy,
    /// Acknowledged writes are missing: a file is missing, older than the
    /// others, or another database's.
    Incomplete,
    /// A file is damaged.
    Damaged,
    /// The process was forked while its parent had a store open.
    Forked,
    /// The operating system refused something. Part of an empty store may have
    /// been created; opening it again goes on from there.
    Io,
}

impl SqliteOpenError {
    pub(super) fn new(kind: SqliteOpenErrorKind, path: &Path, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, path: path.to_owned(), detail: detail.into(), source: None }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::new(SqliteOpenErrorKind::Io, path, "can't be opened or created").caused_by(source)
    }

    pub(super) fn caused_by(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Box::new(source)), ..self }
    }

    /// What the library said when it opened the file or looked into it.
    pub(super) fn engine(path: &Path, error: rusqlite::Error) -> Self {
        let (kind, detail) = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                (SqliteOpenErrorKind::Damaged, "is damaged; restore it from a backup")
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (SqliteOpenErrorKind::Busy, "is locked by an open transaction; end that first")
            }
            _ => (SqliteOpenErrorKind::Io, "can't be opened or created"),
        };
        Self::new(kind, path, detail).caused_by(plain(error))
    }

    /// What kind of error it is.
    pub const fn kind(&self) -> SqliteOpenErrorKind {
        self.kind
    }

    /// The path that was to be opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for SqliteOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.display(), self.detail)?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

impl std::error::Error for SqliteOpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// What went wrong with one record or with everything.
#[derive(Debug)]
pub(super) enum Fault {
    /// The library, or the system below it.
    Engine(rusqlite::Error),
    /// What lies at one key.
    Record(StoreError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Record(error)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Record(error.into())
    }
}

impl Fault {
    /// Whether the page of a record is damaged, and not the whole file's fault.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Engine(error)
            if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)))
    }

    /// For a call that wrote nothing, or whose writes were rolled back.
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Record(error) => error,
            Self::Engine(error) => engine_error(error),
        }
    }
}

fn engine_error(error: rusqlite::Error) -> StoreError {
    told_of(error.sqlite_error_code(), plain(error))
}

/// What either driver says, for people.
pub(super) fn told_of(code: Option<ErrorCode>, error: io::Error) -> StoreError {
    let (kind, message) = match code {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (StoreErrorKind::Corrupt, "the SQLite store is damaged here; restore it from a backup")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            StoreErrorKind::Unavailable,
            "the database's write lock is taken: another program has a transaction open, perhaps in a shell; end that",
        ),
        Some(ErrorCode::DiskFull) => (StoreErrorKind::Full, "there is no room for the SQLite store; free some"),
        Some(ErrorCode::ReadOnly) => (StoreErrorKind::Unavailable, "the SQLite store's files can't be written to"),
        _ => (StoreErrorKind::Unavailable, "the SQLite store could not do it"),
    };
    StoreError::new(kind, format!("{message} ({error})")).caused_by(error)
}

/// Whether a commit that failed so has written nothing for sure.
pub(super) const fn says_rolled_back(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        // The last frame is the one that makes the others count.
        Some(ErrorCode::DiskFull)
            // Before anything is written: a deferred key that leads nowhere, or a hook.
            | Some(ErrorCode::ConstraintViolation | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::ReadOnly)
    )
}

/// The writer or a reader is gone: it panicked, as a clock that isn't ours may.
pub(super) fn stopped() -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        "a thread of the SQLite store ended too early; the write may or may not have taken effect",
    )
}

/// The library's errors without the library's types.
pub(super) fn plain(error: rusqlite::Error) -> io::Error {
    io::Error::other(error.to_string())
}
