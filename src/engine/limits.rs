//! How long an attempt may take, and how long its outcome is kept.

use std::time::Duration;

use crate::util::backoff::Backoff;

/// A shorter lease would be over before its holder can renew it.
pub(crate) const MIN_LEASE: Duration = Duration::from_millis(10);
/// A shorter retention would forget a response before a retry can come.
pub(crate) const MIN_RETENTION: Duration = Duration::from_secs(1);

/// What an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long one write keeps the operation held.
    pub(crate) lease: Duration,
    /// How long the lease is renewed, and how long saving is tried.
    pub(crate) max_execution: Duration,
    /// How long an operation rests before a completer runs it again.
    pub(crate) backoff: Backoff,
    /// How long the response is remembered.
    pub(crate) retention: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            max_execution: Duration::from_secs(60 * 60),
            backoff: Backoff::default(),
            retention: Duration::from_secs(24 * 60 * 60),
        }
    }
}
