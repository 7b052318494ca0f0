//! Servers of their own for the tests: private ports, temporary folders,
//! started and stopped by the test that uses them.
//!
//! A server that is not installed is a failure that says what to install.

mod postgres;
mod process;

pub use self::postgres::Postgres;
pub use self::process::{Process, free_port, program, wait_until};
