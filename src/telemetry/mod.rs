//! What happened, in words: events, findings, refusals, and how metrics and spans
//! show them.
//!
//! It may know `core`, `util` and `store`. Start with [`event`], then [`emit`]: the
//! only place where an event goes out. `metrics` has what is counted, `span` what is traced.

pub(crate) mod drained;
pub(crate) mod emit;
pub(crate) mod event;
pub(crate) mod finding;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod refusal;
pub(crate) mod scheduled;
mod sentence;
pub(crate) mod span;
