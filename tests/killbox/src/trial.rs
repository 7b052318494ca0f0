//! One cell, done for real.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use killbox::{Post, Server, Unfinished, World, exchange};
use servers::wait_until;

use crate::backend::Backend;
use crate::cell::{Blow, Cell, Fault, Finisher, Mode, Moment, Outage, Store};
use crate::later;
use crate::seen::{Reply, Seen};

/// How long a dead attempt holds its key.
pub const LEASE: Duration = Duration::from_secs(1);

/// How long a fault lasts that has an end: longer than the lease.
pub const LONG: Duration = Duration::from_millis(1300);

/// Where each write waits for others, a lease has to last for some of them.
const fn lease(store: Store) -> Duration {
    if store.waits_for_replicas() { Duration::from_secs(2) } else { LEASE }
}

/// As [`LONG`], where a lease may last longer.
const fn long(store: Store) -> Duration {
    if store.waits_for_replicas() { Duration::from_millis(2300) } else { LONG }
}

/// Once faults stopped, how long a key may take to settle: one request that
/// hangs until its client gives up is none too many.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// What came of a cell.
pub struct Report {
    pub cell: Cell,
    /// What a retry got while the fault lasted.
    pub during: BTreeSet<Reply>,
    /// What a retry got one after another, without repetitions.
    pub trace: Vec<String>,
    /// The first retry had its response when the first lease could be over.
    pub is_late: bool,
    /// What it got in the end.
    pub last: Reply,
    /// How often the key was charged.
    pub charges: usize,
    /// How often each branch was reached.
    pub branches: HashMap<&'static str, usize>,
    pub broken: Vec<String>,
    /// What every process printed, if something is broken.
    pub lines: Vec<(String, Vec<String>)>,
    pub took: Duration,
}

impl Report {
    /// Of a cell of which nothing came.
    pub fn failed(cell: Cell, why: String) -> Self {
        Self {
            cell,
            during: BTreeSet::new(),
            trace: Vec::new(),
            is_late: false,
            last: Reply::Nothing,
            charges: 0,
            branches: HashMap::new(),
            broken: vec![why],
            lines: Vec::new(),
            took: Duration::ZERO,
        }
    }
}

/// Runs a cell. `number` makes its keys its own.
pub fn run(cell: Cell, backend: &mut Backend, number: u64) -> Report {
    if cell.finisher == Finisher::Completer {
        return later::run(cell, backend, number);
    }
    let start = Instant::now();
    let mut trial = Trial::new(cell, number);
    let clients = Clients::default();
    let mut broken = Vec::new();
    let told = caught(|| trial.run(backend, &clients)).unwrap_or_else(|panic| {
        broken.push(format!("everything settles: {panic}"));
        Told::default()
    });
    let resumed = trial.was_resumed();
    let charged = caught(|| trial.charged(backend, &clients.seen)).unwrap_or_else(|panic| {
        broken.push(format!("the rows can be read: {panic}"));
        Vec::new()
    });
    let charges = charged.iter().filter(|charge| charge["order"] == trial.key.as_str()).count();
    broken.extend(clients.seen.violations(&cell, &charged));
    if cell.mode == Mode::Transactional && broken.is_empty() {
        let receipts = backend.receipts(&clients.seen.keys());
        broken.extend(clients.seen.unpaired(&cell, &receipts));
    }
    broken.extend(trial.unexpected(&told.last, charges));
    broken.extend(trial.forbidden(&told));
    broken.extend(trial.overtaken(&clients.seen));
    let lines = trial.lines();
    let all: Vec<&str> = lines.iter().flat_map(|(_, lines)| lines.iter().map(String::as_str)).collect();
    broken.extend(all.iter().filter(|line| line.contains("panicked at")).map(|line| format!("no panic: {line}")));
    let replies = told.trace.iter().map(|reply| match reply {
        Reply::Ran if resumed => "resumes".to_owned(),
        reply => reply.to_string(),
    });
    let trace = told.fate.map(str::to_owned).into_iter().chain(replies);
    Report {
        cell,
        during: told.during,
        trace: trace.collect(),
        is_late: trial.is_late(&clients),
        last: told.last,
        charges,
        branches: branches(&clients.seen, &all),
        broken,
        lines,
        took: start.elapsed(),
    }
}

/// What it gives, or what it said when it panicked.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_else(|| "a client failed".to_owned())
    })
}

/// The branches that a full run has to reach.
pub const BRANCHES: [&str; 9] =
    ["replay", "busy", "resumed", "outcome-unknown", "503", "a zombie was fenced", "mismatch", "accepted", "parked"];

pub fn branches(seen: &Seen, lines: &[&str]) -> HashMap<&'static str, usize> {
    let counts = seen.counts();
    let answers = |reply: Reply| counts.get(&reply).copied().unwrap_or_default();
    let printed = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    let reached = [
        answers(Reply::Replay),
        answers(Reply::Busy),
        printed("resumed: attempt"),
        answers(Reply::Unknown),
        answers(Reply::Unavailable),
        printed("LeaseLost"),
        answers(Reply::Mismatch),
        answers(Reply::Accepted),
        printed("Parked {"),
    ];
    BRANCHES.into_iter().zip(reached).collect()
}

/// What a retry was told.
struct Told {
    during: BTreeSet<Reply>,
    /// What became of the transaction of a process that died.
    fate: Option<&'static str>,
    trace: Vec<Reply>,
    /// What the first attempt was told, if it had an answer.
    first: Reply,
    last: Reply,
}

impl Default for Told {
    fn default() -> Self {
        let (first, last) = (Reply::Nothing, Reply::Nothing);
        Self { during: BTreeSet::new(), fate: None, trace: Vec::new(), first, last }
    }
}

/// Clients, and where they find the processes.
#[derive(Default)]
struct Clients {
    seen: Seen,
    addresses: Mutex<Vec<SocketAddr>>,
    /// The fault has come: others may ask too.
    go: AtomicBool,
    over: AtomicBool,
    /// Since when there are no more faults.
    calm: Mutex<Option<Instant>>,
    /// When the first retry since the blow had its response.
    answered: Mutex<Option<Instant>>,
}

impl Clients {
    fn post(&self, process: usize, post: &Post) -> Reply {
        let address = self.addresses.lock().unwrap()[process];
        self.seen.begin(post.key());
        self.seen.note(post.key(), exchange(address, &post.bytes()))
    }

    /// Asks again and again, until `enough`.
    fn retry(&self, process: usize, post: &Post, mut enough: impl FnMut(&Reply) -> bool) -> Vec<Reply> {
        let deadline = Instant::now() + PATIENCE;
        let mut trace = Vec::new();
        loop {
            let reply = self.post(process, post);
            self.answered.lock().unwrap().get_or_insert_with(Instant::now);
            if trace.last() != Some(&reply) {
                trace.push(reply.clone());
            }
            if enough(&reply) {
                return trace;
            }
            assert!(Instant::now() < deadline, "{} does not: {trace:?}", post.key());
            sleep(Duration::from_millis(10));
        }
    }

    /// Asks until the answer is final.
    fn settle(&self, process: usize, post: &Post, cell: &Cell) -> Vec<Reply> {
        self.retry(process, post, |reply| match reply {
            Reply::Replay => true,
            // Who still holds it may yet complete it.
            Reply::Unknown => cell.mode == Mode::AtMostOnce && (cell.is_deadly() || self.is_calm(cell.store)),
            _ => false,
        })
    }

    fn is_calm(&self, store: Store) -> bool {
        self.calm.lock().unwrap().is_some_and(|calm| calm.elapsed() > long(store))
    }

    /// Keys of their own, each sent to every process at once, and again.
    fn crowd(&self, name: &str) {
        while !self.go.load(Ordering::Relaxed) {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            sleep(Duration::from_millis(2));
        }
        for number in 0..12 {
            let post = Post::new(&format!("{name}-{number}"));
            for _ in 0..3 {
                if self.over.load(Ordering::Relaxed) {
                    return;
                }
                let processes = self.addresses.lock().unwrap().len();
                std::thread::scope(|scope| {
                    for process in 0..processes {
                        let post = &post;
                        scope.spawn(move || self.post(process, post));
                    }
                });
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// Ends the crowd, whatever comes.
struct Over<'c>(&'c Clients);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

struct Trial {
    cell: Cell,
    key: String,
    world: World,
    urls: Vec<String>,
    servers: Vec<Server>,
    /// What processes printed that are no more.
    past: Vec<(String, Vec<String>)>,
    /// The key, as the processes print it.
    hash: Option<String>,
    /// When the first attempt was sent: before its lease began.
    sent: Option<Instant>,
}

impl Trial {
    fn new(cell: Cell, number: u64) -> Self {
        let lease = lease(cell.store).as_secs().to_string();
        let mut options = vec!["--lease", &lease];
        if cell.mode == Mode::AtMostOnce {
            options.push("--opaque");
        }
        // What the example does not do our own service does.
        let service = match (cell.mode, cell.store) {
            (Mode::Transactional, _) => Some("--transactions"),
            (_, Store::SentinelWait) => Some("--wait"),
            (_, Store::SentinelWaitAof) => Some("--wait-aof"),
            _ => None,
        };
        let world = match service {
            None => World::new(&options),
            Some(kind) => {
                let all = [&["serve", "--attended", kind], &options[..]].concat();
                World::of(std::env::current_exe().expect("this program"), &all)
            }
        };
        let key = format!("order-{number}");
        Self { cell, key, world, urls: Vec::new(), servers: Vec::new(), past: Vec::new(), hash: None, sent: None }
    }

    fn post(&self) -> Post {
        Post::new(&self.key)
    }

    /// The first attempt, about to be sent.
    fn begin(&mut self, post: &Post, clients: &Clients) {
        clients.seen.begin(post.key());
        self.sent = Some(Instant::now());
    }

    /// Whether the lease of the first attempt, if it was never renewed, may have
    /// been over when the first retry had its response. A slow machine is that slow.
    fn is_late(&self, clients: &Clients) -> bool {
        let answered = *clients.answered.lock().unwrap();
        let waited = self.sent.zip(answered).map(|(sent, answered)| answered.saturating_duration_since(sent));
        waited.is_some_and(|waited| waited > lease(self.cell.store))
    }

    /// Every charge, by the gateway's log, or by the rows.
    fn charged(&self, backend: &Backend, seen: &Seen) -> Vec<serde_json::Value> {
        match self.cell.mode {
            Mode::Transactional => backend.charges(&seen.keys()),
            _ => self.world.charged(),
        }
    }

    /// The process that is asked again: another one, if there can be one.
    fn other(&self) -> usize {
        self.servers.len() - 1
    }

    fn start(&mut self, backend: &Backend, clients: &Clients) {
        let count = if self.cell.store.is_shared() { 2 } else { 1 };
        self.urls = (0..count).map(|process| backend.url(process)).collect();
        self.servers = self.urls.iter().map(|url| self.world.start_with(&["--store", url])).collect();
        *clients.addresses.lock().unwrap() = self.servers.iter().map(Server::address).collect();
    }

    /// Ends what is left of a process and starts it again.
    fn restart(&mut self, process: usize, clients: &Clients) {
        let server = self.world.start_with(&["--store", &self.urls[process]]);
        clients.addresses.lock().unwrap()[process] = server.address();
        let old = std::mem::replace(&mut self.servers[process], server);
        self.past.push((format!("process {process}, first life"), old.lines()));
    }

    fn run(&mut self, backend: &mut Backend, clients: &Clients) -> Told {
        self.start(backend, clients);
        if self.cell.store.waits_for_replicas() {
            // A replica may have followed only just now, or be busy with that.
            // By the other process: what the first one prints is of the first attempt.
            let (mut tries, other) = (0.., self.other());
            wait_until("a write to be acknowledged", || {
                let key = format!("{}-before-{}", self.key, tries.next().unwrap_or_default());
                clients.post(other, &Post::new(&key)) == Reply::Ran
            });
        }
        let crowd = format!("{}-crowd", self.key);
        std::thread::scope(|scope| {
            let _over = Over(clients);
            scope.spawn(move || clients.crowd(&crowd));
            let mut told = match self.cell.fault {
                Fault::Blow(blow) => self.blow(blow, backend, scope, clients),
                Fault::Outage(outage) => self.outage(outage, backend, scope, clients),
                Fault::Skew(_) | Fault::Rivals => unreachable!("only completers"),
            };
            clients.calm.lock().unwrap().get_or_insert_with(Instant::now);
            clients.over.store(true, Ordering::Relaxed);
            told.last = self.settle(clients);
            told
        })
    }

    /// Every key has to end, and to stay so, whomever one asks.
    fn settle(&self, clients: &Clients) -> Reply {
        for key in clients.seen.keys() {
            for process in 0..self.servers.len() {
                clients.settle(process, &Post::new(&key), &self.cell);
            }
        }
        let finals: Vec<_> = (0..self.servers.len()).map(|process| self.firm(process, &self.post(), clients)).collect();
        assert!(finals.iter().all(|reply| *reply == finals[0]), "all processes say the same: {finals:?}");
        let other = Post::with_body(&self.key, r#"{"order":"other","amount":4999,"currency":"EUR"}"#);
        for process in 0..self.servers.len() {
            let reply = self.firm(process, &other, clients);
            assert_eq!(reply, Reply::Mismatch, "another body neither runs nor replays");
        }
        finals[0].clone()
    }

    /// What it is told now; where replicas are waited for, once they are there:
    /// sentinels see to theirs when they please.
    fn firm(&self, process: usize, post: &Post, clients: &Clients) -> Reply {
        let may_wait = self.cell.store.waits_for_replicas();
        let trace = clients.retry(process, post, |reply| !may_wait || *reply != Reply::Unavailable);
        trace.last().cloned().expect("one at least")
    }

    /// The first attempt, brought to the moment of the fault.
    fn first<'s>(&mut self, scope: &'s Scope<'s, '_>, clients: &'s Clients, crash: bool) -> First<'s> {
        let post = self.post();
        let moment = self.cell.moment;
        self.begin(&post, clients);
        if moment == Moment::BeforeClaim {
            let bytes = post.bytes();
            let half = Unfinished::send(self.servers[0].address(), &bytes, bytes.len() - 10).expect("it listens");
            // Connections are taken in order: that one has been.
            self.servers[0].get("/gateway");
            return First::Half(half);
        }
        let post = match moment.slug() {
            point if crash && moment.is_in_handler() => post.demo(&format!("crash-{point}")),
            // Long enough to be hit, short enough to be over after a pause.
            point if moment.is_in_handler() => post.demo(&format!("pause-{point}=800")),
            _ => post,
        };
        let first = scope.spawn(move || clients.post(0, &post));
        let line = self.servers[0].wait_for("claimed: a first attempt starts");
        self.hash = line.split(' ').next().map(str::to_owned);
        self.servers[0].wait_for_any(match moment {
            // Late, if a replica was.
            Moment::AfterComplete => &["completed: the response", "SavedLate"],
            _ if crash => &["this process dies now"],
            _ => &["pausing"],
        });
        First::Sent(first)
    }

    /// The first attempt, waiting for the reply to a claim that was stored.
    fn claim_sent<'s>(&mut self, backend: &Backend, scope: &'s Scope<'s, '_>, clients: &'s Clients) -> First<'s> {
        for _ in 0..3 {
            if let Some(first) = self.try_claim_sent(backend, scope, clients) {
                return first;
            }
            backend.heal();
            self.key.push_str("-again");
        }
        panic!("the claim is there before another process asks");
    }

    /// Nothing if the other process was quicker: what was sent first was not the claim.
    fn try_claim_sent<'s>(
        &mut self,
        backend: &Backend,
        scope: &'s Scope<'s, '_>,
        clients: &'s Clients,
    ) -> Option<First<'s>> {
        // Connected before, so that the claim is all that is sent.
        clients.post(0, &Post::new(&format!("{}-before", self.key)));
        backend.lose_replies();
        let sent = backend.sent();
        let post = self.post();
        self.begin(&post, clients);
        let first = scope.spawn(move || clients.post(0, &post));
        wait_until("the claim to be sent", || backend.sent() > sent);
        let seen = |reply: &Reply| matches!(reply, Reply::Busy | Reply::Ran | Reply::Replay);
        let seen = clients.retry(self.other(), &self.post(), seen);
        if seen.last() != Some(&Reply::Busy) {
            first.join().expect("a client");
            return None;
        }
        let line = self.servers[self.other()].wait_for("refused: ");
        self.hash = line.split(' ').next().map(str::to_owned);
        Some(First::Sent(first))
    }

    /// The first attempt, with its COMMIT sent, to what `backend` does with it.
    fn commit_sent<'s>(&mut self, backend: &Backend, scope: &'s Scope<'s, '_>, clients: &'s Clients) -> First<'s> {
        let Cell { fault, moment, .. } = self.cell;
        let trapped = backend.trapped();
        let is_answer = moment == Moment::AnswerSent;
        let post = if is_answer { self.post().demo("pause-before-response=300") } else { self.post() };
        self.begin(&post, clients);
        if !is_answer {
            backend.trap_commit(moment, fault);
        }
        let first = scope.spawn(move || clients.post(0, &post));
        let line = self.servers[0].wait_for("claimed: a first attempt starts");
        self.hash = line.split(' ').next().map(str::to_owned);
        if is_answer {
            self.servers[0].wait_for("pausing");
            backend.trap_commit(moment, fault);
        }
        wait_until("the COMMIT to be sent", || backend.trapped() > trapped);
        let orders = [self.key.clone()];
        match moment {
            Moment::CommitSent => wait_until("the commit", || !backend.charges(&orders).is_empty()),
            Moment::AnswerSent => wait_until("the commit", || !backend.receipts(&orders).is_empty()),
            _ => {}
        }
        First::Sent(first)
    }

    /// What became of the transaction of a process that died, if no attempt
    /// has taken over yet.
    fn fate(&self, backend: &Backend, is_held: bool) -> Option<&'static str> {
        let moment = self.cell.moment;
        let is_committed = matches!(moment, Moment::CommitSent | Moment::AnswerSent);
        let is_open = matches!(moment, Moment::AfterCharge | Moment::CommitLost);
        if !(is_committed || is_open && is_held) {
            return None;
        }
        let rows = backend.charges(std::slice::from_ref(&self.key)).len();
        assert_eq!(rows, usize::from(is_committed), "a process that dies leaves what it committed, and nothing else");
        Some(if is_committed { "committed" } else { "rolled back" })
    }

    fn blow<'s>(&mut self, blow: Blow, backend: &Backend, scope: &'s Scope<'s, '_>, clients: &'s Clients) -> Told {
        let first = match self.cell.moment {
            Moment::ClaimSent => self.claim_sent(backend, scope, clients),
            moment if moment.is_commit() => self.commit_sent(backend, scope, clients),
            _ => self.first(scope, clients, blow == Blow::Abort),
        };
        match blow {
            Blow::Abort if self.cell.moment.is_in_handler() => {}
            Blow::Abort => self.servers[0].abort(),
            Blow::Kill => self.servers[0].strike(),
            Blow::Pause | Blow::Overlap => self.servers[0].stop(),
            Blow::Terminate => self.servers[0].terminate(),
        }
        backend.heal();
        *clients.answered.lock().unwrap() = None;
        clients.go.store(true, Ordering::Relaxed);
        let (other, alone, post) = (self.other(), self.servers.len() == 1, self.post());
        let (mut trace, mut fate) = (Vec::new(), None);
        match blow {
            Blow::Abort | Blow::Kill => {
                assert!(!self.servers[0].wait_for_end().success());
                if self.cell.mode == Mode::Transactional && !alone {
                    // Asked before the rows are read: the lease does not wait.
                    trace.extend(clients.retry(other, &post, |_| true));
                    fate = self.fate(backend, trace.last() == Some(&Reply::Busy));
                }
                if alone {
                    self.restart(0, clients);
                }
                trace.extend(clients.settle(other, &post, &self.cell));
                if !alone {
                    self.restart(0, clients);
                }
            }
            Blow::Pause => {
                if alone {
                    sleep(long(self.cell.store));
                } else {
                    let enough = |reply: &Reply| matches!(reply, Reply::Ran | Reply::Replay | Reply::Unknown);
                    trace.extend(clients.retry(other, &post, enough));
                }
                self.servers[0].go_on();
                first.end(clients, post.key());
                trace.extend(clients.settle(other, &post, &self.cell));
            }
            Blow::Overlap => {
                let again = post.demo(&format!("pause-{}=800", self.cell.moment.slug()));
                let enough = |reply: &Reply| matches!(reply, Reply::Ran | Reply::Replay | Reply::Unknown);
                let second = scope.spawn(move || clients.retry(other, &again, enough));
                wait_until("the next attempt", || {
                    second.is_finished() || self.servers[other].lines_with("pausing") > 0
                });
                self.servers[0].go_on();
                first.end(clients, post.key());
                trace.extend(second.join().expect("a client"));
                trace.extend(clients.settle(other, &post, &self.cell));
            }
            Blow::Terminate => {
                // What was half sent is finished first.
                let alone = alone || self.cell.moment == Moment::BeforeClaim;
                if alone {
                    first.end(clients, post.key());
                } else {
                    let key = self.key.clone();
                    let first = scope.spawn(move || first.end(clients, &key));
                    trace.extend(clients.settle(other, &post, &self.cell));
                    first.join().expect("a client");
                }
                assert!(self.servers[0].wait_for_end().success(), "asked to end, it ends well");
                self.restart(0, clients);
                if alone {
                    trace.extend(clients.settle(other, &post, &self.cell));
                }
            }
        }
        trace.dedup();
        Told { fate, trace, ..Told::default() }
    }

    fn outage<'s>(
        &mut self,
        outage: Outage,
        backend: &mut Backend,
        scope: &'s Scope<'s, '_>,
        clients: &'s Clients,
    ) -> Told {
        backend.prepare(outage);
        let (other, post) = (self.other(), self.post());
        let first = match self.cell.moment {
            Moment::BeforeClaim => {
                backend.apply(outage, None);
                let post = post.clone();
                First::Sent(scope.spawn(move || clients.post(0, &post)))
            }
            moment if moment.is_commit() => {
                let first = self.commit_sent(backend, scope, clients);
                if !outage.is_of_link() {
                    backend.apply(outage, None);
                }
                first
            }
            _ => {
                let first = self.first(scope, clients, false);
                backend.apply(outage, self.hash.as_deref());
                first
            }
        };
        clients.go.store(true, Ordering::Relaxed);
        let end = Instant::now() + long(self.cell.store);
        let during = clients.retry(other, &post, |_| Instant::now() > end);
        backend.lift(outage);
        *clients.calm.lock().unwrap() = Some(Instant::now());
        let first = first.end(clients, post.key());
        let trace = clients.settle(other, &post, &self.cell);
        Told { during: during.into_iter().collect(), trace, first, ..Told::default() }
    }

    /// What is not as promised for this cell in particular.
    fn unexpected(&self, last: &Reply, charges: usize) -> Option<String> {
        let Cell { store, fault, moment, mode, .. } = self.cell;
        let forgets = self.cell.residual().is_some();
        let dies = self.cell.is_deadly() && moment.is_unfinished() && store != Store::Memory;
        let unknown = mode == Mode::AtMostOnce && dies;
        if *last == Reply::Nothing {
            return None;
        }
        let is_ending = match (fault, mode) {
            // Started or not: only the one that claimed can tell.
            (Fault::Blow(Blow::Pause), Mode::AtMostOnce) if moment == Moment::ClaimSent => {
                matches!(last, Reply::Replay | Reply::Unknown)
            }
            (Fault::Blow(_), _) => *last == if unknown { Reply::Unknown } else { Reply::Replay },
            (_, Mode::Resumable | Mode::Transactional) => *last == Reply::Replay,
            (_, Mode::AtMostOnce) => matches!(last, Reply::Replay | Reply::Unknown),
        };
        if !is_ending {
            return Some(format!("it ends as promised: {last:?}"));
        }
        let least = if *last == Reply::Replay || (unknown && !moment.is_uncharged()) { 1 } else { 0 };
        let most = match mode {
            _ if unknown && moment.is_uncharged() => 0,
            Mode::AtMostOnce | Mode::Transactional if forgets => usize::MAX,
            _ => 1,
        };
        (!(least..=most).contains(&charges)).then(|| format!("as many charges as promised: {charges}"))
    }

    /// What no retry may be told in this cell.
    fn forbidden(&self, told: &Told) -> Option<String> {
        let Cell { store, fault, moment, .. } = self.cell;
        match fault {
            // It renews its lease while it finishes what it runs.
            Fault::Blow(Blow::Terminate) if store.is_shared() && moment.is_unfinished() => {
                let is_taken = |reply: &Reply| matches!(reply, Reply::Ran | Reply::Unknown);
                let taken = told.trace.iter().any(is_taken);
                taken.then(|| format!("a live lease is not taken over: {:?}", told.trace))
            }
            // On a new connection it finds out what became of it, and goes on.
            Fault::Outage(Outage::Reset) if told.first != Reply::Ran || told.during.contains(&Reply::Ran) => {
                Some(format!("who lives resolves its own COMMIT: {:?}, others {:?}", told.first, told.during))
            }
            Fault::Outage(
                Outage::Stop | Outage::Kill | Outage::Pause | Outage::Full | Outage::Evicting | Outage::ReplicaAway,
            ) if moment == Moment::BeforeClaim => {
                let has_run = told.during.iter().any(|reply| matches!(reply, Reply::Ran | Reply::Replay));
                has_run.then(|| format!("nothing runs unprotected: {:?}", told.during))
            }
            _ => None,
        }
    }

    /// Once an attempt has taken over, no earlier one completes anything.
    fn overtaken(&self, seen: &Seen) -> Option<String> {
        let hash = self.hash.as_ref().filter(|_| self.cell.residual().is_none())?;
        let lines = self.lines();
        let lines = lines.iter().flat_map(|(_, lines)| lines).filter(|line| line.starts_with(hash.as_str()));
        let attempt = |line: &String| line.split_once("resumed: attempt ")?.1.split(' ').next()?.parse().ok();
        let last: u32 = lines.filter_map(attempt).max().unwrap_or(1);
        let stored = seen.attempt_replayed(&self.key)?;
        (stored != last).then(|| format!("the last attempt's answer is stored: {stored} of {last}"))
    }

    fn was_resumed(&self) -> bool {
        let Some(hash) = &self.hash else { return false };
        let resumed = |line: &String| line.starts_with(hash.as_str()) && line.contains("resumed: attempt");
        self.lines().iter().any(|(_, lines)| lines.iter().any(resumed))
    }

    fn lines(&self) -> Vec<(String, Vec<String>)> {
        let now = self.servers.iter().enumerate();
        let now = now.map(|(number, server)| (format!("process {number}"), server.lines()));
        self.past.iter().cloned().chain(now).collect()
    }
}

/// The first attempt.
enum First<'s> {
    /// A part of it was sent.
    Half(Unfinished),
    Sent(ScopedJoinHandle<'s, Reply>),
}

impl First<'_> {
    /// Waits for what comes of it.
    fn end(self, clients: &Clients, key: &str) -> Reply {
        match self {
            Self::Half(half) => clients.seen.note(key, half.finish()),
            Self::Sent(first) => first.join().expect("a client"),
        }
    }
}
