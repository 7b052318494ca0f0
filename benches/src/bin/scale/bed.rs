//! A store with few records and one with many, on servers of this run's own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use servers::{Postgres, Redis};
use tempfile::TempDir;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::store::{MemoryStore, PostgresStore, RedisStore, SqliteStore, Store};

pub(crate) const STORES: [&str; 4] = ["memory", "sqlite", "redis", "postgres"];

/// Of one kind, with its servers.
pub(crate) struct Bed {
    pub(crate) name: &'static str,
    pub(crate) few: Arc<dyn Store>,
    pub(crate) many: Arc<dyn Store>,
    /// Where the store's time is this process's.
    pub(crate) clock: Option<ManualClock>,
    pub(crate) server: Server,
    /// Of SQLite's files.
    _folder: TempDir,
}

/// What has the records of `few` and of `many`, if it is not this process.
pub(crate) enum Server {
    None,
    Redis { few: Redis, many: Redis },
    Postgres { server: Postgres, many: PostgresStore },
}

impl Bed {
    pub(crate) async fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = ManualClock::new();
        match name {
            "memory" => {
                let store = || Arc::new(roomy(&clock)) as Arc<dyn Store>;
                Self {
                    name: "memory",
                    few: store(),
                    many: store(),
                    clock: Some(clock.clone()),
                    server: Server::None,
                    _folder: folder,
                }
            }
            "sqlite" => {
                let open = |file: &str| sqlite(folder.path().join(file), &clock);
                let (few, many) = (open("few.db"), open("many.db"));
                Self { name: "sqlite", few, many, clock: Some(clock), server: Server::None, _folder: folder }
            }
            "redis" => {
                let (few, many) = (Redis::start(), Redis::start());
                let connect = |server: &Redis| Arc::new(RedisStore::connect(&server.url()).expect("a URL"));
                let (small, large) = (connect(&few), connect(&many));
                let server = Server::Redis { few, many };
                Self { name: "redis", few: small, many: large, clock: None, server, _folder: folder }
            }
            "postgres" => {
                let server = Postgres::start();
                let few = postgres(&server.database("few")).await;
                let many = postgres(&server.database("many")).await;
                let (few, large) = (Arc::new(few), Arc::new(many.clone()));
                let server = Server::Postgres { server, many };
                Self { name: "postgres", few, many: large, clock: None, server, _folder: folder }
            }
            other => panic!("{other} is none of {STORES:?}"),
        }
    }

    /// Another instance's connections to the store with few records, where instances can share one.
    pub(crate) async fn another(&self) -> Option<Arc<dyn Store>> {
        match &self.server {
            Server::None => None,
            Server::Redis { few, .. } => Some(Arc::new(RedisStore::connect(&few.url()).expect("a URL"))),
            Server::Postgres { server, .. } => Some(Arc::new(postgres(&server.url_of("postgres", "few")).await)),
        }
    }

    /// Lets many writes be quick, and what is measured be as durable as the store comes.
    pub(crate) fn hurry(&self, on: bool) {
        let Server::Postgres { server, .. } = &self.server else { return };
        let value = if on { "off" } else { "on" };
        server.sql(&format!("ALTER SYSTEM SET synchronous_commit = {value}"));
        server.sql("SELECT pg_reload_conf()");
        if !on {
            for database in ["few", "many"] {
                server.sql_in(database, "VACUUM ANALYZE");
            }
            server.sql("CHECKPOINT");
        }
    }

    /// Nanoseconds on a CPU so far: of this process, and of the servers.
    pub(crate) fn cpu_nanos(&self) -> f64 {
        let of_servers = match &self.server {
            Server::None => 0,
            Server::Redis { few, many } => few.cpu_nanos() + many.cpu_nanos(),
            Server::Postgres { server, .. } => server.cpu_nanos(),
        };
        of_servers as f64 + own_nanos()
    }

    /// A retention that is over at the end of the `group`th minute of the bed's clock, or as soon as can be.
    pub(crate) fn short(&self, group: usize) -> Duration {
        match &self.clock {
            Some(_) => Duration::from_secs(60 * (group as u64 + 1)),
            None => Duration::from_secs(1),
        }
    }
}

fn roomy(clock: &ManualClock) -> MemoryStore {
    MemoryStore::with_clock(clock.clone()).max_entries(usize::MAX).max_bytes(usize::MAX)
}

fn sqlite(path: PathBuf, clock: &ManualClock) -> Arc<dyn Store> {
    Arc::new(SqliteStore::options().with_clock(clock.clone()).open(path).expect("a store"))
}

async fn postgres(url: &str) -> PostgresStore {
    let store = PostgresStore::options().max_connections(32).connect(url).expect("a URL");
    store.create_schema().await.expect("tables");
    store
}

/// Of all threads of this process.
fn own_nanos() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
    let of_one = |thread: std::fs::DirEntry| {
        let schedstat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse::<f64>().ok()
    };
    threads.flatten().filter_map(of_one).sum()
}
