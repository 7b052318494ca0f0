//! Why a file store did not open, and how its engine's errors are told.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::store::{StoreError, StoreErrorKind};

/// Why a [`FileStore`](super::FileStore) did not open. Nothing was changed,
/// unless the kind says otherwise.
#[derive(Debug)]
pub struct OpenError {
    kind: OpenErrorKind,
    path: PathBuf,
    source: Option<io::Error>,
}

/// What kind of [`OpenError`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// There is something at the path, and it is no directory.
    NotADirectory,
    /// The directory holds something, and it is not ours.
    Foreign,
    /// This process or another one has it open.
    AlreadyOpen,
    /// It was written by a newer release.
    NewerFormat,
    /// Files are missing or damaged.
    Damaged,
    /// The operating system refused something. Part of an empty store may have
    /// been created; opening it again goes on from there.
    Io,
}

impl OpenError {
    pub(super) fn new(kind: OpenErrorKind, path: &Path) -> Self {
        Self { kind, path: path.to_owned(), source: None }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self { source: Some(source), ..Self::new(OpenErrorKind::Io, path) }
    }

    pub(super) fn engine(path: &Path, error: fjall::Error) -> Self {
        let kind = match error {
            fjall::Error::Io(_) | fjall::Error::Storage(fjall::LsmError::Io(_)) => OpenErrorKind::Io,
            fjall::Error::Locked => OpenErrorKind::AlreadyOpen,
            fjall::Error::InvalidVersion(Some(_)) => OpenErrorKind::NewerFormat,
            _ => OpenErrorKind::Damaged,
        };
        Self { source: Some(plain(error)), ..Self::new(kind, path) }
    }

    /// What kind of error it is.
    pub const fn kind(&self) -> OpenErrorKind {
        self.kind
    }

    /// The path that was to be opened.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.kind {
            OpenErrorKind::NotADirectory => {
                write!(f, "{path} is not a directory; name a directory that the store can have for itself")
            }
            OpenErrorKind::Foreign => {
                write!(
                    f,
                    "{path} holds files that are not a store's; name an empty directory or one that does not exist"
                )
            }
            OpenErrorKind::AlreadyOpen => {
                write!(f, "{path} is already open by another process, or by another store in this one; stop that first")
            }
            OpenErrorKind::NewerFormat => {
                write!(f, "{path} was written by a newer release; run that one, this one would lose what it can't read")
            }
            OpenErrorKind::Damaged => write!(
                f,
                "{path} is damaged or incomplete; restore it from a backup, or move it away to start with an empty store"
            ),
            OpenErrorKind::Io => write!(f, "{path} can't be opened or created"),
        }?;
        self.source.as_ref().map_or(Ok(()), |source| write!(f, ": {source}"))
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// A look-up that failed. Nothing was written.
pub(super) fn unreadable(error: fjall::Error) -> StoreError {
    let kind = match &error {
        fjall::Error::Storage(fjall::LsmError::Io(_)) | fjall::Error::Io(_) => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Corrupt,
    };
    let error = plain(error);
    StoreError::new(kind, format!("the file store can't read what it has: {error}")).caused_by(error)
}

/// A write that failed: nobody can know what is on the disk, and asking the
/// system to sync again may say yes without having done it.
pub(super) fn failed(error: fjall::Error) -> StoreError {
    let error = plain(error);
    let message = format!(
        "the file store could not write ({error}) and has stopped; \
         restart the process after freeing space or checking the disk"
    );
    StoreError::new(StoreErrorKind::Unavailable, message).caused_by(error)
}

/// The writer is gone: it panicked.
pub(super) fn stopped() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the file store's writer has stopped; restart the process")
}

/// The engine's errors without the engine's types.
fn plain(error: fjall::Error) -> io::Error {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error,
        other => io::Error::other(other.to_string()),
    }
}
