//! Three instances, one export a period, and a mail server: who dies when, there is one mail a
//! period and one file, and no period is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use killbox::{Answer, Server, World, exchange, program};
use servers::{FakeClock, Fault, Postgres, Proxy, Redis, wait_until};

/// The points at which an instance dies by itself, and a moment at which it is killed: the mail
/// server has all of the mail, and has not responded.
const POINTS: [&str; 8] =
    ["begun", "rows-stored", "csv-written", "mail-begun", "mail-open", "content-sent", "mail-taken", "mail-stored"];

/// How long a period is.
const PERIOD: Duration = Duration::from_secs(2);

/// The file of each period.
const CSV: &str = "id,sold_at,item,cents\n\
                   1,2026-01-05T09:12:44Z,lamp,4900\n\
                   2,2026-01-05T10:30:02Z,\"chair, red\",12900\n\
                   3,2026-01-06T16:01:10Z,table,49900\n";

const PATIENCE: Duration = Duration::from_secs(60);

fn export() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program("daily_export"))
}

fn sink() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| program("smtp_sink"))
}

/// A mail server and three instances.
struct Fleet {
    world: World,
    store: String,
    /// Where the mail server takes mails, and where it is asked.
    smtp: String,
    http: SocketAddr,
    can_ask: bool,
    sink: Server,
    instances: Vec<Server>,
    /// The clocks of the instances, if they are not right.
    clocks: Vec<FakeClock>,
    /// What instances printed that are no more.
    past: Vec<Vec<String>>,
}

impl Fleet {
    fn start(store: &str) -> Self {
        Self::with(store, "accept", true)
    }

    /// With these faults of the mail server, in the order of its mails.
    fn with(store: &str, faults: &str, can_ask: bool) -> Self {
        let mut fleet = Self::of_none(store, faults, can_ask);
        fleet.instances = (0..3).map(|number| fleet.instance(number)).collect();
        fleet
    }

    /// With clocks that are so many seconds ahead.
    fn with_clocks(store: &str, ahead: [i64; 3]) -> Self {
        let mut fleet = Self::of_none(store, "accept", true);
        for (number, ahead) in ahead.into_iter().enumerate() {
            let folder = fleet.world.path().join(format!("clock-{number}"));
            std::fs::create_dir(&folder).expect("a folder");
            let clock = FakeClock::new(&folder);
            clock.set(ahead);
            fleet.clocks.push(clock);
        }
        fleet.instances = (0..3).map(|number| fleet.instance(number)).collect();
        fleet
    }

    fn of_none(store: &str, faults: &str, can_ask: bool) -> Self {
        let world = World::new(&[]);
        std::fs::create_dir(world.path().join("notes")).expect("a folder");
        let sink = world.start_other(sink(), &["--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--faults", faults]);
        let line = sink.wait_for("SMTP on ");
        let (smtp, http) = line.trim_start_matches("SMTP on ").split_once(", HTTP on ").expect("two addresses");
        let (smtp, http) = (smtp.to_owned(), http.parse().expect("an address"));
        let store = store.to_owned();
        let (instances, clocks, past) = (Vec::new(), Vec::new(), Vec::new());
        Self { world, store, smtp, http, can_ask, sink, instances, clocks, past }
    }

    fn instance(&self, number: usize) -> Server {
        let name = format!("instance-{number}");
        let mut arguments = vec!["--name", &name, "--store", &self.store, "--smtp", &self.smtp, "--demo", "notes"];
        arguments.extend(["--every", "2s", "--lease", "1", "--backoff", "0.1"]);
        let http = self.http.to_string();
        if self.can_ask {
            arguments.extend(["--ask", &http]);
        }
        let environment = self.clocks.get(number).map(FakeClock::environment);
        self.world.start_other_under(environment.unwrap_or_default(), export(), &arguments)
    }

    /// In the place of one that has died.
    fn restart(&mut self, number: usize) {
        let server = self.instance(number);
        let old = std::mem::replace(&mut self.instances[number], server);
        self.past.push(old.lines());
    }

    fn note(&self, name: &str) -> PathBuf {
        let note = self.world.path().join("notes").join(name);
        std::fs::write(&note, "").expect("a note");
        note
    }

    fn ask(&self, request: &str) -> Answer {
        let request = format!("{request}host: sink\r\nconnection: close\r\n\r\n");
        exchange(self.http, request.as_bytes()).expect("an answer")
    }

    fn set_faults(&self, list: &str) {
        let request = format!(
            "PUT /faults HTTP/1.1\r\nhost: sink\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{list}",
            list.len()
        );
        assert_eq!(exchange(self.http, request.as_bytes()).expect("an answer").status, 200);
    }

    /// The period of each mail that was taken, in the order in which they were.
    fn mailed(&self) -> Vec<String> {
        let mails = self.ask("GET /mails HTTP/1.1\r\n").json();
        let period = |mail: &serde_json::Value| {
            let subject = mail["subject"].as_str()?;
            Some(subject.strip_prefix("Sales before ")?.split(' ').next()?.to_owned())
        };
        mails.as_array().expect("a list").iter().map(|mail| period(mail).expect("a period")).collect()
    }

    /// What all of them printed, the dead first.
    fn lines(&self) -> Vec<String> {
        let now = self.instances.iter().map(Server::lines);
        self.past.iter().cloned().chain(now).flatten().collect()
    }

    fn count(&self, text: &str) -> usize {
        self.lines().iter().filter(|line| line.contains(text)).count()
    }

    fn wait_for_count(&self, text: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(text) < count {
            assert!(Instant::now() < deadline, "{text:?} did not come {count} times: {:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Which instance has ended by itself.
    fn dead(&mut self) -> Option<usize> {
        self.instances.iter_mut().position(|instance| !instance.is_alive())
    }

    /// One dies at each of these points, all in the same run if they come in its order.
    fn die_at(&mut self, points: &[&str]) {
        for (index, &point) in points.iter().enumerate() {
            let number = if point == "content-sent" { self.kill_while_it_waits() } else { self.crash(point) };
            // After the last one the others go on before it is there again.
            if index + 1 == points.len() {
                let lines = self.instances[number].lines();
                let run = lines.iter().rev().find_map(|line| line.split_once("attempt ")?.1.split_once(", run "));
                let done = format!("{:.12}  done", run.expect("it began a run").1);
                self.wait_for_count(&done, 1);
            }
            self.restart(number);
        }
    }

    fn crash(&mut self, point: &str) -> usize {
        let note = self.note(&format!("crash-{point}"));
        wait_until("an instance to take the note", || !note.exists());
        let mut dead = None;
        wait_until("it to die", || {
            dead = self.dead();
            dead.is_some()
        });
        dead.expect("one is dead")
    }

    /// The mail server takes the mail after its client has died.
    fn kill_while_it_waits(&mut self) -> usize {
        let slow = self.sink.lines_with("slow: ");
        self.set_faults("slow=1500");
        wait_until("a mail that is taken slowly", || self.sink.lines_with("slow: ") > slow);
        let lines = self.sink.lines();
        let mail = lines.iter().rev().find(|line| line.starts_with("slow: ")).expect("a mail");
        let run = mail.rsplit(' ').next().expect("a run").trim_end_matches(')');
        let sends = format!("{run}  step mail is about to act");
        let sends = |instance: &Server| instance.lines_with(&sends) > 0;
        let number = self.instances.iter().position(sends).expect("one sends it");
        self.instances[number].strike();
        assert!(!self.instances[number].wait_for_end().success());
        number
    }

    /// All of them end, as they are asked to, and what is there is as promised.
    fn settle(mut self) {
        for instance in &self.instances {
            instance.terminate();
        }
        for instance in &mut self.instances {
            assert!(instance.wait_for_end().success(), "asked to end, it ends well");
        }
        let mailed = self.mailed();
        let periods: BTreeSet<_> = mailed.iter().cloned().collect();
        assert_eq!(mailed.len(), periods.len(), "one mail a period: {mailed:#?} {:#?}", self.lines());
        self.assert_none_missed(&periods);
        self.assert_files(&periods);
    }

    fn assert_none_missed(&self, periods: &BTreeSet<String>) {
        let seconds: Vec<u64> = periods.iter().map(|period| seconds_of_day(period)).collect();
        let is_next = |pair: &[u64]| (pair[0] + PERIOD.as_secs()) % 86400 == pair[1];
        assert!(seconds.windows(2).all(is_next), "no period is missed: {periods:#?} {:#?}", self.lines());
    }

    /// One file a period, whole, and the mail has it. The last may be there without its mail, if
    /// the end came between the two.
    fn assert_files(&self, periods: &BTreeSet<String>) {
        let folder = std::fs::read_dir(self.world.path().join("exports")).expect("a folder");
        let files = folder
            .map(|file| file.expect("a file").path())
            .filter(|file| file.extension().is_some_and(|kind| kind == "csv"));
        let files: BTreeMap<String, String> = files
            .map(|file| {
                let name = file.file_name().expect("a name").to_string_lossy().into_owned();
                (name, std::fs::read_to_string(file).expect("text"))
            })
            .collect();
        let named: BTreeSet<_> =
            periods.iter().map(|period| format!("sales-{}.csv", period.replace(':', "-"))).collect();
        let extra = files.keys().filter(|name| !named.contains(*name)).count();
        assert!(extra <= 1 && named.iter().all(|name| files.contains_key(name)), "{named:?} {:?}", files.keys());
        assert!(files.values().all(|content| content == CSV), "{files:#?}");
        let mails = std::fs::read_dir(self.world.path().join("mails")).expect("a folder");
        for mail in mails.map(|mail| std::fs::read_to_string(mail.expect("a mail").path()).expect("text")) {
            assert!(mail.replace("\r\n", "\n").contains(CSV), "{mail}");
            let run = mail.split_once("Run ").expect("the run's id").1.split("\r\n").next().expect("a line");
            assert!(self.count(&format!("run {run}")) > 0, "the log has the run of each mail: {run}");
        }
    }
}

/// Of a moment such as `2026-11-29T14:00:02Z`.
fn seconds_of_day(period: &str) -> u64 {
    let time = period.split_once('T').expect("a moment").1.trim_end_matches('Z');
    time.split(':').fold(0, |seconds, part| seconds * 60 + part.parse::<u64>().expect("a number"))
}

/// At each of these points, and then at moments by chance.
fn killed(store: &str, points: &[&str]) {
    let mut fleet = Fleet::start(store);
    fleet.wait_for_count("  done: ", 1);
    fleet.die_at(points);
    let rounds = std::env::var("KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(4);
    let seed = std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(fastrand::u64(..));
    eprintln!("KILL_SEED={seed} KILL_ROUNDS={rounds}");
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.u64(0..700)));
        let number = random.usize(0..3);
        fleet.instances[number].strike();
        fleet.instances[number].wait_for_end();
        fleet.restart(number);
    }
    let done = fleet.mailed().len();
    wait_until("two more", || fleet.mailed().len() >= done + 2);
    fleet.settle();
}

/// Every second point, so that the halves go side by side.
fn half(odd: usize) -> Vec<&'static str> {
    POINTS.into_iter().skip(odd).step_by(2).collect()
}

#[test]
fn killed_anywhere_on_sqlite_one_mail_a_period() {
    killed("sqlite:daily_export.db", &half(0));
}

#[test]
fn killed_anywhere_else_on_sqlite_one_mail_a_period() {
    killed("sqlite:daily_export.db", &half(1));
}

fn redis() -> Redis {
    Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
}

#[test]
fn killed_anywhere_on_redis_one_mail_a_period() {
    killed(&redis().url(), &half(0));
}

#[test]
fn killed_anywhere_else_on_redis_one_mail_a_period() {
    killed(&redis().url(), &half(1));
}

#[test]
fn killed_anywhere_on_postgres_one_mail_a_period() {
    killed(&Postgres::start().url(), &half(0));
}

#[test]
fn killed_anywhere_else_on_postgres_one_mail_a_period() {
    killed(&Postgres::start().url(), &half(1));
}

/// One instance is 30 seconds behind and one ahead, and then their clocks are set: the store's
/// clock decides when a period begins, and each runs once.
fn apart(store: &str) {
    let fleet = Fleet::with_clocks(store, [-30, 0, 30]);
    wait_until("three mails", || fleet.mailed().len() >= 3);
    fleet.clocks[0].set(3600);
    fleet.clocks[2].set(-3600);
    let done = fleet.mailed().len();
    wait_until("three more", || fleet.mailed().len() >= done + 3);
    fleet.settle();
}

#[test]
fn with_clocks_apart_on_sqlite_one_mail_a_period() {
    apart("sqlite:daily_export.db");
}

#[test]
fn with_clocks_apart_on_redis_one_mail_a_period() {
    apart(&redis().url());
}

#[test]
fn with_clocks_apart_on_postgres_one_mail_a_period() {
    apart(&Postgres::start().url());
}

/// It starts while the store is down, and then goes on through an outage.
#[test]
fn without_the_store_it_starts_and_waits() {
    let redis = redis();
    let link = Proxy::to(SocketAddr::from(([127, 0, 0, 1], redis.port())));
    link.apply(Fault::Cut);
    let fleet = Fleet::start(&format!("redis://{}", link.address()));
    fleet.wait_for_count("the store is lost", 3);
    assert_eq!(fleet.mailed().len(), 0);
    link.heal();
    wait_until("a mail", || !fleet.mailed().is_empty());
    fleet.settle();
}

#[test]
fn what_was_not_sent_for_certain_is_told_and_sent_later() {
    let fleet = Fleet::with("sqlite:daily_export.db", "refuse,reject", true);
    fleet.wait_for_count("ALERT: the export of ", 2);
    fleet.wait_for_count("  done: ", 2);
    assert_eq!((fleet.count("the mail was not sent: "), fleet.count("in doubt")), (4, 0), "{:#?}", fleet.lines());
    fleet.settle();
}

#[test]
fn what_is_in_doubt_is_asked_for_and_sent_only_if_it_was_lost() {
    let fleet = Fleet::with("sqlite:daily_export.db", "take-and-drop,lose", true);
    fleet.wait_for_count("it is in doubt whether the mail was sent", 4);
    fleet.wait_for_count("  done: ", 3);
    fleet.settle();
}

#[test]
fn what_is_in_doubt_and_can_not_be_asked_for_waits_for_an_operator() {
    let fleet = Fleet::with("sqlite:daily_export.db", "lose", false);
    fleet.wait_for_count("ALERT: the operation is parked until an operator decides", 1);
    fleet.wait_for_count("  done: ", 2);
    let (mailed, lines) = (fleet.mailed(), fleet.lines());
    let parked = |line: &String| {
        let (period, _) = line.split_once("ALERT: the export of ")?.1.split_once(" has not ended: it is in doubt")?;
        Some(period.to_owned())
    };
    let parked = lines.iter().find_map(parked).expect("the period of the mail that was lost");
    assert!(!mailed.contains(&parked), "it is not sent a second time: {mailed:?} {lines:#?}");
    fleet.settle();
}

/// Stopped in the step, for longer than the lease: another one sends the mail, and it wakes up.
#[test]
fn what_slept_through_its_lease_sends_nothing() {
    let fleet = Fleet::start("sqlite:daily_export.db");
    let note = fleet.note("pause-mail-begun");
    wait_until("an instance to take the note", || !note.exists());
    let is_paused = |instance: &Server| instance.lines_with("pausing: mail-begun") > 0;
    wait_until("it to pause", || fleet.instances.iter().any(is_paused));
    let number = fleet.instances.iter().position(is_paused).expect("one pauses");
    fleet.instances[number].stop();
    wait_until("another one to send it", || !fleet.mailed().is_empty());
    fleet.instances[number].go_on();
    fleet.instances[number].wait_for("has not ended: ");
    fleet.wait_for_count("  done: ", 2);
    fleet.settle();
}
