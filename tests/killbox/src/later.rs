//! One cell where the response was 202 and nobody asks again: a completer is all
//! that finishes it.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use killbox::{Post, Server, World, exchange};
use servers::{FakeClock, wait_until};

use crate::backend::Backend;
use crate::cell::{Blow, Cell, Fault, Finisher, Mode, Moment, Outage, Store};
use crate::seen::{Reply, Seen};
use crate::trial::{LEASE, LONG, PATIENCE, Report, branches, caught};

/// How long a store is away: longer than the lease, and many polls.
const AWAY: Duration = Duration::from_millis(2500);

/// How long a stop lasts: long enough to be hit.
const STOP: u32 = 800;

/// The same where many are stopped at once.
const BRIEF: u32 = 100;

/// How many more operations there are beside the one that is looked at.
const CROWD: usize = 4;

/// How many completers fight for.
const PRIZES: usize = 40;

/// Runs a cell. `number` makes its keys its own.
pub fn run(cell: Cell, backend: &mut Backend, number: u64) -> Report {
    let start = Instant::now();
    let mut later = Later::new(cell, number);
    let panicked = caught(|| later.run(backend)).err().map(|panic| format!("everything settles: {panic}"));
    let mut broken: Vec<String> = panicked.into_iter().collect();
    let key = later.key.clone();
    let charges = later.world.charges();
    let ends = std::mem::take(&mut later.ends);
    broken.extend(later.seen.violations(&cell, &later.world.charged()));
    if broken.is_empty() {
        broken.extend(ends.iter().filter_map(|(key, end)| {
            let times = charges.get(key).copied().unwrap_or_default();
            unpromised(&cell, *key == later.key, end, times).map(|what| format!("{key} {what}"))
        }));
        broken.extend(later.unshared());
    }
    let lines = later.lines();
    let all: Vec<&str> = lines.iter().flat_map(|(_, lines)| lines.iter().map(String::as_str)).collect();
    broken.extend(all.iter().filter(|line| line.contains("panicked at")).map(|line| format!("no panic: {line}")));
    Report {
        cell,
        during: std::mem::take(&mut later.during),
        trace: told(&cell, &key, &ends),
        is_late: false,
        last: Reply::Nothing,
        charges: match cell.moment {
            Moment::Every => charges.values().copied().max().unwrap_or_default(),
            _ => charges.get(&key).copied().unwrap_or_default(),
        },
        branches: branches(&later.seen, &all),
        broken,
        lines,
        took: start.elapsed(),
    }
}

/// How the one that is looked at ended, or all of them.
fn told(cell: &Cell, key: &str, ends: &BTreeMap<String, End>) -> Vec<String> {
    match cell.moment {
        Moment::Every => ends.values().collect::<BTreeSet<_>>().into_iter().map(|end| end.name().to_owned()).collect(),
        _ => ends.get(key).map(|end| end.name().to_owned()).into_iter().collect(),
    }
}

/// What became of an operation that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Complete,
    Parked,
    /// The store is declared to forget it.
    Forgotten,
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Parked => "parked",
            Self::Forgotten => "forgotten",
        }
    }
}

/// What is not as promised of an operation that was accepted, ended so, and was
/// charged so often. The `main` one was stopped at the cell's moment.
fn unpromised(cell: &Cell, main: bool, end: &End, charges: usize) -> Option<String> {
    let Cell { fault, moment, mode, store, .. } = *cell;
    let is_lost = cell.is_deadly() && moment.is_unfinished();
    let is_overtaken = matches!(fault, Fault::Blow(Blow::Pause | Blow::Overlap)) && store.is_shared();
    let ends: &[End] = match (mode, fault) {
        _ if cell.residual().is_some() => &[End::Complete, End::Forgotten],
        (Mode::Resumable, _) => &[End::Complete],
        // Nobody dies, and nobody's lease ends.
        (_, Fault::Rivals) => &[End::Complete],
        (_, Fault::Blow(_)) if main && moment.is_unfinished() && (is_lost || is_overtaken) => &[End::Parked],
        (_, Fault::Blow(_)) if main => &[End::Complete],
        _ => &[End::Complete, End::Parked],
    };
    if !ends.contains(end) {
        return Some(format!("is finished as promised, {ends:?}: {end:?}"));
    }
    let most = match () {
        () if main && is_lost && moment.is_uncharged() && *end != End::Complete => 0,
        () => 1,
    };
    let least = match end {
        End::Complete => 1,
        _ if main && !moment.is_uncharged() && moment != Moment::BeforeClaim && moment != Moment::Every => 1,
        // Who was overtaken charges after all, and can tell nobody.
        _ if main && is_overtaken => 1,
        _ => 0,
    };
    (!(least..=most).contains(&charges)).then(|| format!("is {end:?} and charged as promised: {charges} times"))
}

struct Later {
    cell: Cell,
    key: String,
    world: World,
    clock: Option<FakeClock>,
    urls: Vec<String>,
    servers: Vec<Server>,
    /// What processes printed that are no more.
    past: Vec<(String, Vec<String>)>,
    seen: Seen,
    /// Those that were answered 202.
    accepted: BTreeSet<String>,
    during: BTreeSet<Reply>,
    ends: BTreeMap<String, End>,
}

impl Later {
    fn new(cell: Cell, number: u64) -> Self {
        assert_eq!(cell.finisher, Finisher::Completer);
        let lease = LEASE.as_secs().to_string();
        let mut options = vec!["serve", "--lease", &lease];
        if cell.mode == Mode::AtMostOnce {
            options.push("--opaque");
        }
        let world = World::of(std::env::current_exe().expect("this program"), &options);
        let clock = matches!(cell.fault, Fault::Skew(_)).then(|| FakeClock::new(world.path()));
        Self {
            cell,
            key: format!("later-{number}"),
            world,
            clock,
            urls: Vec::new(),
            servers: Vec::new(),
            past: Vec::new(),
            seen: Seen::default(),
            accepted: BTreeSet::new(),
            during: BTreeSet::new(),
            ends: BTreeMap::new(),
        }
    }

    fn run(&mut self, backend: &mut Backend) {
        self.urls = (0..2).map(|process| backend.url(process)).collect();
        match self.cell.fault {
            Fault::Blow(blow) => self.blow(blow),
            Fault::Outage(outage) => self.outage(outage, backend),
            Fault::Skew(seconds) => self.skew(seconds),
            Fault::Rivals => self.rivals(),
        }
        self.settle();
        self.ask();
        self.end();
    }

    fn is_shared(&self) -> bool {
        self.cell.store.is_shared()
    }

    /// Starts one more process, with this many completers.
    fn start(&mut self, completers: usize) {
        let process = self.servers.len();
        let server = self.process(process, completers);
        self.servers.push(server);
    }

    /// Under the clock that is stepped, if it is the first.
    fn process(&self, process: usize, completers: usize) -> Server {
        let clock = self.clock.as_ref().filter(|_| process == 0);
        let environment = clock.map(FakeClock::environment).unwrap_or_default();
        let link = self.urls[process.min(1)].as_str();
        self.world.start_under(&environment, &["--store", link, "--completers", &completers.to_string()])
    }

    /// Starts a process that has ended again.
    fn restart(&mut self, process: usize) {
        let server = self.process(process, 1);
        let old = std::mem::replace(&mut self.servers[process], server);
        self.past.push((format!("process {process}, first life"), old.lines()));
    }

    /// Asks for a payment that stops where it is told to.
    fn submit(&mut self, process: usize, key: &str, demo: Option<(Moment, u32)>) -> Reply {
        let post = Post::new(key);
        let post = demo.map(|(moment, millis)| post.demo(&format!("pause-{}={millis}", moment.slug()))).unwrap_or(post);
        self.seen.begin(key);
        let reply = self.seen.note(key, exchange(self.servers[process].address(), &post.bytes()));
        if reply == Reply::Accepted {
            self.accepted.insert(key.to_owned());
        }
        reply
    }

    #[track_caller]
    fn accept(&mut self, process: usize, key: &str, demo: Option<(Moment, u32)>) {
        assert_eq!(self.submit(process, key, demo), Reply::Accepted);
    }

    fn blow(&mut self, blow: Blow) {
        let (moment, key) = (self.cell.moment, self.key.clone());
        let completers = if moment == Moment::BeforeClaim { 0 } else { 1 };
        // Nobody else is there yet, so it is this one that runs it.
        self.start(completers);
        self.accept(0, &key, moment.is_in_handler().then_some((moment, STOP)));
        match moment {
            Moment::BeforeClaim => {}
            Moment::AfterComplete => drop(self.servers[0].wait_for("  completed")),
            _ => drop(self.servers[0].wait_for("pausing")),
        }
        if self.is_shared() {
            self.start(1);
        }
        match blow {
            Blow::Abort => self.servers[0].abort(),
            Blow::Kill => self.servers[0].strike(),
            Blow::Pause | Blow::Overlap => self.servers[0].stop(),
            Blow::Terminate => self.servers[0].terminate(),
        }
        if self.is_shared() {
            self.crowd(1);
        }
        match blow {
            Blow::Abort | Blow::Kill => {
                assert!(!self.servers[0].wait_for_end().success());
                if self.is_shared() {
                    self.settle_at(1);
                }
                self.restart(0);
            }
            Blow::Terminate => {
                assert!(self.servers[0].wait_for_end().success(), "asked to end, it ends well");
                self.restart(0);
            }
            Blow::Pause if self.is_shared() => {
                self.settle_at(1);
                self.servers[0].go_on();
            }
            Blow::Pause => {
                sleep(LONG);
                self.servers[0].go_on();
            }
            Blow::Overlap => {
                let is_overtaken = |line: &str| line.contains("pausing") || line.contains("Parked");
                let other = &self.servers[1];
                wait_until("the next attempt", || other.lines().iter().any(|line| is_overtaken(line)));
                self.servers[0].go_on();
            }
        }
        if !self.is_shared() {
            self.crowd(0);
        }
    }

    /// More of them, for which nothing goes wrong.
    fn crowd(&mut self, process: usize) {
        for number in 0..CROWD {
            let key = format!("{}-crowd-{number}", self.key);
            self.accept(process, &key, None);
        }
    }

    /// Operations at each moment; some are accepted meanwhile.
    fn outage(&mut self, outage: Outage, backend: &mut Backend) {
        backend.prepare(outage);
        self.start(1);
        self.at_every_moment("before", STOP);
        self.start(1);
        backend.apply(outage, None);
        let end = Instant::now() + AWAY;
        for number in 0.. {
            let key = format!("{}-during-{number}", self.key);
            let reply = self.submit((number + 1) % 2, &key, None);
            self.during.insert(reply);
            if Instant::now() > end {
                break;
            }
            sleep(Duration::from_millis(100));
        }
        backend.lift(outage);
    }

    /// Two operations that have got to each moment, in whichever process.
    fn at_every_moment(&mut self, name: &str, millis: u32) {
        let stops = |servers: &[Server]| servers.iter().map(|server| server.lines_with("pausing")).sum::<usize>();
        let before = stops(&self.servers);
        for number in 0..2 {
            for moment in Moment::STOPS {
                let key = format!("{}-{name}-{}-{number}", self.key, moment.slug());
                self.accept(0, &key, Some((moment, millis)));
            }
        }
        let servers = &self.servers;
        wait_until("all of them to stop", || stops(servers) == before + 2 * Moment::STOPS.len());
    }

    /// The clock is stepped while the completer works; then, where it stays so,
    /// the process is killed and another one goes on.
    fn skew(&mut self, seconds: i64) {
        // Where nobody shares the store, the one that would take over wrongly
        // is in the same process.
        self.start(if self.is_shared() { 1 } else { 2 });
        self.at_every_moment("before", STOP);
        self.clock.as_ref().expect("a clock").set(seconds);
        if self.is_shared() {
            self.start(1);
        }
        self.settle();
        let resumed = self.all_lines().iter().filter(|line| line.contains("resumed: attempt 2")).count();
        assert_eq!(resumed, 0, "no lease ends because a process's clock is stepped");
        let is_complete = |key: &String| self.state(0, key) == Some(End::Complete);
        assert!(self.accepted.iter().all(is_complete), "nothing is in doubt because a process's clock is stepped");
        if self.cell.store == Store::Memory {
            return;
        }

        self.at_every_moment("after", STOP);
        self.servers[0].strike();
        assert!(!self.servers[0].wait_for_end().success());
        self.restart(0);
    }

    /// What one process accepted, two completers find. On a store that nobody
    /// shares both are in one process.
    fn rivals(&mut self) {
        if self.is_shared() {
            self.start(0);
        } else {
            self.start(2);
        }
        for number in 0..PRIZES {
            let key = format!("{}-{number}", self.key);
            self.accept(0, &key, Some((Moment::STOPS[number % Moment::STOPS.len()], BRIEF)));
        }
        if self.is_shared() {
            self.start(1);
            self.start(1);
        }
        // The first may have done all of it before the second one was there.
        let deadline = Instant::now() + PATIENCE;
        for number in PRIZES.. {
            if !self.has_idle_rival() || Instant::now() > deadline {
                break;
            }
            let key = format!("{}-{number}", self.key);
            self.accept(0, &key, Some((Moment::STOPS[number % Moment::STOPS.len()], BRIEF)));
            sleep(Duration::from_millis(50));
        }
    }

    fn has_idle_rival(&self) -> bool {
        self.servers.iter().skip(1).any(|server| server.lines_with("resumed: attempt 1") == 0)
    }

    /// Where nothing goes wrong nobody runs what another one runs; and both do
    /// something.
    fn unshared(&self) -> Option<String> {
        if self.cell.fault != Fault::Rivals {
            return None;
        }
        let twice: Vec<_> = self.world.asked().into_iter().filter(|(_, times)| *times != 1).collect();
        if !twice.is_empty() {
            return Some(format!("no operation is run by two completers: {twice:?}"));
        }
        self.has_idle_rival().then(|| "both completers find work".to_owned())
    }

    /// Every operation that was accepted has to end, whomever one asks.
    fn settle(&mut self) {
        for process in 0..self.servers.len() {
            self.settle_at(process);
        }
    }

    fn settle_at(&mut self, process: usize) {
        let deadline = Instant::now() + PATIENCE;
        for key in self.accepted.clone() {
            let end = loop {
                if let Some(end) = self.state(process, &key) {
                    break end;
                }
                assert!(Instant::now() < deadline, "{key} is not finished: {:?}", self.status(process, &key));
                sleep(Duration::from_millis(10));
            };
            let before = self.ends.insert(key.clone(), end);
            assert!(before.is_none_or(|before| before == end), "{key} was {before:?} and is {end:?}");
        }
    }

    /// How it ended, if it has.
    fn state(&self, process: usize, key: &str) -> Option<End> {
        match self.status(process, key).as_str() {
            "complete" => Some(End::Complete),
            "parked" => Some(End::Parked),
            "404" if self.cell.residual().is_some() => Some(End::Forgotten),
            "404" => panic!("{key} was accepted, and is lost"),
            _ => None,
        }
    }

    fn status(&self, process: usize, key: &str) -> String {
        let answer = self.servers[process].get(&format!("/operations/{key}"));
        match answer.status {
            200 => answer.json()["state"].as_str().unwrap_or_default().to_owned(),
            status => status.to_string(),
        }
    }

    /// The answer to each, from every process: always the same. Who was not
    /// told 202 asks again, as one would.
    fn ask(&mut self) {
        let refused: Vec<_> = self.seen.keys().into_iter().filter(|key| !self.accepted.contains(key)).collect();
        for key in refused {
            wait_until("it to be accepted", || {
                matches!(self.submit(0, &key, None), Reply::Accepted | Reply::Replay | Reply::Unknown)
            });
        }
        self.settle();
        for (key, end) in self.ends.clone() {
            let expected = match end {
                End::Complete => Reply::Replay,
                End::Parked => Reply::Unknown,
                End::Forgotten => continue,
            };
            for process in 0..self.servers.len() {
                let reply = self.submit(process, &key, None);
                assert_eq!(reply, expected, "{key} is {end:?}");
            }
            let other = Post::with_body(&key, r#"{"order":"other","amount":4999,"currency":"EUR"}"#);
            let reply = self.seen.note(&key, exchange(self.servers[0].address(), &other.bytes()));
            assert_eq!(reply, Reply::Mismatch, "another body neither runs nor replays");
        }
    }

    /// Ends all processes, so that whoever was overtaken has come to its end,
    /// and the books are closed.
    fn end(&mut self) {
        self.servers.iter().for_each(Server::terminate);
        for server in &mut self.servers {
            assert!(server.wait_for_end().success(), "asked to end, it ends well");
        }
    }

    fn all_lines(&self) -> Vec<String> {
        self.lines().into_iter().flat_map(|(_, lines)| lines).collect()
    }

    fn lines(&self) -> Vec<(String, Vec<String>)> {
        let now = self.servers.iter().enumerate();
        let now = now.map(|(number, server)| (format!("process {number}"), server.lines()));
        self.past.iter().cloned().chain(now).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell {
        finisher: Finisher::Completer,
        store: Store::Redis,
        fault: Fault::Blow(Blow::Kill),
        moment: Moment::AfterCharge,
        mode: Mode::Resumable,
    };

    fn is_promised(cell: Cell, end: End, charges: usize) -> bool {
        unpromised(&cell, true, &end, charges).is_none()
    }

    #[test]
    fn what_is_resumable_is_complete_and_charged_once() {
        let paused = Cell { fault: Fault::Blow(Blow::Pause), ..CELL };
        let away = Cell { fault: Fault::Outage(Outage::Stop), moment: Moment::Every, ..CELL };
        for cell in [CELL, paused, away, Cell { moment: Moment::BeforeClaim, ..CELL }] {
            assert!(is_promised(cell, End::Complete, 1), "{cell}");
            assert!(!is_promised(cell, End::Complete, 0), "{cell}");
            assert!(!is_promised(cell, End::Complete, 2), "{cell}");
            assert!(!is_promised(cell, End::Parked, 1), "{cell}");
            assert!(!is_promised(cell, End::Forgotten, 1), "{cell}");
        }
    }

    #[test]
    fn at_most_once_what_was_lost_is_parked_as_it_was() {
        let once = Cell { mode: Mode::AtMostOnce, ..CELL };
        assert!(is_promised(once, End::Parked, 1));
        assert!(!is_promised(once, End::Parked, 0), "it was charged before");
        assert!(!is_promised(once, End::Complete, 1), "nobody can know its response");
        let before = Cell { moment: Moment::Claimed, ..once };
        assert!(is_promised(before, End::Parked, 0));
        assert!(!is_promised(before, End::Parked, 1), "it was run again");
        let accepted = Cell { moment: Moment::BeforeClaim, ..once };
        assert!(is_promised(accepted, End::Complete, 1));
        assert!(!is_promised(accepted, End::Parked, 0), "it never started");
        let rivals = Cell { fault: Fault::Rivals, moment: Moment::Every, ..once };
        assert!(is_promised(rivals, End::Complete, 1));
        assert!(!is_promised(rivals, End::Parked, 1));
    }

    #[test]
    fn only_what_is_declared_may_be_forgotten() {
        let memory = Cell { store: Store::Memory, ..CELL };
        assert!(is_promised(memory, End::Forgotten, 1));
        assert!(!is_promised(Cell { fault: Fault::Blow(Blow::Pause), ..memory }, End::Forgotten, 1));
        assert!(!is_promised(Cell { store: Store::Sqlite, ..memory }, End::Forgotten, 1));
    }
}
