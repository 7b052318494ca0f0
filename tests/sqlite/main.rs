//! The SQLite store on real files and in real processes: what survives what, and
//! what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
#![cfg(unix)]

#[path = "sqlite/concurrency.rs"]
mod concurrency;
#[path = "sqlite/damage.rs"]
mod damage;
#[path = "sqlite/faults.rs"]
mod faults;
#[path = "sqlite/flips.rs"]
mod flips;
#[path = "sqlite/kills.rs"]
mod kills;
#[path = "sqlite/leftovers.rs"]
mod leftovers;
#[path = "sqlite/locks.rs"]
mod locks;
#[path = "sqlite/open.rs"]
mod open;
#[path = "sqlite/power.rs"]
mod power;
#[path = "sqlite/processes.rs"]
mod processes;
#[path = "sqlite/random.rs"]
mod random;
#[path = "sqlite/records.rs"]
mod records;
#[path = "sqlite/reopen.rs"]
mod reopen;
#[path = "sqlite/shop.rs"]
mod shop;
#[path = "sqlite/time.rs"]
mod time;
#[path = "sqlite/together.rs"]
mod together;
