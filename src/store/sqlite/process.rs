//! Whether SQLite's own locks are this process's.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// The process that opened a store last (upper half), and how many it has open. A
/// copy of the process has a copy of it.
static OPEN: AtomicU64 = AtomicU64::new(0);
const COUNT: u64 = u32::MAX as u64;

/// A store that is open in this process, or is being opened.
#[derive(Debug)]
pub(super) struct OpenHere(());

fn this() -> u64 {
    u64::from(process::id()) << 32
}

impl OpenHere {
    /// Nothing in a copy of a process that had a store open when it was forked: a
    /// thread that is not in the copy may have held a lock of the library, for ever.
    pub(super) fn enter() -> Option<Self> {
        let next = |open: u64| match (open & !COUNT == this(), open & COUNT) {
            (true, _) => Some(open + 1),
            (false, 0) => Some(this() + 1),
            (false, _) => None,
        };
        OPEN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).ok().map(|_| Self(()))
    }
}

impl Drop for OpenHere {
    fn drop(&mut self) {
        // What a copy drops is its parent's.
        let next = |open: u64| (open & !COUNT == this()).then(|| open.saturating_sub(1));
        let _ = OPEN.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
    }
}
