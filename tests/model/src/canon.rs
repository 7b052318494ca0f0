//! Hashes states so that those that differ only in names are one.

use std::hash::Hasher;

use tower_idempotency::core::Timestamp;

/// Where the model's clock starts, and how far one step takes it.
pub(crate) const EPOCH: u64 = 1 << 41;
pub(crate) const TICK: u64 = 1000;
const LAST: u64 = EPOCH + (1 << 20);
/// Whatever is above this and no time is a version: both reach the hasher as
/// bare numbers, and nothing else in a state is that large.
const NAMED: u64 = 1 << 40;

/// A hasher that renames versions by order of appearance, and knows times only
/// as "now" and "a lease ago or more": nothing in the model depends on more.
pub(crate) struct Canon {
    hash: u64,
    now: u64,
    names: Vec<u64>,
}

impl Canon {
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self { hash: 0x9e37_79b9_7f4a_7c15, now: now.as_millis(), names: Vec::new() }
    }

    fn mix(&mut self, word: u64) {
        let product = u128::from(self.hash ^ word).wrapping_mul(0x2d35_8dcc_aa6c_78a5_8bb8_4b93_962e_acc9);
        let (low, high) = (product as u64, (product >> 64) as u64);
        self.hash = (low ^ high).rotate_left(23).wrapping_add(0x9e37_79b9_7f4a_7c15);
    }

    fn name(&mut self, version: u64) -> u64 {
        let known = self.names.iter().position(|name| *name == version);
        let index = known.unwrap_or_else(|| {
            self.names.push(version);
            self.names.len() - 1
        });
        NAMED + index as u64
    }
}

impl Hasher for Canon {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word) ^ ((chunk.len() as u64) << 56));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let word = match number {
            EPOCH..=LAST => EPOCH + u64::from(number < self.now),
            NAMED.. => self.name(number),
            small => small,
        };
        self.mix(word);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}
