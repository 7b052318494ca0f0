//! What runs beside the requests: what is finished without its client, who is told
//! of the end, what needs attention, and what an operator decides.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "../support/mod.rs"]
mod support;

mod callback;
mod completer;
mod drain;
mod inspector;
mod maintenance;
mod operator;
mod schedule;
mod watcher;
mod wiring;
