//! Forty tickets and one mail, and a process that dies in the middle.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use killbox::{Answer, exchange};

const PATIENCE: Duration = Duration::from_secs(60);

/// The example's program.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| killbox::example("tickets"))
}

/// A running process. Dropped, it is killed.
struct Running {
    child: Child,
    address: SocketAddr,
    /// Kept open: a closed one would end the process that prints.
    _output: BufReader<ChildStdout>,
}

impl Running {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new(program());
        command.current_dir(directory).args(["--listen", "127.0.0.1:0", "--pause", "20"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        let address =
            line.trim().strip_prefix("listening on http://").expect("an address").parse().expect("an address");
        Self { child, address, _output: output }
    }

    fn ask(&self, request: &str) -> Answer {
        let request = format!("{request}host: shop\r\nconnection: close\r\n\r\n");
        exchange(self.address, request.as_bytes()).expect("an answer")
    }

    fn order(&self, demo: &str) -> Answer {
        let head = format!("POST /orders HTTP/1.1\r\nidempotency-key: \"opera\"\r\n{demo}content-length: 2\r\n");
        let request = format!("{head}host: shop\r\nconnection: close\r\n\r\n40");
        exchange(self.address, request.as_bytes()).expect("an answer")
    }

    fn status(&self) -> serde_json::Value {
        self.ask("GET /operations/opera HTTP/1.1\r\n").json()
    }

    /// Waits until it has died by itself.
    fn died(mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("waited").is_none() {
            assert!(Instant::now() < deadline, "still running");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often each number was written after this word.
fn counted(log: &str, word: &str) -> HashMap<u32, usize> {
    let mut counts = HashMap::new();
    for line in log.lines().filter(|line| line.starts_with(word)) {
        *counts.entry(line.rsplit(' ').next().unwrap().parse().unwrap()).or_default() += 1;
    }
    counts
}

#[test]
fn a_crash_after_the_27th_ticket_redoes_thirteen_and_nobody_has_to_ask() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = || std::fs::read_to_string(directory.path().join("shop.log")).unwrap_or_default();

    let first = Running::start(directory.path());
    let accepted = first.order("x-demo: crash-after=27\r\n");
    assert_eq!((accepted.status, accepted.header("location")), (202, Some("/operations/opera")), "{accepted:?}");
    first.died();
    let saved = counted(&log(), "saved");
    assert!(saved.len() >= 27, "{saved:?}");
    assert!(saved.len() < 40, "it died before the end: {saved:?}");
    assert_eq!(counted(&log(), "mail").len(), 0);

    // No client any more: only the process is started again.
    let second = Running::start(directory.path());
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    let complete = loop {
        let status = second.status();
        if status["state"] == "complete" {
            break status;
        }
        seen.push(status["steps_done"].as_u64().expect("a number"));
        assert!(Instant::now() < deadline, "still {status}");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(seen.iter().all(|done| *done >= 27), "what was saved stays: {seen:?}");
    assert!(seen.is_sorted() && seen.first() < seen.last(), "its progress is seen while it runs: {seen:?}");
    assert_eq!((&complete["attempts"], &complete["result"]["status"]), (&2.into(), &201.into()));
    assert_eq!(complete["result"]["json"].as_array().expect("tickets").len(), 40);

    let drawn = counted(&log(), "draw");
    assert_eq!(drawn.len(), 40);
    for (ticket, times) in drawn {
        let most = if saved.contains_key(&ticket) { 1 } else { 2 };
        assert!(times <= most, "ticket {ticket} was drawn {times} times");
    }
    assert_eq!(counted(&log(), "mail"), HashMap::from([(40, 1)]), "one mail for all of them");
    let replay = second.order("");
    assert_eq!((replay.status, replay.is_replay()), (201, true));
}
