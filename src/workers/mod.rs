//! What runs beside the requests: the completer drives what no holder drives any
//! more, the sweeper removes what expired, the watcher reports what needs attention.
//!
//! It may know everything but the runner. Start with `completer/mod.rs`, then
//! `completer/round.rs`: one look for work.

pub(crate) mod completer;
mod pace;
pub(crate) mod sweeper;
pub(crate) mod watcher;
