//! Answers that clients have and the store does not.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::core::{Key, Timestamp};
use crate::util::clock::{Clock, SystemClock};
use crate::util::signal::lock;

/// How many are remembered. A store that is away must not fill the process.
const MOST: usize = 1000;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Unsaved {
    pub(crate) error: String,
    pub(crate) since: Timestamp,
    /// Saving was given up.
    pub(crate) given_up: bool,
}

/// All of them, in this process.
#[derive(Debug, Default)]
pub(crate) struct UnsavedAnswers {
    clock: SystemClock,
    all: Mutex<BTreeMap<Key, Unsaved>>,
}

impl UnsavedAnswers {
    /// The answer is not stored, for now or for good.
    pub(crate) fn add(&self, key: Key, error: String, given_up: bool) {
        let mut all = lock(&self.all);
        if all.len() < MOST || all.contains_key(&key) {
            let since = all.get(&key).map_or_else(|| self.clock.now(), |known| known.since);
            all.insert(key, Unsaved { error, since, given_up });
        }
    }

    pub(crate) fn remove(&self, key: &Key) {
        lock(&self.all).remove(key);
    }

    pub(crate) fn all(&self) -> Vec<(Key, Unsaved)> {
        lock(&self.all).iter().map(|(key, unsaved)| (*key, unsaved.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_can_not_be_saved_do_not_pile_up() {
        let unsaved = UnsavedAnswers::default();
        let key = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Key::from_bytes(bytes)
        };
        for n in 0..3 * MOST {
            unsaved.add(key(n), "the store is away".to_owned(), false);
        }
        assert_eq!(unsaved.all().len(), MOST);
        // Answers that are known already are kept up to date all the same, and make room.
        unsaved.add(key(0), "given up".to_owned(), true);
        assert!(unsaved.all()[0].1.given_up);
        unsaved.remove(&key(0));
        unsaved.add(key(MOST), "the store is away".to_owned(), false);
        assert_eq!(unsaved.all().len(), MOST);
    }
}
