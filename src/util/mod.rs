//! Tools that know nothing of idempotency: time, nonces, back-off, wake-ups, and
//! futures that outlive the task that waits for them.
//!
//! It may know `core`. Start with [`detached`]: what becomes of the work when the
//! client hangs up.

pub(crate) mod backoff;
pub mod clock;
pub(crate) mod detached;
#[cfg(any(feature = "client", feature = "schedule"))]
pub(crate) mod name;
pub(crate) mod nonce;
pub(crate) mod signal;
pub(crate) mod soon;
