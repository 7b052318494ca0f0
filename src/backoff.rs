//! How long to wait before trying again.

use std::time::Duration;

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
        self.longest(tries).mul_f64(fastrand::f64())
    }
}

/// 2 seconds at first, 10 minutes at most.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_secs(2), Duration::from_secs(600))
    }
}
