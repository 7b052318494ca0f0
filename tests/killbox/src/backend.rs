//! The store's server, the links to it, and what is done to them.

use std::net::SocketAddr;
use std::thread::sleep;

use rustix::process::Signal;
use serde_json::Value;
use servers::{Cluster, FakeClock, Fault, Postgres, Proxy, Redis, Sentinels, Trap, Way, wait_until};

use crate::cell::{self, Moment, Outage, Store};
use crate::till;
use crate::trial::LONG;

/// The tables, as a user would make them.
const SCHEMA: &str = include_str!("../../../src/store/postgres/migrations/1.sql");

/// What a server is started with that has every write on disk.
const ALWAYS: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
const EVERYSEC: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "everysec"];

/// A store and a link to it for each of two processes. Ends with this guard.
pub struct Backend {
    store: Store,
    engine: Engine,
    /// None where there is no link.
    links: Vec<Proxy>,
    /// The server's, where it can be stepped.
    clock: Option<FakeClock>,
}

enum Engine {
    Memory,
    Sqlite,
    Redis(Redis),
    Postgres(Postgres),
    Sentinels(Sentinels),
    /// And the node that is killed.
    Cluster(Cluster, usize),
    Standby(Pair),
}

/// Two Postgres servers, of which the second follows the first.
struct Pair {
    primary: Postgres,
    standby: Postgres,
    /// How the standby finds the primary.
    conninfo: String,
    promoted: bool,
}

impl Backend {
    pub fn start(store: Store) -> Self {
        let mut clock = None;
        let engine = match store {
            Store::Memory => Engine::Memory,
            Store::Sqlite => Engine::Sqlite,
            Store::Redis => Engine::Redis(Redis::start_with(&ALWAYS)),
            Store::RedisEverysec => Engine::Redis(Redis::start_with(&EVERYSEC)),
            Store::RedisForgetful => Engine::Redis(Redis::start()),
            Store::Cluster => Engine::Cluster(Cluster::start_with(&ALWAYS), 0),
            Store::Postgres => Engine::Postgres(with_schema(Postgres::start())),
            Store::PostgresAsync => {
                // What does not ask for it is nowhere near the disk for long.
                let settings = ["synchronous_commit=off", "wal_writer_delay=10s"];
                Engine::Postgres(with_schema(Postgres::start_with(&settings)))
            }
            Store::Sentinel | Store::SentinelWait => Engine::Sentinels(Sentinels::start_with(&ALWAYS)),
            Store::SentinelWaitAof => {
                let mut sentinels = Sentinels::valkey_with(&ALWAYS);
                wait_for_follower(sentinels.replica());
                Engine::Sentinels(sentinels)
            }
            Store::Standby | Store::SyncStandby => Engine::Standby(Pair::start(store)),
            Store::ClockedValkey => {
                let mut valkey = Redis::valkey_with(&ALWAYS);
                let fake = clock.insert(FakeClock::new(valkey.folder()));
                valkey.set_environment(fake.environment());
                valkey.restart();
                Engine::Redis(valkey)
            }
            Store::ClockedPostgres => {
                let mut postgres = with_schema(Postgres::start());
                let fake = clock.insert(FakeClock::new(postgres.log().parent().expect("a folder")));
                postgres.set_environment(fake.environment());
                postgres.restart();
                Engine::Postgres(postgres)
            }
        };
        let mut backend = Self { store, engine, links: Vec::new(), clock };
        if let Some(port) = backend.port() {
            backend.links.extend([(); 2].map(|()| Proxy::to(local(port))));
        }
        backend
    }

    /// The server's port, where there is one that stays.
    fn port(&self) -> Option<u16> {
        match &self.engine {
            Engine::Memory | Engine::Sqlite | Engine::Sentinels(_) | Engine::Cluster(..) => None,
            Engine::Redis(redis) => Some(redis.port()),
            Engine::Postgres(postgres) | Engine::Standby(Pair { primary: postgres, .. }) => Some(postgres.port()),
        }
    }

    /// What the process with this number is given as `--store`.
    pub fn url(&self, process: usize) -> String {
        let port = self.links.get(process).map_or(0, |link| link.address().port());
        match &self.engine {
            Engine::Memory => "memory:".to_owned(),
            // In the folder that both processes are started in.
            Engine::Sqlite => "sqlite:payment.db".to_owned(),
            Engine::Redis(_) => format!("redis://127.0.0.1:{port}"),
            Engine::Postgres(_) | Engine::Standby(_) => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Engine::Sentinels(sentinels) => sentinels.url(),
            Engine::Cluster(cluster, _) => cluster.url(),
        }
    }

    /// The rows of these orders, as JSON; and any of another amount than all
    /// have.
    pub fn charges(&self, orders: &[String]) -> Vec<Value> {
        let row = r#"json_build_object('id', id, 'key', key, 'order', "order", 'amount', amount)"#;
        self.rows(&format!("SELECT {row} FROM charges WHERE {} OR amount <> 1999", are(orders)))
    }

    /// The receipts of these orders: the order of each.
    pub fn receipts(&self, orders: &[String]) -> Vec<Value> {
        self.rows(&format!(r#"SELECT to_json("order") FROM receipts WHERE {}"#, are(orders)))
    }

    fn rows(&self, sql: &str) -> Vec<Value> {
        let postgres = match &self.engine {
            Engine::Postgres(postgres) => postgres,
            Engine::Standby(pair) => pair.serving(),
            _ => unreachable!("no transactions here"),
        };
        postgres.sql(sql).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The next COMMIT of the first process comes to this.
    pub fn trap_commit(&self, moment: Moment, fault: cell::Fault) {
        let lost = match moment {
            Moment::CommitLost => Fault::Lose(Way::Requests),
            _ => Fault::Lose(Way::Replies),
        };
        let fault = match fault {
            cell::Fault::Outage(Outage::Cut) => Fault::Cut,
            cell::Fault::Outage(Outage::Reset) => Fault::Reset,
            cell::Fault::Outage(Outage::Hold) => Fault::HoldBoth,
            _ => lost,
        };
        self.links[0].set_trap(match moment {
            Moment::CommitLost => Trap::before(Way::Requests, b"COMMIT", fault),
            _ => Trap::after(Way::Requests, b"COMMIT", fault),
        });
    }

    /// How many COMMITs came to something.
    pub fn trapped(&self) -> u64 {
        self.links[0].sprung()
    }

    /// What has to be done before the first attempt.
    pub fn prepare(&mut self, outage: Outage) {
        if let Some(clock) = &self.clock {
            clock.set(0);
        }
        // Where a replica is waited for nothing would begin without it.
        if outage == Outage::LossyFailover && !self.store.waits_for_replicas() {
            self.leave_behind();
        }
    }

    /// The replica goes, and its primary stays.
    fn leave_behind(&mut self) {
        match &mut self.engine {
            Engine::Sentinels(sentinels) => {
                // A password that its primary does not know: it stays away.
                sentinels.replica().cli(&["CONFIG", "SET", "masterauth", "x"]);
                sentinels.primary().cli(&["CLIENT", "KILL", "TYPE", "replica"]);
                wait_until("the replica to fall behind", || sentinels.replica().info("master_link_status") == "down");
            }
            Engine::Standby(pair) => pair.part(),
            _ => unreachable!("no replica here"),
        }
    }

    /// The replica is back.
    fn rejoin(&mut self) {
        match &mut self.engine {
            Engine::Sentinels(sentinels) => {
                sentinels.replica().cli(&["CONFIG", "SET", "masterauth", ""]);
                wait_for_follower(sentinels.replica());
            }
            Engine::Standby(pair) => pair.rejoin(),
            _ => unreachable!("no replica here"),
        }
    }

    /// From now on nothing comes back to the first process.
    pub fn lose_replies(&self) {
        self.links[0].apply(Fault::Lose(Way::Replies));
    }

    /// How much the first process has sent.
    pub fn sent(&self) -> u64 {
        self.links[0].bytes(Way::Requests)
    }

    /// The links are as they were.
    pub fn heal(&self) {
        self.links.iter().for_each(Proxy::heal);
    }

    /// It happens; where it happens to the node that has this record, `hash`
    /// says to which.
    pub fn apply(&mut self, outage: Outage, hash: Option<&str>) {
        if outage == Outage::LossyFailover && self.store.waits_for_replicas() {
            // What is written from now on nobody else has, and nobody is told
            // that it is written.
            self.leave_behind();
            sleep(LONG);
        }
        match outage {
            Outage::ReplicaAway => self.leave_behind(),
            Outage::Kill if self.store == Store::PostgresAsync => self.postgres().kill_all(),
            Outage::Cut => self.links[0].apply(Fault::Cut),
            Outage::Hold => self.links[0].apply(Fault::HoldBoth),
            Outage::LoseRequests => self.links[0].apply(Fault::Lose(Way::Requests)),
            Outage::LoseReplies => self.links[0].apply(Fault::Lose(Way::Replies)),
            Outage::ClockAhead => self.step(3600),
            Outage::ClockBehind => self.step(-3600),
            _ => match &mut self.engine {
                Engine::Redis(redis) => apply_to_redis(redis, outage),
                Engine::Postgres(postgres) => apply_to_postgres(postgres, outage),
                Engine::Sentinels(sentinels) => fail_over(sentinels, outage, self.store),
                Engine::Cluster(cluster, node) => {
                    let pattern = format!("*:{}*", redis_name(hash.expect("a record")));
                    let has_it = |node: &Redis| !node.cli(&["KEYS", &pattern]).is_empty();
                    *node = cluster.nodes().iter().position(has_it).expect("a node that has it");
                    cluster.nodes_mut()[*node].kill();
                }
                Engine::Standby(_) => self.fail_over_to_standby(outage),
                Engine::Memory | Engine::Sqlite => unreachable!("no server here"),
            },
        }
    }

    /// All is well again, as far as it can be.
    pub fn lift(&mut self, outage: Outage) {
        self.heal();
        if outage == Outage::ReplicaAway {
            return self.rejoin();
        }
        match &mut self.engine {
            Engine::Cluster(cluster, node) => {
                cluster.nodes_mut()[*node].restart();
                cluster.wait_until_whole();
            }
            Engine::Redis(redis) => lift_from_redis(redis, outage),
            Engine::Postgres(postgres) => match outage {
                Outage::Stop | Outage::Kill => postgres.start_again(),
                Outage::Pause => postgres.signal_all(Signal::CONT),
                _ => {}
            },
            _ => {}
        }
    }

    fn step(&self, ahead: i64) {
        self.clock.as_ref().expect("a clock").set(ahead);
    }

    fn postgres(&mut self) -> &mut Postgres {
        let Engine::Postgres(postgres) = &mut self.engine else { unreachable!("asked for Postgres") };
        postgres
    }

    fn fail_over_to_standby(&mut self, outage: Outage) {
        let Engine::Standby(pair) = &mut self.engine else { unreachable!("asked for a standby") };
        // Who commits on a synchronous one has waited already.
        if outage == Outage::Failover && self.store == Store::Standby {
            pair.primary.wait_for(&pair.standby);
        }
        pair.primary.kill();
        pair.standby.promote();
        pair.promoted = true;
        for link in &self.links {
            link.redirect(local(pair.standby.port()));
            link.apply(Fault::Reset);
        }
    }
}

impl Pair {
    fn start(store: Store) -> Self {
        let primary = with_schema(Postgres::start());
        let standby = primary.standby();
        if store == Store::SyncStandby {
            primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
            primary.sql("SELECT pg_reload_conf()");
            wait_until("the standby to be waited for", || {
                primary.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
            });
        }
        let conninfo = standby.sql("SHOW primary_conninfo");
        Self { primary, standby, conninfo, promoted: false }
    }

    /// The one that is written to.
    const fn serving(&self) -> &Postgres {
        if self.promoted { &self.standby } else { &self.primary }
    }

    fn part(&self) {
        self.follow("", "0");
    }

    fn rejoin(&self) {
        self.follow(&self.conninfo.replace('\'', "''"), "1");
    }

    fn follow(&self, conninfo: &str, followers: &str) {
        self.standby.sql(&format!("ALTER SYSTEM SET primary_conninfo = '{conninfo}'"));
        self.standby.sql("SELECT pg_reload_conf()");
        wait_until("the standby to come or go", || {
            self.primary.sql("SELECT count(*) FROM pg_stat_replication") == followers
        });
    }
}

fn are(orders: &[String]) -> String {
    format!(r#""order" = ANY('{{{}}}')"#, orders.join(","))
}

/// Nothing is on its disk before its file is written anew.
fn wait_for_follower(replica: &Redis) {
    wait_until("a replica to follow", || {
        let is_writing =
            ["aof_rewrite_in_progress", "aof_rewrite_scheduled"].iter().any(|field| replica.info(field) != "0");
        replica.info("master_link_status") == "up" && !is_writing
    });
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn with_schema(postgres: Postgres) -> Postgres {
    // On disk, whatever the server's default is.
    postgres.sql(&format!("SET synchronous_commit = on; {SCHEMA}; {}", till::TABLES));
    postgres
}

/// How the name of a record of this hash begins, in hexadecimal, in Redis: base64 in
/// the order of `./0-9A-Za-z`, of as many digits as are whole.
fn redis_name(hash: &str) -> String {
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let bits: String = hash.chars().filter_map(|digit| Some(format!("{:04b}", digit.to_digit(16)?))).collect();
    let whole = bits.as_bytes().chunks_exact(6).map(|six| six.iter().fold(0, |n, bit| n * 2 + usize::from(bit & 1)));
    whole.map(|n| char::from(DIGITS[n])).collect()
}

fn apply_to_redis(redis: &mut Redis, outage: Outage) {
    match outage {
        Outage::Stop => redis.stop(),
        Outage::Kill => redis.kill(),
        Outage::Pause => redis.signal(Signal::STOP),
        Outage::Flush => drop(redis.cli(&["FLUSHALL"])),
        Outage::Full => drop(redis.cli(&["CONFIG", "SET", "maxmemory", "1"])),
        Outage::Evicting => {
            redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
            redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
        Outage::Expiring => {
            redis.cli(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
            redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
            // It drops what may expire, and can't take anything new.
            wait_until("it to drop what it may", || {
                let keys = redis.info("db0");
                keys.is_empty() || keys.contains("expires=0")
            });
            redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        }
        other => unreachable!("{other:?} of one redis"),
    }
}

fn lift_from_redis(redis: &mut Redis, outage: Outage) {
    match outage {
        Outage::Stop | Outage::Kill => redis.restart(),
        Outage::Pause => redis.signal(Signal::CONT),
        Outage::Full => drop(redis.cli(&["CONFIG", "SET", "maxmemory", "0"])),
        Outage::Evicting | Outage::Expiring => {
            redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
            redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
        _ => {}
    }
}

fn apply_to_postgres(postgres: &mut Postgres, outage: Outage) {
    match outage {
        Outage::Stop => postgres.stop(),
        Outage::Kill => postgres.kill(),
        Outage::Pause => postgres.signal_all(Signal::STOP),
        Outage::Flush => drop(postgres.sql("TRUNCATE idempotency.records CASCADE")),
        other => unreachable!("{other:?} of one postgres"),
    }
}

fn fail_over(sentinels: &mut Sentinels, outage: Outage, store: Store) {
    let from = sentinels.primary_port();
    // Who writes where it is waited for has waited already.
    if outage == Outage::Failover && !store.waits_for_replicas() {
        let offset = sentinels.primary().info("master_repl_offset");
        let offset: u64 = offset.parse().expect("an offset");
        wait_until("the replica to be in step", || {
            sentinels.replica().info("slave_repl_offset").parse().is_ok_and(|known: u64| known >= offset)
        });
    }
    sentinels.primary().kill();
    sentinels.wait_for_failover(from);
    if store.waits_for_replicas() {
        // Nothing is written without a replica: the dead one comes back as one.
        let port = sentinels.primary_port().to_string();
        let replica = sentinels.replica();
        replica.restart();
        replica.cli(&["REPLICAOF", "127.0.0.1", &port]);
        wait_for_follower(replica);
    }
}
