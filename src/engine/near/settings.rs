//! What users set, and what passes between a look at the store and what is kept of it.

#[cfg(feature = "near-cache")]
use std::time::Duration;

use tokio::time::Instant;

/// When the store was asked for a record, and how often records like it had been dropped by then.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "near-cache"), expect(dead_code, reason = "without the feature there is none"))]
pub(crate) struct Asked {
    pub(super) drops: u64,
    pub(super) at: Instant,
}

/// A smaller bound would keep no record at all.
#[cfg(feature = "near-cache")]
const MIN_BYTES: u64 = 64 << 10;

/// How many complete records one process keeps in memory, and for how long: see
/// [`Engine::near_cache`](crate::Engine::near_cache).
#[cfg(feature = "near-cache")]
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct NearCache {
    pub(super) max_age: Duration,
    pub(super) max_bytes: u64,
}

#[cfg(feature = "near-cache")]
impl NearCache {
    /// Keeps a record for `max_age` from when the store was asked for it, at most 64 MiB of them. A
    /// `max_age` of zero keeps none.
    pub const fn new(max_age: Duration) -> Self {
        Self { max_age, max_bytes: 64 << 20 }
    }

    /// Keeps at most about this many bytes, at least 64 KiB. Which record makes room for another
    /// one depends on how often each was replayed; one that is larger than a share of the whole
    /// is not kept.
    pub const fn max_bytes(self, bytes: u64) -> Self {
        Self { max_bytes: if bytes < MIN_BYTES { MIN_BYTES } else { bytes }, ..self }
    }
}
