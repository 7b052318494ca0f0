//! Which keys this store has met lately: what a claim asks first is guessed by it.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::core::Key;

/// 128 KiB: a key of 10,000 that are replayed in turn is found in it six times in seven.
const SLOTS: usize = 1 << 15;

/// A guess, and nothing else: a key that was met may be gone, and one that another process
/// met, or that lost its slot to another key, is not in it. No outcome depends on it.
pub(super) struct MetKeys(Box<[AtomicU32]>);

impl MetKeys {
    pub(super) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether something was there when it was last asked for.
    pub(super) fn has(&self, key: &Key) -> bool {
        let (slot, tag) = place(key);
        self.0[slot].load(Ordering::Relaxed) == tag
    }

    pub(super) fn note(&self, key: &Key) {
        let (slot, tag) = place(key);
        self.0[slot].store(tag, Ordering::Relaxed);
    }
}

/// A key is a hash: any of its bytes will do.
fn place(key: &Key) -> (usize, u32) {
    let [a, b, c, d, e, f, ..] = *key.as_bytes();
    (usize::from(u16::from_be_bytes([a, b])) % SLOTS, u32::from_be_bytes([c, d, e, f]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_met_once_it_was_noted_and_no_other_one_with_it() {
        let met = MetKeys::new();
        let (one, mut other) = ([7; 32], [7; 32]);
        other[5] = 8;
        met.note(&Key::from_bytes(one));
        assert!(met.has(&Key::from_bytes(one)));
        assert!(!met.has(&Key::from_bytes(other)), "it has the same slot");
        met.note(&Key::from_bytes(other));
        assert!(!met.has(&Key::from_bytes(one)), "its slot is another one's now");
    }
}
