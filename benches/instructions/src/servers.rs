//! The servers that some scenarios ask, and how a scenario finds them: it runs in a process of its own.

use servers::{Postgres, Redis};
use tower_idempotency::store::PostgresStore;

/// They end with this guard.
pub(crate) struct Servers {
    redis: Redis,
    postgres: Postgres,
}

impl Servers {
    /// Starts them, and makes the tables.
    pub(crate) fn start() -> Result<Self, String> {
        let servers = Self { redis: Redis::start(), postgres: Postgres::start() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let store = PostgresStore::connect(&servers.postgres.url()).map_err(|error| error.to_string())?;
        let made = runtime.map_err(|error| error.to_string())?.block_on(store.create_schema());
        made.map_err(|error| error.to_string())?;
        Ok(servers)
    }

    /// For the environment of the process.
    pub(crate) fn urls(&self) -> [(&'static str, String); 2] {
        [("redis", self.redis.url()), ("postgres", self.postgres.url())]
    }
}

/// In that process.
pub(crate) fn url_of(server: &str) -> String {
    std::env::var(server).expect("a scenario is started by the program itself")
}
