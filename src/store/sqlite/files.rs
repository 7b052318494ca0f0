//! Files and folders, and where they lie.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::connection::beside;

/// A new file that only this user can read: responses may be personal data.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates the directories above `path` that are missing, for this user only, and
/// makes sure that they stay.
pub(super) fn create_parents(path: &Path) -> io::Result<()> {
    let parent = parent(path);
    let missing: Vec<&Path> = parent.ancestors().take_while(|path| !exists(path)).collect();
    for path in missing.into_iter().rev() {
        create_private_directory(path)?;
        sync_directory(&self::parent(path))?;
    }
    Ok(())
}

fn exists(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.exists()
}

pub(super) fn parent(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new(".")).to_owned()
}

fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
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

/// The path without symbolic links: the library puts its files beside the target.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(name) = path.file_name() else { return Err(error) };
            let parent = parent(path);
            if parent.exists() { Ok(fs::canonicalize(parent)?.join(name)) } else { std::path::absolute(path) }
        }
        Err(error) => Err(error),
    }
}

/// What kind of file system does not share memory and locks reliably, if `path`
/// lies on one.
#[cfg(target_os = "linux")]
pub(super) fn network(path: &Path) -> io::Result<Option<&'static str>> {
    let there = path.ancestors().find(|path| exists(path) && !path.as_os_str().is_empty());
    let found = rustix::fs::statfs(there.unwrap_or_else(|| Path::new(".")))?;
    Ok(network_name(u64::try_from(found.f_type).unwrap_or_default() & 0xffff_ffff))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn network(_path: &Path) -> io::Result<Option<&'static str>> {
    Ok(None)
}

/// By the numbers of `linux/magic.h` and of the file systems' own sources. The
/// one of FUSE is virtiofs's, too.
#[cfg(any(target_os = "linux", test))]
const fn network_name(kind: u64) -> Option<&'static str> {
    match kind {
        0x6969 => Some("NFS"),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => Some("CIFS"),
        0x0102_1997 => Some("9p"),
        0x6573_5546 => Some("FUSE or virtiofs"),
        0x5346_414f => Some("AFS"),
        0x0bd0_0bd0 => Some("Lustre"),
        0x00c3_6400 => Some("Ceph"),
        _ => None,
    }
}

/// A file that is locked for a moment. Closing it is not enough: a copy of the
/// process that was forked meanwhile has the lock as well, for as long as it lives.
#[derive(Debug)]
pub(super) struct Locked(pub(super) File);

impl Drop for Locked {
    fn drop(&mut self) {
        // Closed next.
        let _ = self.0.unlock();
    }
}

/// The lock of the process that opens or closes a store: one at a time. Its file stays, and
/// says whether there was a database.
#[derive(Debug)]
pub(super) struct Entrance {
    file: Locked,
}

const SUFFIX: &str = ".lock";
const CREATED: &str = "a SQLite store of tower-idempotency lies beside this file\n";

impl Entrance {
    /// Waits so long for others; `None` if that was too short.
    pub(super) fn enter(database: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let path = beside(database, SUFFIX);
        let since = Instant::now();
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Some(Self { file: Locked(file) })),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
            if since.elapsed() >= patience {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a database was created once.
    pub(super) fn knows_a_database(&self) -> io::Result<bool> {
        Ok(self.file.0.metadata()?.len() > 0)
    }

    /// Notes that there is one.
    pub(super) fn know_the_database(&mut self) -> io::Result<()> {
        if !self.knows_a_database()? {
            self.file.0.write_all(CREATED.as_bytes())?;
            self.file.0.sync_all()?;
        }
        Ok(())
    }
}

/// Whether the file was not removed before it was locked.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    matches!((file.metadata().map(identity), fs::metadata(path).map(identity)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_networks_are_known() {
        for (kind, name) in [(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0x0102_1997, "9p")] {
            assert_eq!(network_name(kind), Some(name));
        }
        assert!(network_name(0x6573_5546).is_some_and(|name| name.contains("virtiofs")));
        // ext4, xfs, btrfs, tmpfs, overlay.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_name(local), None);
        }
    }
}
