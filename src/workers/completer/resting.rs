//! Operations that rest for a maintenance window, as far as a completer remembers them.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::Key;
use crate::util::backoff;

/// How many are remembered: they take six megabytes.
const MOST: usize = 100_000;

/// Operations that are not looked at again before their window ends, or other windows are
/// planned.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// The [plan](crate::engine::Engine::plans_read) that they rest for.
    plan: u64,
    until: HashMap<Key, Instant>,
}

impl Resting {
    /// It rests for so long, by this plan.
    pub(super) fn add(&mut self, plan: u64, key: Key, left: Duration) {
        self.go_by(plan);
        if plan == self.plan && (self.until.len() < MOST || self.until.contains_key(&key)) {
            self.until.insert(key, backoff::after(left));
        }
    }

    pub(super) fn has(&mut self, plan: u64, key: &Key) -> bool {
        self.go_by(plan);
        self.until.get(key).is_some_and(|until| Instant::now() < *until)
    }

    /// Whether others that rest would be looked at again and again.
    pub(super) fn is_full(&mut self) -> bool {
        if self.until.len() >= MOST {
            let now = Instant::now();
            self.until.retain(|_, until| now < *until);
        }
        self.until.len() >= MOST
    }

    /// Those that rested for an earlier plan may go on by this one.
    fn go_by(&mut self, plan: u64) {
        if plan > self.plan {
            *self = Self { plan, until: HashMap::new() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn key(number: usize) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Key::from_bytes(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn it_remembers_so_many_and_forgets_those_that_rested_enough() {
        let mut resting = Resting::default();
        for number in 0..MOST {
            assert!(!resting.is_full(), "{number}");
            resting.add(1, key(number), MINUTE);
        }
        resting.add(1, key(MOST), MINUTE);
        assert!(resting.is_full() && resting.has(1, &key(0)) && !resting.has(1, &key(MOST)));
        // What it remembers may rest for longer.
        resting.add(1, key(0), 2 * MINUTE);
        tokio::time::advance(MINUTE).await;
        assert!(!resting.is_full() && resting.has(1, &key(0)) && !resting.has(1, &key(1)));
        resting.add(1, key(MOST), MINUTE);
        assert!(resting.has(1, &key(MOST)) && !resting.has(2, &key(MOST)), "an earlier plan's");
    }
}
