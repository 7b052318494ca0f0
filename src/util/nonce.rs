//! Nonces: what tells one write from all others.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::process;
use std::time::Instant;

use crate::core::Version;

/// How many are drawn at once. One system call for so many makes them cheap, and
/// few enough are thrown away with a thread.
const DRAWN: usize = 64;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::empty()) };
}

/// A version that no other write has, of whichever thread, process or machine.
///
/// From the operating system's randomness, and from nothing that can be seeded:
/// two workers with one nonce would each take the other's claim for its own. A
/// child of `fork` has a copy of its parent's pool, and throws it away.
///
/// It is known by its process id. That of a child in a PID namespace of its own
/// may be its parent's; a process that makes one must do so before it serves, or
/// replace the child's program.
pub(crate) fn fresh_nonce() -> Version {
    // A thread that is ending has no pool any more.
    let number = POOL.try_with(|pool| pool.borrow_mut().next()).unwrap_or_else(|_| Pool::empty().next());
    // Zero is no nonce.
    Version::new(number.max(1))
}

/// Random numbers that nothing was made with yet, of one thread of one process.
struct Pool {
    numbers: [[u8; 8]; DRAWN],
    left: usize,
    process: u32,
}

impl Pool {
    const fn empty() -> Self {
        Self { numbers: [[0; 8]; DRAWN], left: 0, process: 0 }
    }

    fn next(&mut self) -> u64 {
        // A system call, at a quarter of the price of one that draws a number.
        let process = process::id();
        if self.left == 0 || self.process != process {
            self.fill();
            (self.left, self.process) = (DRAWN, process);
        }
        self.left -= 1;
        u64::from_ne_bytes(self.numbers[self.left])
    }

    fn fill(&mut self) {
        if getrandom::fill(self.numbers.as_flattened_mut()).is_ok() {
            return;
        }
        // Every system that tokio runs on has randomness. Where a sandbox forbids
        // to ask for it, hash tables got some as the process started; a child of
        // `fork` has the same, at another time.
        for number in &mut self.numbers {
            *number = RandomState::new().hash_one((process::id(), Instant::now())).to_ne_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn all_are_different_and_none_is_zero() {
        let drawn: HashSet<_> = (0..10 * DRAWN).map(|_| fresh_nonce().get()).collect();
        assert_eq!(drawn.len(), 10 * DRAWN);
        assert!(!drawn.contains(&0));
    }

    /// As a child of `fork` finds it.
    #[test]
    fn the_pool_of_another_process_is_thrown_away() {
        let mut parent = Pool::empty();
        let first = parent.next();
        let mut child = Pool { process: parent.process.wrapping_add(1), ..parent };
        let own: HashSet<_> = (0..DRAWN - 1).map(|_| child.next()).collect();
        let theirs: HashSet<_> = std::iter::once(first).chain((0..DRAWN - 1).map(|_| parent.next())).collect();
        assert!(own.is_disjoint(&theirs));
    }
}
