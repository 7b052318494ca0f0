//! The time that stores in this process go by.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::core::Timestamp;

/// Tells a store the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The system's time when it was made, and monotonic from then on: a step of
/// the system's clock ends no lease of a running process.
///
/// Follows tokio's clock, and so stands still while a test has paused that.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Timestamp,
    since: Instant,
}

impl SystemClock {
    /// A clock set to the system's time.
    pub fn new() -> Self {
        // Before 1970, time starts in 1970.
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Timestamp::default().after(start), since: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.start.after(self.since.elapsed())
    }
}

/// A clock that moves only when a test moves it. Clones share the time.
///
/// ```
/// use std::time::Duration;
/// use tower_idempotency::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now().since(before), Duration::from_secs(60));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock that shows some day in 2001.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_000_000_000_000)))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().after(by));
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two clocks drift apart: here because tokio's stands still or is moved,
    /// elsewhere because the system's is stepped.
    #[tokio::test(start_paused = true)]
    async fn once_it_is_made_the_system_clock_has_no_say() {
        let clock = SystemClock::new();
        let (before, system) = (clock.now(), SystemTime::now());
        while system.elapsed().unwrap_or_default() < Duration::from_millis(5) {}
        assert_eq!(clock.now(), before, "the system's clock went on alone");
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().since(before), Duration::from_secs(3600), "the system's clock stayed behind");
    }
}
