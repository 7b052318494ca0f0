//! The store contract, on Redis in every set-up, and on Valkey.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use servers::{Cluster, Redis, Sentinels};
use tower_idempotency::conformance_tests;
use tower_idempotency::core::Key;
use tower_idempotency::store::conformance::{Cannot, Damage, Harness};
use tower_idempotency::store::{RedisStore, Store};

/// One server for all tests of this program that run at the same time. Ends
/// with the last of them.
struct Shared<S>(Mutex<Weak<S>>);

impl<S> Shared<S> {
    const fn new() -> Self {
        Self(Mutex::new(Weak::new()))
    }

    fn get(&self, start: impl FnOnce() -> S) -> Arc<S> {
        let mut shared = self.0.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(start());
            *shared = Arc::downgrade(&server);
            server
        })
    }
}

static ONE: Shared<Redis> = Shared::new();
static VALKEY: Shared<Redis> = Shared::new();
static CLUSTER: Shared<Cluster> = Shared::new();
static SENTINELS: Shared<Sentinels> = Shared::new();

/// Runs a command of redis-cli.
type Cli = Box<dyn Fn(&[&str]) -> String + Send + Sync>;

/// Whether complete records and labels are indexed.
type Indexes = (bool, bool);

/// A store with a prefix of its own, on the server's own clock.
struct OnRedis {
    url: String,
    prefix: String,
    indexes: Indexes,
    store: Mutex<Arc<dyn Store>>,
    /// Also holds the server.
    cli: Cli,
}

impl OnRedis {
    fn new(url: String, indexes: Indexes, cli: impl Fn(&[&str]) -> String + Send + Sync + 'static) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("c{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let store = Mutex::new(open(&url, &prefix, indexes));
        Self { url, prefix, indexes, store, cli: Box::new(cli) }
    }
}

fn open(url: &str, prefix: &str, indexes: Indexes) -> Arc<dyn Store> {
    // On a busy machine the tests must not see time-outs.
    let patience = Duration::from_secs(10);
    let options = RedisStore::options().prefix(prefix).index_complete(indexes.0).index_labels(indexes.1);
    let options = options.connect_timeout(patience).response_timeout(patience);
    Arc::new(options.connect(url).expect("a URL"))
}

impl fmt::Debug for OnRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRedis").field("url", &self.url).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[async_trait]
impl Harness for OnRedis {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store.lock().unwrap())
    }

    async fn advance(&self, by: Duration) {
        tokio::time::sleep(by + Duration::from_millis(2)).await;
    }

    fn tick(&self) -> Duration {
        Duration::from_millis(50)
    }

    async fn damage(&self, key: &Key, how: Damage) -> Result<(), Cannot> {
        let name = servers::redis_name(&self.prefix, key.as_bytes());
        let cli = |arguments: &[&str]| assert!(!(self.cli)(arguments).contains("ERR"), "{arguments:?}");
        match how {
            Damage::NewerFormat => cli(&["SET", &name, "3 whatever comes\nthen"]),
            // Text, and what is no text at all.
            _ if (key.as_bytes()[30] ^ key.as_bytes()[31]) & 2 == 0 => cli(&["SET", &name, "garbage"]),
            _ => {
                cli(&["DEL", &name]);
                cli(&["RPUSH", &name, "garbage"]);
            }
        }
        Ok(())
    }

    async fn reopen(&self) -> Result<(), Cannot> {
        *self.store.lock().unwrap() = open(&self.url, &self.prefix, self.indexes);
        Ok(())
    }

    fn bounded(&self, _: usize) -> Result<Arc<dyn Store>, Cannot> {
        Err(Cannot::because("its bound is the server's memory; tests/redis/memory.rs has one that is full"))
    }
}

conformance_tests!(redis, || async {
    let server = ONE.get(Redis::start);
    OnRedis::new(server.url(), (false, false), move |arguments| server.cli(arguments))
});

conformance_tests!(valkey, || async {
    let server = VALKEY.get(Redis::valkey);
    OnRedis::new(server.url(), (true, true), move |arguments| server.cli(arguments))
});

conformance_tests!(cluster, || async {
    let server = CLUSTER.get(Cluster::start);
    OnRedis::new(server.url(), (true, true), move |arguments| server.nodes()[0].cli(&[&["-c"], arguments].concat()))
});

conformance_tests!(sentinel, || async {
    let server = SENTINELS.get(Sentinels::start);
    OnRedis::new(server.url(), (false, true), move |arguments| {
        let port = server.primary_port().to_string();
        server.sentinels()[0].cli(&[&["-p", &port], arguments].concat())
    })
});
