//! One server process: found, started, waited for, and ended with its guard.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to start or stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where `name` is: on the path, or in one of `folders`.
///
/// # Panics
///
/// If it is nowhere; the message says which Debian package brings it.
pub fn program(name: &str, folders: &[PathBuf], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain(folders.iter().cloned()).map(|folder| folder.join(name));
    let found = found.into_iter().find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("missing: {name}; install it (Debian: apt-get install {package})"))
}

/// A port of 127.0.0.1 that is free.
///
/// Below those that the system gives to connections, or one of them might take it before
/// the server does, or while that is restarted; and no process begins where another does.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    let draw = || start.wrapping_add(DRAWN.fetch_add(1, Ordering::Relaxed)) % COUNT;
    let mut ports = (0..COUNT).map(|_| u16::try_from(FIRST + draw()).expect("a port"));
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).expect("a free port")
}

/// Asks `ready` again and again, until it says yes.
///
/// # Panics
///
/// If it takes too long; the message says what was waited for.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that ends with its guard.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it; what it prints goes to `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let output = std::fs::File::options().create(true).append(true).open(log).expect("a log file");
        let errors = output.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?} does not start: {error}")) }
    }

    /// Sends it a signal: `STOP` pauses it, `CONT` lets it go on.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("it is our child and not yet waited for");
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processes it started, as Linux tells.
    pub fn children(&self) -> Vec<Pid> {
        let parent = self.child.id().to_string();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let is_child = |folder: &Path| {
            // After the name, which may contain anything: state, parent.
            let stat = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.split_whitespace().nth(1) == Some(&parent))
        };
        let children = processes.filter(|entry| is_child(&entry.path()));
        children.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// Nanoseconds on a CPU so far: its first thread's, and those of its
    /// children that still run.
    pub fn cpu_nanos(&self) -> u64 {
        let all = self.children().into_iter().chain(Pid::from_raw(self.child.id().cast_signed()));
        let schedstat = |pid: Pid| std::fs::read_to_string(format!("/proc/{}/schedstat", pid.as_raw_nonzero())).ok();
        all.filter_map(|pid| schedstat(pid)?.split(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end and waits until it did.
    pub fn stop(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::TERM);
            wait_until("a server to stop", || self.has_ended());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
