//! What runs beside the requests: the completer drives operations that have lost their
//! holder, the sweeper removes expired records, the watcher reports what needs attention.
//!
//! It may know everything but the runner. Start with `completer/mod.rs`, then
//! `completer/round.rs`: one look for work.

pub(crate) mod completer;
pub(crate) mod pace;
pub(crate) mod running;
pub(crate) mod sweeper;
pub(crate) mod watcher;
