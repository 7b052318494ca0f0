//! The proxy before a service that knows nothing of idempotency keys: which of the two dies when,
//! and what a retry of the client gets. `crashes.md` shows it as it came; with `KILLBOX_WRITE=1` a
//! run puts it there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use killbox::{Answer, Post, Server, Unfinished, World, exchange, program};
use servers::{Fault, Postgres, Proxy, Redis, Trap, Way, wait_until};

/// How long a request is held whose proxy died.
const LEASE: Duration = Duration::from_secs(2);

const PATIENCE: Duration = Duration::from_secs(30);

const PAGE: &str = "../../src/guide/crashes.md";
const BEGIN: &str = "<!-- killbox-proxy -->\n";
const END: &str = "<!-- /killbox-proxy -->\n";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    AtMostOnce,
    /// The service charges once for each step key.
    Resumable,
}

const MODES: [Mode; 2] = [Mode::AtMostOnce, Mode::Resumable];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Memory,
    Sqlite,
    Redis,
    Postgres,
}

const STORES: [Store; 4] = [Store::Memory, Store::Sqlite, Store::Redis, Store::Postgres];
const SHARED: [Store; 3] = [Store::Sqlite, Store::Redis, Store::Postgres];
/// Where it makes no difference.
const ONE: [Store; 1] = [Store::Sqlite];

impl Store {
    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "SQLite",
            Self::Redis => "Redis (AOF always)",
            Self::Postgres => "Postgres",
        }
    }
}

/// What happens, and when.
struct Row {
    when: &'static str,
    how: &'static str,
    stores: &'static [Store],
    play: fn(&mut House) -> Vec<String>,
}

const OF_PROXIES: [Row; 7] = [
    Row { when: "half of the request came", how: "SIGKILL", stores: &STORES, play: half },
    Row { when: "claimed, and the service never gets it", how: "SIGKILL", stores: &STORES, play: never_asked },
    Row { when: "the service works, and has not charged", how: "SIGKILL", stores: &STORES, play: before_the_charge },
    Row {
        when: "charged, before the response of the service",
        how: "SIGKILL",
        stores: &STORES,
        play: after_the_charge,
    },
    Row { when: "charged, before the response of the service", how: "SIGSTOP > lease", stores: &SHARED, play: stopped },
    Row { when: "charged, before the response of the service", how: "SIGTERM", stores: &SHARED, play: terminated },
    Row { when: "response stored", how: "SIGKILL", stores: &STORES, play: stored },
];

const OF_SERVICES: [Row; 6] = [
    Row { when: "it does not run", how: "SIGKILL, started again", stores: &ONE, play: down },
    Row { when: "it works, and has not charged", how: "SIGKILL, started again", stores: &ONE, play: dies_before },
    Row { when: "charged, before its response", how: "SIGKILL, started again", stores: &ONE, play: dies_after },
    Row { when: "charged, before its response", how: "link reset", stores: &ONE, play: reset },
    Row { when: "charged, half-way in its response", how: "link reset", stores: &ONE, play: breaks_off },
    Row { when: "charged, and its response takes longer than `timeout`", how: "–", stores: &ONE, play: too_slow },
];

fn proxy_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program("idempotency"))
}

/// A proxy before a service, and a link between them.
struct House {
    world: World,
    store: Store,
    mode: Mode,
    service: Server,
    /// Where the service listens, whenever it runs.
    at: SocketAddr,
    link: Proxy,
    proxy: Server,
    key: String,
    /// When the first attempt was taken from its proxy.
    struck: Instant,
}

impl House {
    fn open(store: Store, url: &str, mode: Mode, key: &str) -> Self {
        let world = World::new(&[]);
        let service = start_service(&world, mode, "127.0.0.1:0");
        let line = service.wait_for("listening on http://");
        let at = line.trim_start_matches("listening on http://").parse().expect("an address");
        let link = Proxy::to(at);
        let proxy = start_proxy(&world, &settings(url, link.address(), mode));
        Self { world, store, mode, service, at, link, proxy, key: key.to_owned(), struck: Instant::now() }
    }

    fn settings(&self) -> PathBuf {
        self.world.path().join("proxy.toml")
    }

    /// The same, with one more of `[guard]`, or with the service itself as upstream.
    fn restart_with(&mut self, change: impl Fn(String) -> String) {
        let text = std::fs::read_to_string(self.settings()).expect("settings");
        self.proxy = start_proxy(&self.world, &change(text));
    }

    fn restart(&mut self) {
        self.restart_with(|text| text);
    }

    fn post(&self) -> Post {
        Post::new(&self.key)
    }

    fn strike(&mut self) {
        self.proxy.strike();
        assert!(!self.proxy.wait_for_end().success());
        self.struck = Instant::now();
    }

    /// Sends a request that goes as `demo` says, until the service has printed this.
    fn begin<'s>(
        &self,
        scope: &'s thread::Scope<'s, '_>,
        demo: &str,
        printed: &str,
    ) -> ScopedJoinHandle<'s, std::io::Result<Answer>> {
        let (address, post) = (listening(&self.proxy), self.post().demo(demo));
        let first = scope.spawn(move || exchange(address, &post.bytes()));
        self.service.wait_for(printed);
        first
    }

    /// What retries get, one after another, until it is final. What ran is asked for once more.
    /// `has_lease`: as long as the first attempt's lasts, they get 409.
    fn retries(&self, at: SocketAddr, has_lease: bool) -> Vec<String> {
        let (mut words, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        // On a slow machine it may be over before the first one is sent.
        let is_late = has_lease && self.struck.elapsed() > LEASE * 3 / 4;
        loop {
            assert!(Instant::now() < deadline, "no end: {words:?}");
            let word = word(&exchange(at, &self.post().bytes()));
            let is_repeated = words.last() == Some(&word);
            if !is_repeated {
                words.push(word);
            }
            match words.last().map(String::as_str) {
                Some("replay" | "`outcome-unknown`" | "`not-retained`") => break,
                Some("409") => thread::sleep(Duration::from_millis(20)),
                _ if is_repeated => thread::sleep(Duration::from_millis(20)),
                _ => {}
            }
        }
        if is_late && ["`outcome-unknown`", "resumes"].contains(&words[0].as_str()) {
            words.insert(0, "409".to_owned());
        }
        words
    }

    fn settle(&self) -> Vec<String> {
        // The SQLite store knows that a process of this machine is dead.
        self.retries(listening(&self.proxy), matches!(self.store, Store::Redis | Store::Postgres))
    }

    /// What the service did, in the end.
    fn charged(&self) -> String {
        let charges = self.world.charges().get(&self.key).copied().unwrap_or_default();
        match charges {
            0 => "not charged".to_owned(),
            1 => "charged once".to_owned(),
            2 => "**charged twice**".to_owned(),
            more => format!("**charged {more} times**"),
        }
    }
}

fn settings(store: &str, upstream: SocketAddr, mode: Mode) -> String {
    let lease = LEASE.as_secs();
    let resumable = match mode {
        Mode::AtMostOnce => "",
        Mode::Resumable => "resumable = true\nstep_key_header = \"x-step\"\n",
    };
    format!(
        "listen = \"127.0.0.1:0\"\nupstream = \"http://{upstream}\"\nstore = \"{store}\"\nlease = \"{lease}s\"\n\
         [scope]\none_tenant = true\n[guard]\nrequired = true\n{resumable}"
    )
}

fn start_proxy(world: &World, settings: &str) -> Server {
    std::fs::write(world.path().join("proxy.toml"), settings).expect("settings");
    let proxy = world.start_other(proxy_program(), &["proxy", "--config", "proxy.toml"]);
    listening(&proxy);
    proxy
}

fn start_service(world: &World, mode: Mode, listen: &str) -> Server {
    let mut arguments = vec!["behind", "--listen", listen];
    if mode == Mode::Resumable {
        arguments.extend(["--honours", "x-step"]);
    }
    let service = world.start_other(Path::new(env!("CARGO_BIN_EXE_killbox")), &arguments);
    service.wait_for("listening on http://");
    service
}

/// Where a proxy listens, as its log says.
fn listening(proxy: &Server) -> SocketAddr {
    let line = proxy.wait_for("listening on ");
    let rest = line.split_once("listening on ").expect("it says where").1;
    rest.split(',').next().expect("an address").parse().expect("an address")
}

/// A response as the table has it.
fn word(answer: &std::io::Result<Answer>) -> String {
    let Ok(answer) = answer else { return "a response that breaks off".to_owned() };
    let code = || answer.json()["code"].as_str().unwrap_or_default().to_owned();
    match answer.status {
        201 if answer.header("content-type") == Some("application/problem+json") => format!("`{}`", code()),
        201 if answer.is_replay() => "replay".to_owned(),
        201 if answer.header("x-attempt") == Some("1") => "runs".to_owned(),
        201 => "resumes".to_owned(),
        409 if code() == "in-progress" => "409".to_owned(),
        500 if code() == "outcome-unknown" => "`outcome-unknown`".to_owned(),
        status => format!("{status} `{}`", code()),
    }
}

fn half(house: &mut House) -> Vec<String> {
    let bytes = house.post().bytes();
    let half = Unfinished::send(listening(&house.proxy), &bytes, bytes.len() - 10).expect("it listens");
    // It reads in the order of connections: that one was taken.
    assert_eq!(word(&exchange(listening(&house.proxy), &Post::new(&format!("{}-before", house.key)).bytes())), "runs");
    house.strike();
    drop(half);
    house.restart();
    house.settle()
}

fn never_asked(house: &mut House) -> Vec<String> {
    house.link.apply(Fault::Lose(Way::Requests));
    let sent = house.link.bytes(Way::Requests);
    thread::scope(|scope| {
        let (address, post) = (listening(&house.proxy), house.post());
        let first = scope.spawn(move || exchange(address, &post.bytes()));
        wait_until("the request to be sent", || house.link.bytes(Way::Requests) > sent);
        house.strike();
        first.join().expect("a client").expect_err("no response");
    });
    house.link.heal();
    house.restart();
    house.settle()
}

/// The proxy is killed once the service has printed this.
fn killed_at(house: &mut House, demo: &str, printed: &str) -> Vec<String> {
    thread::scope(|scope| {
        let first = house.begin(scope, demo, printed);
        house.strike();
        first.join().expect("a client").expect_err("no response");
    });
    house.restart();
    let words = house.settle();
    // What the service was at when its proxy died, it ends alone.
    wait_until("the service to end", || {
        let key = &house.key;
        house.service.lines_with(&format!("begun {key}")) == house.service.lines_with(&format!("ended {key}"))
    });
    words
}

fn before_the_charge(house: &mut House) -> Vec<String> {
    killed_at(house, "pause-before-charge=300", "pausing before-charge")
}

fn after_the_charge(house: &mut House) -> Vec<String> {
    killed_at(house, "pause-after-charge=300", "pausing after-charge")
}

/// Another proxy takes over from one that sleeps, and it wakes up afterwards.
fn stopped(house: &mut House) -> Vec<String> {
    let text = std::fs::read_to_string(house.settings()).expect("settings");
    let other = start_proxy(&house.world, &text);
    thread::scope(|scope| {
        let first = house.begin(scope, "pause-after-charge=300", "pausing after-charge");
        house.proxy.stop();
        house.struck = Instant::now();
        let mut words = house.retries(listening(&other), true);
        house.proxy.go_on();
        let first = word(&first.join().expect("a client"));
        words.retain(|word| word != "replay");
        words.push(format!("and the first client: {first}"));
        assert_eq!(house.settle().len(), 1, "what was final stays so");
        words
    })
}

fn terminated(house: &mut House) -> Vec<String> {
    thread::scope(|scope| {
        let first = house.begin(scope, "pause-after-charge=300", "pausing after-charge");
        house.proxy.terminate();
        assert_eq!(word(&first.join().expect("a client")), "runs");
    });
    assert!(house.proxy.wait_for_end().success(), "asked to end, it ends well");
    house.restart();
    house.settle()
}

fn stored(house: &mut House) -> Vec<String> {
    assert_eq!(word(&exchange(listening(&house.proxy), &house.post().bytes())), "runs");
    house.strike();
    house.restart();
    house.settle()
}

/// With the service itself as upstream, so that it can be away.
fn without_link(house: &mut House) {
    let (link, at) = (house.link.address().to_string(), house.at.to_string());
    house.strike();
    house.restart_with(|text| text.replace(&link, &at));
}

fn restart_service(house: &mut House) {
    house.service = start_service(&house.world, house.mode, &house.at.to_string());
}

fn down(house: &mut House) -> Vec<String> {
    without_link(house);
    house.service.strike();
    house.service.wait_for_end();
    let first = word(&exchange(listening(&house.proxy), &house.post().bytes()));
    restart_service(house);
    [vec![first], house.settle()].concat()
}

fn service_dies(house: &mut House, demo: &str) -> Vec<String> {
    without_link(house);
    thread::scope(|scope| {
        let first = house.begin(scope, &format!("crash-{demo}"), "this process dies now");
        let first = word(&first.join().expect("a client"));
        house.service.wait_for_end();
        restart_service(house);
        [vec![first], house.settle()].concat()
    })
}

fn dies_before(house: &mut House) -> Vec<String> {
    service_dies(house, "before-charge")
}

fn dies_after(house: &mut House) -> Vec<String> {
    service_dies(house, "after-charge")
}

fn reset(house: &mut House) -> Vec<String> {
    thread::scope(|scope| {
        let first = house.begin(scope, "pause-after-charge=300", "pausing after-charge");
        house.link.apply(Fault::Reset);
        let first = word(&first.join().expect("a client"));
        [vec![first], house.settle()].concat()
    })
}

fn breaks_off(house: &mut House) -> Vec<String> {
    house.link.set_trap(Trap::before(Way::Replies, b"charge_id", Fault::Reset));
    let first = word(&exchange(listening(&house.proxy), &house.post().bytes()));
    [vec![first], house.settle()].concat()
}

fn too_slow(house: &mut House) -> Vec<String> {
    house.strike();
    house.restart_with(|text| text + "timeout = \"1s\"\n");
    let post = house.post().demo("pause-after-charge=3000");
    let first = word(&exchange(listening(&house.proxy), &post.bytes()));
    [vec![first], house.settle()].concat()
}

/// One row on one store, in one mode.
fn told(row: &Row, store: Store, url: &str, mode: Mode, number: usize) -> String {
    let mut house = House::open(store, url, mode, &format!("{}-{number}-{}", store.name().len(), mode as usize));
    let mut words = (row.play)(&mut house);
    let is_over = words.len() > 1 && ["runs", "resumes"].contains(&words[words.len() - 2].as_str());
    if is_over && words.last().is_some_and(|word| word == "replay") {
        words.pop();
    }
    format!("{}; {}", words.join(", "), house.charged())
}

/// Where a store is that all houses share, if they share one.
struct Stores {
    redis: Redis,
    postgres: Postgres,
}

impl Stores {
    fn start() -> Self {
        let redis = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
        let postgres = Postgres::start();
        let migrated =
            std::process::Command::new(proxy_program()).args(["--store", &postgres.url(), "migrate", "--yes"]).output();
        let migrated = migrated.expect("it starts");
        assert!(migrated.status.success(), "{migrated:?}");
        Self { redis, postgres }
    }

    fn url(&self, store: Store) -> String {
        match store {
            Store::Memory => "memory:".to_owned(),
            Store::Sqlite => "sqlite:keys.db".to_owned(),
            Store::Redis => self.redis.url(),
            Store::Postgres => self.postgres.url(),
        }
    }
}

/// The rows as they came, those that say the same as one.
fn table(rows: &[Row], stores: &Stores, first: usize) -> String {
    let mut text = String::from("| when | how | store | at-most-once | resumable |\n|---|---|---|---|---|\n");
    for (number, row) in rows.iter().enumerate() {
        let lines: Vec<[String; 2]> = thread::scope(|scope| {
            let cells: Vec<_> = row
                .stores
                .iter()
                .map(|&store| {
                    MODES.map(|mode| scope.spawn(move || told(row, store, &stores.url(store), mode, first + number)))
                })
                .collect();
            cells.into_iter().map(|cells| cells.map(|cell| cell.join().expect("a cell"))).collect()
        });
        let mut shown: Vec<(&[String; 2], Vec<&str>)> = Vec::new();
        for (told, store) in lines.iter().zip(row.stores) {
            match shown.iter_mut().find(|(other, _)| *other == told) {
                Some((_, names)) => names.push(store.name()),
                None => shown.push((told, vec![store.name()])),
            }
        }
        for ([once, resumable], names) in shown {
            let (when, how, names) = (row.when, row.how, names.join(", "));
            text.push_str(&format!("| {when} | {how} | {names} | {once} | {resumable} |\n"));
        }
    }
    text
}

#[test]
fn the_page_has_what_came_of_each() {
    let stores = Stores::start();
    let (of_proxies, of_services) = (table(&OF_PROXIES, &stores, 0), table(&OF_SERVICES, &stores, OF_PROXIES.len()));
    let came = format!("{of_proxies}\nThe service fails:\n\n{of_services}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).expect("crashes.md");
    let (before, rest) = page.split_once(BEGIN).expect("a place for the table");
    let (shown, after) = rest.split_once(END).expect("its end");
    if std::env::var_os("KILLBOX_WRITE").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{came}{END}{after}")).expect("written");
    } else {
        assert!(shown == came, "crashes.md says:\n{shown}\nand there came:\n{came}");
    }
}
