//! Servers of their own for the tests: private ports, temporary folders,
//! started and stopped by the test that uses them.
//!
//! A server that is not installed is a failure that says what to install.

mod faketime;
mod pgbouncer;
mod postgres;
mod process;
mod prometheus;
mod proxy;
mod redis;

pub use self::faketime::FakeClock;
pub use self::pgbouncer::PgBouncer;
pub use self::postgres::{Postgres, give_away};
pub use self::process::{Process, free_port, program, wait_until};
pub use self::prometheus::{Prometheus, promtool};
pub use self::proxy::{Fault, Proxy, Trap, Way};
pub use self::redis::{Cluster, Redis, Sentinels, redis_name};
