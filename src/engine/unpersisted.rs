//! Responses that clients have and the store does not.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::core::{Key, Timestamp};
use crate::util::clock::{Clock, SystemClock};
use crate::util::signal::lock;

/// How many are remembered. A store that is away must not fill the process.
const MOST: usize = 1000;

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct UnpersistedResponse {
    pub(crate) error: String,
    pub(crate) since: Timestamp,
    /// Saving was given up.
    pub(crate) given_up: bool,
}

/// All of them, in this process.
#[derive(Debug, Default)]
pub(crate) struct UnpersistedResponses {
    clock: SystemClock,
    all: Mutex<BTreeMap<Key, UnpersistedResponse>>,
}

impl UnpersistedResponses {
    /// The response is not stored, not yet or never.
    pub(crate) fn add(&self, key: Key, error: String, given_up: bool) {
        let mut all = lock(&self.all);
        if all.len() < MOST || all.contains_key(&key) {
            let since = all.get(&key).map_or_else(|| self.clock.now(), |known| known.since);
            all.insert(key, UnpersistedResponse { error, since, given_up });
        }
    }

    pub(crate) fn remove(&self, key: &Key) {
        lock(&self.all).remove(key);
    }

    pub(crate) fn all(&self) -> Vec<(Key, UnpersistedResponse)> {
        lock(&self.all).iter().map(|(key, unpersisted)| (*key, unpersisted.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_can_not_be_saved_do_not_pile_up() {
        let unpersisted = UnpersistedResponses::default();
        let key = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Key::from_bytes(bytes)
        };
        for n in 0..3 * MOST {
            unpersisted.add(key(n), "the store is away".to_owned(), false);
        }
        assert_eq!(unpersisted.all().len(), MOST);
        // Responses that are already in the list are updated all the same, and make room.
        unpersisted.add(key(0), "given up".to_owned(), true);
        assert!(unpersisted.all()[0].1.given_up);
        unpersisted.remove(&key(0));
        unpersisted.add(key(MOST), "the store is away".to_owned(), false);
        assert_eq!(unpersisted.all().len(), MOST);
    }
}
