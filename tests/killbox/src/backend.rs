//! The store's server, the links to it, and what is done to them.

use std::net::SocketAddr;

use rustix::process::Signal;
use servers::{FakeClock, Fault, Postgres, Proxy, Redis, Sentinels, Way, wait_until};

use crate::cell::{Outage, Store};

/// The tables, as a user would make them.
const SCHEMA: &str = include_str!("../../../src/store/postgres/migrations/1.sql");

/// A store and a link to it for each of two processes. Ends with this guard.
pub struct Backend {
    engine: Engine,
    /// None where there is no link.
    links: Vec<Proxy>,
    /// The server's, where it can be stepped.
    clock: Option<FakeClock>,
}

enum Engine {
    Memory,
    File,
    Redis(Redis),
    Postgres(Postgres),
    Sentinels(Sentinels),
    Standby { primary: Postgres, standby: Postgres },
}

impl Backend {
    pub fn start(store: Store) -> Self {
        let mut clock = None;
        let engine = match store {
            Store::Memory => Engine::Memory,
            Store::File => Engine::File,
            Store::Redis => Engine::Redis(Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"])),
            Store::RedisForgetful => Engine::Redis(Redis::start()),
            Store::Postgres => Engine::Postgres(with_schema(Postgres::start())),
            Store::Sentinel => {
                Engine::Sentinels(Sentinels::start_with(&["--appendonly", "yes", "--appendfsync", "always"]))
            }
            Store::Standby => {
                let primary = with_schema(Postgres::start());
                let standby = primary.standby();
                Engine::Standby { primary, standby }
            }
            Store::ClockedValkey => {
                let mut valkey = Redis::valkey_with(&["--appendonly", "yes", "--appendfsync", "always"]);
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
        let mut backend = Self { engine, links: Vec::new(), clock };
        if let Some(port) = backend.port() {
            backend.links.extend([(); 2].map(|()| Proxy::to(local(port))));
        }
        backend
    }

    /// The server's port, where there is one that stays.
    fn port(&self) -> Option<u16> {
        match &self.engine {
            Engine::Memory | Engine::File | Engine::Sentinels(_) => None,
            Engine::Redis(redis) => Some(redis.port()),
            Engine::Postgres(postgres) | Engine::Standby { primary: postgres, .. } => Some(postgres.port()),
        }
    }

    /// What the process with this number is given as `--store`.
    pub fn url(&self, process: usize) -> String {
        let port = self.links.get(process).map_or(0, |link| link.address().port());
        match &self.engine {
            Engine::Memory => "memory:".to_owned(),
            Engine::File => "file:payment.db".to_owned(),
            Engine::Redis(_) => format!("redis://127.0.0.1:{port}"),
            Engine::Postgres(_) | Engine::Standby { .. } => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Engine::Sentinels(sentinels) => sentinels.url(),
        }
    }

    /// What has to be done before the first attempt.
    pub fn prepare(&mut self, outage: Outage) {
        if let Some(clock) = &self.clock {
            clock.set(0);
        }
        if outage != Outage::LossyFailover {
            return;
        }
        match &mut self.engine {
            Engine::Sentinels(sentinels) => {
                // A password that its primary does not know: it stays away.
                sentinels.replica().cli(&["CONFIG", "SET", "masterauth", "x"]);
                sentinels.primary().cli(&["CLIENT", "KILL", "TYPE", "replica"]);
                wait_until("the replica to fall behind", || sentinels.replica().info("master_link_status") == "down");
            }
            Engine::Standby { primary, standby } => {
                standby.sql("ALTER SYSTEM SET primary_conninfo = ''");
                standby.sql("SELECT pg_reload_conf()");
                wait_until("the standby to fall behind", || {
                    primary.sql("SELECT count(*) FROM pg_stat_replication") == "0"
                });
            }
            _ => unreachable!("no failover here"),
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

    /// It happens.
    pub fn apply(&mut self, outage: Outage) {
        match outage {
            Outage::Cut => self.links[0].apply(Fault::Cut),
            Outage::Hold => self.links[0].apply(Fault::HoldBoth),
            Outage::LoseRequests => self.links[0].apply(Fault::Lose(Way::Requests)),
            Outage::LoseReplies => self.links[0].apply(Fault::Lose(Way::Replies)),
            Outage::ClockAhead => self.step(3600),
            Outage::ClockBehind => self.step(-3600),
            _ => match &mut self.engine {
                Engine::Redis(redis) => apply_to_redis(redis, outage),
                Engine::Postgres(postgres) => apply_to_postgres(postgres, outage),
                Engine::Sentinels(sentinels) => fail_over(sentinels, outage),
                Engine::Standby { .. } => self.fail_over_to_standby(outage),
                Engine::Memory | Engine::File => unreachable!("no server here"),
            },
        }
    }

    /// All is well again, as far as it can be.
    pub fn lift(&mut self, outage: Outage) {
        self.heal();
        match &mut self.engine {
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

    fn fail_over_to_standby(&mut self, outage: Outage) {
        let Engine::Standby { primary, standby } = &mut self.engine else { unreachable!("asked for a standby") };
        if outage == Outage::Failover {
            primary.wait_for(standby);
        }
        primary.kill();
        standby.promote();
        for link in &self.links {
            link.redirect(local(standby.port()));
            link.apply(Fault::Reset);
        }
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn with_schema(postgres: Postgres) -> Postgres {
    postgres.sql(SCHEMA);
    postgres
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
        other => unreachable!("{other:?} of one redis"),
    }
}

fn lift_from_redis(redis: &mut Redis, outage: Outage) {
    match outage {
        Outage::Stop | Outage::Kill => redis.restart(),
        Outage::Pause => redis.signal(Signal::CONT),
        Outage::Full => drop(redis.cli(&["CONFIG", "SET", "maxmemory", "0"])),
        Outage::Evicting => {
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

fn fail_over(sentinels: &mut Sentinels, outage: Outage) {
    let from = sentinels.primary_port();
    if outage == Outage::Failover {
        let offset = sentinels.primary().info("master_repl_offset");
        let offset: u64 = offset.parse().expect("an offset");
        wait_until("the replica to be in step", || {
            sentinels.replica().info("slave_repl_offset").parse().is_ok_and(|known: u64| known >= offset)
        });
    }
    sentinels.primary().kill();
    sentinels.wait_for_failover(from);
}
