//! The least that is of use.

use std::time::Duration;

/// A shorter lease would be over before its holder can renew it.
pub(crate) const MIN_LEASE: Duration = Duration::from_millis(10);
/// A shorter retention would forget an answer before a retry can come.
pub(crate) const MIN_RETENTION: Duration = Duration::from_secs(1);
