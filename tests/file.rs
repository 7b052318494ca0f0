//! The file store on real files: what survives what, and what it refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "file_store/concurrency.rs"]
mod concurrency;
#[path = "file_store/crash.rs"]
mod crash;
#[path = "file_store/disk_full.rs"]
#[cfg(unix)]
mod disk_full;
#[path = "file_store/open.rs"]
mod open;
#[path = "file_store/records.rs"]
mod records;
#[path = "file_store/reopen.rs"]
mod reopen;
