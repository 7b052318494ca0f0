//! Memory is bounded, and counted as it is held; and a request that is not guarded
//! allocates nothing.
//!
//! A program of its own: its allocator counts.
//!
//! What is measured here is counted in the measuring thread alone, so tests that
//! run beside do not disturb it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "../support/mod.rs"]
mod support;

mod forms;
mod held;
mod listed;
mod status;
mod unguarded;
mod uploads;

use allocation_counter::{AllocationInfo, measure};

/// Runs `work` on a runtime in this thread, under paused time, and counts what
/// it allocates.
fn counted<T>(work: impl AsyncFnOnce() -> T) -> (T, AllocationInfo) {
    on(tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true), work)
}

/// The same under time as it is, for sockets.
fn measured<T>(work: impl AsyncFnOnce() -> T) -> (T, AllocationInfo) {
    on(tokio::runtime::Builder::new_current_thread().enable_all(), work)
}

fn on<T>(builder: &mut tokio::runtime::Builder, work: impl AsyncFnOnce() -> T) -> (T, AllocationInfo) {
    let mut output = None;
    let mut work = Some(work);
    let info = measure(|| {
        let runtime = builder.build().unwrap();
        output = work.take().map(|work| runtime.block_on(work()));
    });
    (output.unwrap(), info)
}
