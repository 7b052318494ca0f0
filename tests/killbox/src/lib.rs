//! Runs the real `payment` example and talks to it over real sockets.
//!
//! The gateway's log is the oracle: it is written, and synced, by a part of
//! the process that knows nothing of idempotency records.

mod http;
mod server;

pub use crate::http::{Answer, Post, Unfinished, exchange, throw};
pub use crate::server::{Server, World, build, example, program};
