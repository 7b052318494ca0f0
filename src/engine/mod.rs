//! An operation from its claim to its end, without HTTP.
//!
//! It may know `core`, `util`, `store` and `telemetry`. Start with [`ledger`], the
//! only loop (look, decide, swap, again); then [`attempt`], what the holder of a claim
//! does; then [`operation`], what a handler sees of it; [`handoff`] is how the layer
//! gives a claim to a completer of its process.

pub(crate) mod attempt;
pub(crate) mod claim;
pub(crate) mod content;
pub(crate) mod handoff;
pub(crate) mod in_hand;
pub(crate) mod ledger;
pub(crate) mod limits;
pub(crate) mod operation;
pub(crate) mod outcome;
pub(crate) mod unsaved;
