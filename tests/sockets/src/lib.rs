//! Servers with and without the layer, and clients that keep what they see.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod body;
mod h1;
mod h2;
mod server;

pub use self::body::{Part, Script};
pub use self::h1::{Message, exchange, messages};
pub use self::h2::{Answering, Seen, Stream, Upload};
pub use self::server::{Handler, Protocol, Server};
