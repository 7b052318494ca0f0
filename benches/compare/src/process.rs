//! A process that prints its address and serves until it is killed.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::Failure;

/// A command that ends with this process, however that ends. An interrupt from the terminal
/// alone would not do: it waits for as long as a process is paused.
pub(crate) fn bound(program: impl AsRef<OsStr>) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bound").arg(program);
    Ok(command)
}

/// Becomes the program that is the first of these words, which is killed when its parent ends.
pub(crate) fn ends_with_its_parent(words: &[String]) -> Result<(), Failure> {
    let [program, arguments @ ..] = words else { return Err("a program is needed".into()) };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Err(Command::new(program).args(arguments).exec().into())
}

/// Ends with this value.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        let child = command.stdin(Stdio::null()).spawn().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(Self(child))
    }

    /// The address that is its first line.
    pub(crate) fn serving(command: &mut Command) -> Result<(Self, SocketAddr), Failure> {
        let mut process = Self::start(command.stdout(Stdio::piped()))?;
        let mut line = String::new();
        let output = process.0.stdout.take().ok_or("no output")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| format!("{command:?} did not start"))?;
        Ok((process, address))
    }

    /// Nanoseconds on a CPU so far, of those of its threads that still run.
    pub(crate) fn cpu_nanos(&self) -> u64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).into_iter().flatten().flatten();
        let nanos = |thread: std::fs::DirEntry| {
            let schedstat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            schedstat.split(' ').next()?.parse::<u64>().ok()
        };
        threads.filter_map(nanos).sum()
    }

    /// Bytes of memory it has.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Nothing of it runs until it goes on.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // It may have ended; its next request says so.
        let _ = kill_process(Pid::from_child(&self.0), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
