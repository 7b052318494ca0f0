//! The SQLite store on real files and in real processes: what survives what, and
//! what it refuses.
//!
//! A program of its own: it starts itself again as the processes that share a file,
//! are killed or lose power, and it takes longer than the fast tier has.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![cfg(unix)]

mod concurrency;
mod damage;
mod encrypted;
#[path = "../support/enlisted/mod.rs"]
mod enlisted;
mod faults;
mod flips;
mod kills;
mod labels;
mod leftovers;
mod locks;
mod open;
mod power;
mod processes;
mod random;
mod records;
mod reopen;
#[path = "../support/secrets.rs"]
mod secrets;
mod shop;
mod time;
mod together;
