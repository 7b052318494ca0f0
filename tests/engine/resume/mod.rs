//! Handlers written with steps: what they are promised, and that a crash at
//! any point keeps it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod doubt;
mod input;
mod keys;
mod reached;
mod runner;
mod steps;
mod undo;
mod unreadable;
