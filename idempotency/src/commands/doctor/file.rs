//! What the file of a SQLite store shows from outside.
//!
//! By its metadata only: to open the file other than through SQLite would drop the locks of
//! this process on it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Check, Verdict};

/// A log of this size says that it is not carried over into the database.
const LARGE_LOG: u64 = 256 << 20;

pub(super) fn check(path: &Path) -> Vec<Check> {
    let about = "file";
    let Ok(found) = fs::metadata(path) else {
        return vec![Check::new(Verdict::Problem, about, "is gone since it was opened; restore it from a backup")];
    };
    let log = fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    let mut checks = vec![sizes(found.len(), log)];
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        let text = format!("has mode {mode:o}: other users can read what clients sent; run chmod o-rwx on it");
        checks.push(Check::new(Verdict::Warning, about, text));
    }
    checks.extend(room(path));
    checks
}

fn sizes(database: u64, log: u64) -> Check {
    let text = format!("{} MiB, and {} MiB in its log", database >> 20, log >> 20);
    if log > LARGE_LOG {
        let why = "a reader keeps SQLite from emptying it: end shells and backups that have the file open";
        return Check::new(Verdict::Warning, "file", format!("{text}: {why}"));
    }
    Check::new(Verdict::Fine, "file", text)
}

fn room(path: &Path) -> Option<Check> {
    let free = rustix::fs::statvfs(path).ok()?;
    let bytes = free.f_bavail.saturating_mul(free.f_frsize);
    let text = format!("{} MiB are left on its disk", bytes >> 20);
    let low = bytes < LARGE_LOG;
    let advice = if low { ": make room, or new keys get 503" } else { "" };
    Some(Check::new(if low { Verdict::Problem } else { Verdict::Fine }, "disk", format!("{text}{advice}")))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
