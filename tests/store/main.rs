//! The store contract on the stores of this crate that need no server, and what
//! only the memory store promises.
//!
//! A program of its own: the contract is a thousand small tests, and who works on
//! a store needs nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod conformance;
mod conformance_sqlite;
mod memory;
mod operator;
mod orders;
