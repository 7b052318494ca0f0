//! From a claim to its end: the ledger, the steps of a handler, the engine without
//! HTTP, and the records that it keeps for other releases.
//!
//! The core's moves and its loop are looked at by `tests/model`, `tests/properties` and
//! the unit tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "../support/mod.rs"]
mod support;

mod encryption;
mod golden;
mod immediate;
mod in_hand;
mod ledger;
mod nonces;
mod resume;
mod rollout;
mod runner;
