//! Who has the store open: a file beside the database for each, locked as long as
//! its process lives.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use super::connection::beside;
use super::files;
use crate::util::nonce::fresh_nonce;

const MAGIC: &[u8; 8] = b"TwIdOwn1";
/// Magic, number, the boot's id, the count of commits and its checksum.
const LENGTH: usize = 8 + 8 + BOOT + 16;
const BOOT: usize = 36;
const MARK_AT: usize = 8 + 8 + BOOT;
/// Between the database's name and the number.
const SUFFIX: &str = ".owner-";
/// Of a file that is not locked yet.
const UNFINISHED: &str = ".new";

/// This store among those that have the file open.
///
/// Its file says how many transactions of the store's it knows to be on the disk:
/// a WAL that was lost shows by that.
#[derive(Debug)]
pub(super) struct Owner {
    number: i64,
    path: PathBuf,
    /// Locked. The operating system drops the lock when the process dies.
    file: File,
    marked: AtomicI64,
}

impl Owner {
    /// Draws a number, and leaves a locked file of that name beside the database.
    pub(super) fn enter(database: &Path, boot: &str, commits: i64) -> io::Result<Self> {
        // Positive: zero is no owner.
        let number = (fresh_nonce().get() >> 1).max(1).cast_signed();
        let path = beside(database, &format!("{SUFFIX}{number:016x}"));
        let unfinished = beside(&path, UNFINISHED);
        let mut file = files::create_private(&unfinished)?;
        file.write_all(&content(number, boot, commits))?;
        file.lock()?;
        file.sync_all()?;
        // Locked before another process can find it.
        fs::rename(&unfinished, &path)?;
        files::sync_directory(&files::parent(&path))?;
        Ok(Self { number, path, file, marked: AtomicI64::new(commits) })
    }

    pub(super) const fn number(&self) -> i64 {
        self.number
    }

    /// Notes that so many transactions are on the disk. It is not synced: power
    /// loss may leave an older number, which is true as well.
    pub(super) fn mark(&self, commits: i64) {
        if self.marked.fetch_max(commits, Ordering::SeqCst) < commits {
            // An older mark is true as well.
            let _ = write_at(&self.file, &mark(self.number, commits), MARK_AT as u64);
        }
    }

    /// The same, and waits until it is on the disk.
    pub(super) fn mark_durably(&self, commits: i64) -> io::Result<()> {
        self.mark(commits);
        self.file.sync_data()
    }

    /// Goes, with nothing left to free.
    pub(super) fn leave(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

fn content(number: i64, boot: &str, commits: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(boot.as_bytes());
    bytes.resize(MARK_AT, b' ');
    bytes.extend_from_slice(&mark(number, commits));
    bytes
}

fn mark(number: i64, commits: i64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&commits.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    let sum = xxh3_64(&bytes);
    bytes[8..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// A store that left without saying so. No other process can find it while this lives.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) number: i64,
    /// How many transactions it knew to be on the disk.
    pub(super) commits: i64,
    /// Then that is the latest: nothing of its file was lost with power.
    pub(super) is_of_this_boot: bool,
    path: PathBuf,
    _locked: File,
}

impl Dead {
    /// Removes its file: nothing is held by it any more, and its count was taken
    /// over.
    pub(super) fn bury(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Another store that has, or had, the file open.
#[derive(Debug)]
pub(super) enum Other {
    /// It lives; of this boot, or so its file says.
    Alive {
        is_of_this_boot: bool,
        /// How many transactions it knew to be on the disk.
        commits: i64,
    },
    Dead(Dead),
    /// There is no file, or it says nothing that can be believed.
    Unknown,
}

impl Other {
    /// How many transactions it knew to be on the disk.
    pub(super) const fn commits(&self) -> Option<i64> {
        match self {
            Self::Alive { commits, .. } | Self::Dead(Dead { commits, .. }) => Some(*commits),
            Self::Unknown => None,
        }
    }
}

/// Looks for the store of this number.
pub(super) fn probe(database: &Path, number: i64, boot: &str) -> Other {
    inspect(&beside(database, &format!("{SUFFIX}{number:016x}")), boot).unwrap_or(Other::Unknown)
}

/// All that have files beside the database, but for this one.
pub(super) fn others(database: &Path, boot: &str, own: i64) -> io::Result<Vec<Other>> {
    let mut others = Vec::new();
    for path in paths(database)? {
        if number_of(&path) == Some(own) {
            continue;
        }
        others.push(match inspect(&path, boot) {
            Ok(other) => other,
            // It left meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        });
    }
    Ok(others)
}

/// Removes what was left behind by who died while it made its file. For who holds
/// the lock that keeps others from entering.
pub(super) fn tidy(database: &Path) -> io::Result<()> {
    for path in siblings(database)? {
        if path.as_os_str().to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn inspect(path: &Path, boot: &str) -> io::Result<Other> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut bytes = Vec::with_capacity(LENGTH);
    Read::by_ref(&mut file).take(LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    let Some((number, of, commits)) = parse(&bytes).filter(|(number, ..)| number_of(path) == Some(*number)) else {
        return Ok(Other::Unknown);
    };
    match file.try_lock() {
        Ok(()) => {
            let is_of_this_boot = of == boot && !boot.is_empty();
            Ok(Other::Dead(Dead { number, commits, is_of_this_boot, path: path.to_owned(), _locked: file }))
        }
        Err(TryLockError::WouldBlock) => Ok(Other::Alive { is_of_this_boot: of == boot, commits }),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn parse(bytes: &[u8]) -> Option<(i64, String, i64)> {
    let rest = bytes.strip_prefix(MAGIC).filter(|_| bytes.len() == LENGTH)?;
    let (number, rest) = rest.split_first_chunk()?;
    let number = i64::from_be_bytes(*number);
    let (boot, rest) = rest.split_at_checked(BOOT)?;
    let commits = i64::from_be_bytes(*rest.first_chunk()?);
    (mark(number, commits) == *rest).then_some(())?;
    Some((number, str::from_utf8(boot).ok()?.trim_end().to_owned(), commits))
}

fn number_of(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    let (_, digits) = name.rsplit_once(SUFFIX)?;
    i64::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 16)
}

fn paths(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = siblings(database)?;
    found.retain(|path| number_of(path).is_some());
    Ok(found)
}

/// The files beside the database whose names begin as those of owners do.
fn siblings(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut start = database.file_name().unwrap_or_default().to_owned();
    start.push(SUFFIX);
    let mut found = Vec::new();
    for entry in fs::read_dir(files::parent(database))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(start.as_encoded_bytes()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
