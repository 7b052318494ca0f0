//! The process under test.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, kill_process, prlimit, waitpid};
use tempfile::TempDir;

use crate::http::{Answer, Post, exchange};

/// The packages and features of `scripts/test`: one build serves all tests.
const LIKE_THE_TESTS: [&str; 6] =
    ["--workspace", "--exclude", "tower-idempotency-benches", "--exclude", "model", "--all-features"];

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a store and the gateway's books; what survives a process.
#[derive(Debug)]
pub struct World {
    directory: TempDir,
    /// The example's, if it is none other.
    program: Option<PathBuf>,
    options: Vec<String>,
}

impl World {
    /// An empty one, whose processes are started with these options.
    pub fn new(options: &[&str]) -> Self {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Self { directory: tempfile::tempdir().expect("a directory"), program: None, options }
    }

    /// The same, of another program, which listens and prints as the example
    /// does.
    pub fn of(program: PathBuf, options: &[&str]) -> Self {
        Self { program: Some(program), ..Self::new(options) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self) -> Command {
        let program = self.program.as_deref().unwrap_or_else(|| payment());
        let mut command = Command::new(program);
        command.current_dir(self.path()).args(&self.options).args(["--listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null());
        command
    }

    /// Starts the service and waits until it listens.
    pub fn start(&self) -> Server {
        self.start_with(&[])
    }

    /// The same, with more options.
    pub fn start_with(&self, more: &[&str]) -> Server {
        self.start_under(&[], more)
    }

    /// The same, with more in its environment.
    pub fn start_under(&self, environment: &[(String, String)], more: &[&str]) -> Server {
        let mut command = self.command();
        command.args(more).envs(environment.iter().cloned());
        let mut server = self.spawn(command);
        let line = server.wait_for("listening on http://");
        let address = line.trim_start_matches("listening on http://").split(' ').next().unwrap_or_default();
        server.address = address.parse().expect("an address");
        server
    }

    /// Starts any other program here; none of the options are its own.
    pub fn start_other(&self, program: &Path, arguments: &[&str]) -> Server {
        self.start_other_under(Vec::new(), program, arguments)
    }

    /// The same with these variables in its environment.
    pub fn start_other_under(&self, environment: Vec<(String, String)>, program: &Path, arguments: &[&str]) -> Server {
        let mut command = Command::new(program);
        command.current_dir(self.path()).args(arguments).envs(environment).stdin(Stdio::null());
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let lines = Arc::new(Lines::default());
        let (output, errors) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (sink, other) = (Arc::clone(&lines), Arc::clone(&lines));
        std::thread::spawn(move || sink.read(output));
        std::thread::spawn(move || other.read_errors(errors));
        Server { child, lines, address: SocketAddr::from(([0, 0, 0, 0], 0)), log: self.gateway_log() }
    }

    /// Starts one that is expected to end by itself, with more options.
    pub fn run(&self, more: &[&str]) -> Output {
        let mut command = self.command();
        let mut child =
            command.args(more).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("payment starts");
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().expect("waited").is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().expect("waited")
    }

    /// The gateway's log.
    pub fn gateway_log(&self) -> PathBuf {
        self.path().join("gateway.log")
    }

    /// Every charge, by the log alone.
    pub fn charged(&self) -> Vec<serde_json::Value> {
        let charges = entries(&self.gateway_log()).into_iter().filter_map(|entry| entry.get("charge").cloned());
        charges.collect()
    }

    /// How often each order was charged, by the log alone.
    pub fn charges(&self) -> HashMap<String, usize> {
        let mut charges = HashMap::new();
        for charge in self.charged() {
            *charges.entry(charge["order"].as_str().expect("an order").to_owned()).or_default() += 1;
        }
        charges
    }

    /// How often the gateway was asked to charge for each order, by the log of
    /// a gateway that writes that down.
    pub fn asked(&self) -> HashMap<String, usize> {
        let mut asked = HashMap::new();
        for entry in entries(&self.gateway_log()) {
            if let Some(order) = entry["asked"].as_str() {
                *asked.entry(order.to_owned()).or_default() += 1;
            }
        }
        asked
    }

    /// How many receipts went out, and for how many charges.
    pub fn receipts(&self) -> (usize, usize) {
        let entries = entries(&self.gateway_log());
        let mut receipts: Vec<_> = entries.iter().filter_map(|entry| entry.get("receipt")?.as_str()).collect();
        let all = receipts.len();
        receipts.sort_unstable();
        receipts.dedup();
        (all, receipts.len())
    }
}

fn entries(log: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    // What a killed process left half-written was never acknowledged.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("the gateway writes JSON"))
        .collect()
}

/// Builds the example, so that the first to start need not wait.
pub fn build() {
    payment();
}

/// The example's program, built once per run.
fn payment() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    // For trying a harness on a program with a bug in it.
    PROGRAM.get_or_init(|| std::env::var_os("PAYMENT").map_or_else(|| example("payment"), PathBuf::from))
}

/// Builds an example of the crate, and tells where its program is.
pub fn example(name: &str) -> PathBuf {
    built(&["--example"], name)
}

/// Builds a program of a package of the workspace, and tells where it is. Beside an example:
/// programs alone have their dependencies without what tests add, so all would be built again.
pub fn program(name: &str) -> PathBuf {
    built(&["--example", "payment", "--bin"], name)
}

fn built(kind: &[&str], name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(root).args(["build", "--quiet", "--message-format=json"]);
    build.args(kind).arg(name).args(LIKE_THE_TESTS);
    // What a cargo says to this program. Build scripts go by it, and with another value they and
    // all that depends on them would be built again, now and by the next cargo.
    let is_said = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    std::env::vars_os().map(|(name, _)| name).filter(is_said).for_each(|name| _ = build.env_remove(name));
    let output = build.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "{name} does not build");
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let messages = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let mut programs = messages.filter(|message| message["target"]["name"] == name);
    programs.find_map(|message| message["executable"].as_str().map(PathBuf::from)).expect("cargo says where it is")
}

/// What a process printed so far.
#[derive(Debug, Default)]
struct Lines {
    seen: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Lines {
    fn read(&self, output: impl Read) {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            self.seen.lock().unwrap().0.push(line);
            self.more.notify_all();
        }
        self.seen.lock().unwrap().1 = true;
        self.more.notify_all();
    }

    /// Those of the other output; passed on, as they would be without us.
    fn read_errors(&self, output: impl Read) {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            eprintln!("{line}");
            self.seen.lock().unwrap().0.push(line);
        }
    }

    fn wait_for(&self, texts: &[&str]) -> String {
        let seen = self.seen.lock().unwrap();
        let is_it = |line: &&String| texts.iter().any(|text| line.contains(text));
        let found = |lines: &[String]| lines.iter().find(is_it).cloned();
        let waiting = |seen: &mut (Vec<String>, bool)| found(&seen.0).is_none() && !seen.1;
        let (seen, _) = self.more.wait_timeout_while(seen, PATIENCE, waiting).unwrap();
        let lines = seen.0.clone();
        // Whoever is told that nothing came still wants to read the rest.
        drop(seen);
        found(&lines).unwrap_or_else(|| panic!("{texts:?} did not come: {lines:#?}"))
    }
}

/// A running service. Dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    child: Child,
    lines: Arc<Lines>,
    address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// It may have so many files and sockets from now on.
    pub fn limit_descriptors(&self, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(self.pid()), Resource::Nofile, limit).expect("limited");
    }

    /// How many it has.
    pub fn descriptors(&self) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs");
        all.count()
    }

    /// Waits for a line with this text.
    pub fn wait_for(&self, text: &str) -> String {
        self.lines.wait_for(&[text])
    }

    /// Waits until it has printed a line with one of these, and gives it back.
    pub fn wait_for_any(&self, texts: &[&str]) -> String {
        self.lines.wait_for(texts)
    }

    /// How many lines with this text it has printed.
    pub fn lines_with(&self, text: &str) -> usize {
        self.lines.seen.lock().unwrap().0.iter().filter(|line| line.contains(text)).count()
    }

    /// All that it has printed.
    pub fn lines(&self) -> Vec<String> {
        self.lines.seen.lock().unwrap().0.clone()
    }

    /// Asks for a payment.
    pub fn try_post(&self, post: &Post) -> std::io::Result<Answer> {
        exchange(self.address, &post.bytes())
    }

    /// Asks for a payment; there must be an answer.
    pub fn post(&self, post: &Post) -> Answer {
        self.try_post(post).unwrap_or_else(|error| panic!("{error}: {post:?}"))
    }

    /// Asks for something.
    pub fn get(&self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
        exchange(self.address, request.as_bytes()).expect("an answer")
    }

    /// How many charges the gateway reports; its log must say the same.
    pub fn count(&self) -> u64 {
        let count = self.get("/gateway").json()["count"].as_u64().expect("a count");
        let logged = entries(&self.log).iter().filter(|entry| entry.get("charge").is_some()).count();
        assert_eq!(count, logged as u64);
        count
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    /// SIGSTOP, and waits until it has stopped.
    pub fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).expect("signalled");
        let (_, status) = waitpid(Some(self.pid()), WaitOptions::UNTRACED).expect("waited").expect("a change");
        assert!(status.stopped(), "{status:?}");
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).expect("signalled");
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).expect("signalled");
    }

    /// SIGABRT: what `abort` does, from outside.
    pub fn abort(&self) {
        kill_process(self.pid(), Signal::ABORT).expect("signalled");
    }

    /// SIGKILL, and does not wait.
    pub fn strike(&self) {
        kill_process(self.pid(), Signal::KILL).expect("signalled");
    }

    /// Waits until it has ended.
    pub fn ended(mut self) -> ExitStatus {
        self.wait_for_end()
    }

    /// Waits until it has ended, and keeps what it printed.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("waited").is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
