//! The directory that a store owns: what it must look like, and the lock.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::error::{OpenError, OpenErrorKind};

const MARKER: &str = "TOWER-IDEMPOTENCY";
const FORMAT: u32 = 1;
const FIRST_LINE: &str = "tower-idempotency file store, format ";
/// Written once the engine is there: from then on, a missing engine is damage
/// and not a creation that was cut short.
const READY: &str = "ready\n";

/// A directory that nobody else has open, for as long as this lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Locked. The lock goes with the file handle, also when the process dies.
    marker: File,
    ready: bool,
}

impl Directory {
    /// Creates or takes over the directory, without touching a foreign one.
    pub(super) fn claim(path: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::io(path, error);
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => return Err(OpenError::new(OpenErrorKind::NotADirectory, path)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path).map_err(io)?,
            Err(error) => return Err(io(error)),
        }
        let name = path.join(MARKER);
        let ours = name.try_exists().map_err(io)?;
        if !ours && fs::read_dir(path).map_err(io)?.next().is_some() {
            return Err(OpenError::new(OpenErrorKind::Foreign, path));
        }
        let marker = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(name).map_err(io)?;
        match marker.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::new(OpenErrorKind::AlreadyOpen, path)),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let mut directory = Self { path: path.to_owned(), marker, ready: false };
        directory.check_marker()?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    pub(super) fn unfinished_engine(&self) -> PathBuf {
        self.path.join("engine.new")
    }

    /// Whether the engine has once been there.
    pub(super) const fn is_ready(&self) -> bool {
        self.ready
    }

    /// Notes that the engine is there.
    pub(super) fn set_ready(&mut self) -> Result<(), OpenError> {
        if self.ready {
            return Ok(());
        }
        let line = format!("{FIRST_LINE}{FORMAT}\n{READY}");
        self.write_marker(&line).map_err(|error| OpenError::io(&self.path, error))?;
        self.ready = true;
        Ok(())
    }

    fn check_marker(&mut self) -> Result<(), OpenError> {
        let mut text = String::new();
        let read = self.marker.read_to_string(&mut text);
        read.map_err(|error| OpenError::io(&self.path, error))?;
        let first = format!("{FIRST_LINE}{FORMAT}\n");
        if first.starts_with(&text) {
            // New, or its creation was cut short here.
            return self.write_marker(&first).map_err(|error| OpenError::io(&self.path, error));
        }
        let line = text.lines().next().and_then(|line| line.strip_prefix(FIRST_LINE));
        match line.and_then(|number| number.parse::<u32>().ok()) {
            Some(FORMAT) => self.ready = text.ends_with(READY),
            Some(format) if format > FORMAT => return Err(OpenError::new(OpenErrorKind::NewerFormat, &self.path)),
            _ => return Err(OpenError::new(OpenErrorKind::Damaged, &self.path)),
        }
        Ok(())
    }

    /// Only ever makes the marker longer, so that a crash leaves a prefix.
    fn write_marker(&mut self, text: &str) -> io::Result<()> {
        self.marker.seek(SeekFrom::Start(0))?;
        self.marker.write_all(text.as_bytes())?;
        self.marker.sync_all()?;
        sync_directory(&self.path)
    }
}

/// Creates the directory and those above it that are missing, for this user
/// only, and makes sure that they stay.
fn create(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !exists(path)).collect();
    for path in missing.into_iter().rev() {
        create_private(path)?;
        sync_directory(&parent(path))?;
    }
    Ok(())
}

fn exists(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

fn parent(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new(".")).to_owned()
}

/// Responses may be anybody's personal data.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Makes everything below `path` stay.
pub(super) fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_tree(&entry.path())?,
            false => File::open(entry.path())?.sync_all()?,
        }
    }
    sync_directory(path)
}

#[cfg(unix)]
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Elsewhere a directory can't be opened as a file.
#[cfg(not(unix))]
pub(super) fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}
