//! How long a server may take.

use std::io;
use std::time::Duration;

use redis::RedisError;

#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

pub(super) fn too_late(what: &str, limit: Duration) -> RedisError {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {limit:?}")).into()
}
