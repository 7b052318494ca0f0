//! What happened, in words: events, findings, refusals, and how metrics and spans
//! show them.
//!
//! It may know `core`, `util` and `store`. Start with [`event`]: `emit` is the only
//! place where an event goes out, and only there are `metrics` and `tracing` known.

pub(crate) mod event;
pub(crate) mod finding;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod refusal;
pub(crate) mod span;
