//! How long to wait before trying again.

use std::time::Duration;

use tokio::time::Instant;

/// An exponential back-off with full jitter: before try `n` + 1, any time from
/// nothing up to `base` times 2^(`n` - 1), and never more than `max`.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::Backoff;
///
/// let backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(600));
/// assert_eq!(backoff.longest(1), Duration::from_secs(2));
/// assert_eq!(backoff.longest(4), Duration::from_secs(16));
/// assert_eq!(backoff.longest(100), Duration::from_secs(600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// Up to `base` after the first try, twice as much after every other, and
    /// never more than `max`.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// The longest pause after this many tries.
    pub fn longest(&self, tries: u32) -> Duration {
        let doublings = tries.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }

    /// A pause after this many tries.
    pub(crate) fn pause(&self, tries: u32) -> Duration {
        jittered(self.longest(tries), 0.0, 1.0)
    }
}

/// Any time from `least` to `most` times `length`: what waits for the same thing
/// in many processes must not come back all at once. As long as there is, where
/// that is more.
pub(crate) fn jittered(length: Duration, least: f64, most: f64) -> Duration {
    let factor = least + (most - least) * fastrand::f64();
    Duration::try_from_secs_f64(length.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// As good as never, and still a time that every clock can show.
const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The time after `pause`, or as good as never if no clock can show it.
pub(crate) fn after(pause: Duration) -> Instant {
    later(Instant::now(), pause)
}

/// The same, seen from `now`.
pub(crate) fn later(now: Instant, pause: Duration) -> Instant {
    now.checked_add(pause).unwrap_or_else(|| now + NEVER)
}

/// 2 seconds at first, 10 minutes at most.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(2), Duration::from_secs(600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_all_clocks_is_never() {
        assert_eq!(jittered(Duration::MAX, 1.5, 1.5), Duration::MAX);
        assert_eq!(jittered(Duration::ZERO, 0.5, 1.5), Duration::ZERO);
        assert!(after(Duration::MAX) > after(Duration::from_secs(20 * 365 * 24 * 60 * 60)));
        assert_eq!(Backoff::new(Duration::MAX, Duration::MAX).longest(u32::MAX), Duration::MAX);
    }

    /// What failed together must not come back together.
    #[test]
    fn pauses_are_spread_over_all_that_they_may_be() {
        let backoff = Backoff::new(Duration::from_secs(8), Duration::from_secs(8));
        let mut pauses: Vec<_> = (0..400).map(|_| backoff.pause(3).as_millis()).collect();
        pauses.sort_unstable();
        // Each quarter of the time gets its share, give or take.
        for quarter in 0..4 {
            let share = pauses.iter().filter(|pause| **pause / 2000 == quarter).count();
            assert!((50..=150).contains(&share), "{share} of 400 in quarter {quarter}");
        }
        let halves: Vec<_> = (0..400).map(|_| jittered(Duration::from_secs(8), 0.5, 1.5).as_millis() / 4000).collect();
        assert!(halves.iter().all(|half| (1..3).contains(half)), "half to one and a half");
        assert!(halves.contains(&1) && halves.contains(&2));
    }
}
