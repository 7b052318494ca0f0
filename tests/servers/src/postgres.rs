//! A private Postgres, and standbys of it.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Process, free_port, program, wait_until};

/// Who everything belongs to inside: a superuser who needs no password.
const SUPERUSER: &str = "postgres";

/// A Postgres of this test's own, gone with this value.
#[derive(Debug)]
pub struct Postgres {
    // Before the folder: it ends first.
    server: Option<Process>,
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Postgres {
    /// A fresh server with the settings Postgres comes with.
    ///
    /// # Panics
    ///
    /// If Postgres is not installed, or does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// A fresh server with these settings, each `name=value`.
    pub fn start_with(settings: &[&str]) -> Self {
        let mut server = Self::stopped(settings.iter().map(|&setting| setting.to_owned()).collect());
        let mut initdb = server.command("initdb");
        initdb.args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username", SUPERUSER, "-D"]);
        run(initdb.arg(server.data()));
        server.start_again();
        server
    }

    /// One server for all tests of this process, which ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<(Postgres, Child)> = OnceLock::new();
        let (server, _) = SHARED.get_or_init(|| {
            let server = Self::start();
            let undertaker = server.bury();
            (server, undertaker)
        });
        server
    }

    /// Nothing in a `static` is ever dropped. This child sees its input end
    /// when we do, and ends the server.
    fn bury(&self) -> Child {
        let id = self.server.as_ref().expect("it runs").id().to_string();
        let script = "read _; kill -QUIT $0; sleep 1; rm -rf \"$1\"";
        let mut undertaker = Command::new("sh");
        undertaker.args(["-c", script, &id]).arg(self.folder.path()).stdin(Stdio::piped());
        undertaker.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh starts")
    }

    fn stopped(settings: Vec<String>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        give_away(folder.path());
        Self { server: None, folder, port: free_port(), settings, environment: Vec::new() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A program of Postgres, run as somebody who is not root: it refuses that.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(program(name, &folders(), "postgresql"));
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        unprivileged(&mut command);
        command
    }

    /// The port of 127.0.0.1 it listens at; the same after every restart.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its superuser and its first database.
    pub fn url(&self) -> String {
        self.url_of(SUPERUSER, "postgres")
    }

    /// The URL of another role or database. Nobody needs a password.
    pub fn url_of(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a database, and says its URL.
    pub fn database(&self, name: &str) -> String {
        self.sql(&format!("CREATE DATABASE \"{name}\""));
        self.url_of(SUPERUSER, name)
    }

    /// Runs SQL as the superuser, and gives what it printed: one line for a
    /// row, `|` between its columns.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    /// As [`sql`](Self::sql), in another database.
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }

    fn psql(&self, database: &str, sql: &str) -> Output {
        let mut psql = self.command("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, &self.url_of(SUPERUSER, database)]);
        psql.output().expect("psql starts")
    }

    /// Starts the stopped server again: same port, same data.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs");
        wait_until("Postgres to start", || {
            if self.server.as_mut().is_none_or(Process::has_ended) {
                // After a kill, the ends of its children have to come first.
                self.server = Some(self.launch());
            }
            self.psql("postgres", "SELECT 1").status.success()
        });
    }

    fn launch(&self) -> Process {
        let mut postgres = self.command("postgres");
        postgres.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        postgres.envs(self.environment.iter().cloned());
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]);
        for setting in &self.settings {
            postgres.args(["-c", setting]);
        }
        Process::start(&mut postgres, &self.log())
    }

    /// Where its log is.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Changes a setting, `name=value`, for this start and the next ones.
    pub fn set(&mut self, setting: &str) {
        let name = setting.split_once('=').expect("name=value").0;
        self.settings.retain(|old| old.split_once('=').is_none_or(|(old, _)| old != name));
        self.settings.push(setting.to_owned());
    }

    /// Adds to its environment, from its next start on.
    pub fn set_environment(&mut self, variables: Vec<(String, String)>) {
        self.environment = variables;
    }

    /// Stops it as an administrator would: connections are cut, nothing lost.
    pub fn stop(&mut self) {
        self.end_with(Signal::INT);
    }

    /// Stops it as if it had crashed: the next start recovers.
    pub fn stop_at_once(&mut self) {
        self.end_with(Signal::QUIT);
    }

    /// Kills it with SIGKILL: the next start recovers.
    pub fn kill(&mut self) {
        self.end_with(Signal::KILL);
    }

    /// Kills it and all its children with SIGKILL at once: what none of them has
    /// handed to the kernel is lost, as with a machine that fails.
    pub fn kill_all(&mut self) {
        let children = self.server.as_ref().expect("it runs").children();
        for child in children {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        self.kill();
    }

    /// Nanoseconds on a CPU so far, of the server and of those of its children
    /// that still run.
    pub fn cpu_nanos(&self) -> u64 {
        self.server.as_ref().expect("it runs").cpu_nanos()
    }

    /// Sends a signal to the server and all its children: `STOP` pauses it,
    /// `CONT` lets it go on.
    pub fn signal_all(&self, signal: Signal) {
        let server = self.server.as_ref().expect("it runs");
        server.signal(signal);
        for child in server.children() {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(child, signal);
        }
    }

    fn end_with(&mut self, signal: Signal) {
        let Some(mut server) = self.server.take() else { return };
        server.signal(signal);
        wait_until("Postgres to end", || server.has_ended());
    }

    /// Restarts it, as an administrator would.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    /// A standby that follows this server by streaming, read-only until it is
    /// [promoted](Self::promote). To its primary it is called `standby`.
    pub fn standby(&self) -> Self {
        let mut standby = Self::stopped(vec!["cluster_name=standby".to_owned()]);
        let mut copy = standby.command("pg_basebackup");
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync", "-d"]);
        run(copy.arg(self.url()).arg("-D").arg(standby.data()));
        standby.start_again();
        wait_until("the standby to stream", || {
            self.sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") != "0"
        });
        standby
    }

    /// A server of its own that begins with what this one has now, as one that
    /// is restored from a backup.
    pub fn restored(&self) -> Self {
        let mut restored = Self::stopped(Vec::new());
        let mut copy = restored.command("pg_basebackup");
        copy.args(["--wal-method=stream", "--checkpoint=fast", "--no-sync", "-d"]);
        run(copy.arg(self.url()).arg("-D").arg(restored.data()));
        restored.start_again();
        restored
    }

    /// Waits until `standby` has all that this server has.
    pub fn wait_for(&self, standby: &Self) {
        let here = self.sql("SELECT pg_current_wal_lsn()");
        wait_until("the standby to catch up", || {
            standby.sql(&format!("SELECT pg_last_wal_replay_lsn() >= '{here}'")) == "t"
        });
    }

    /// Promotes a standby that has all that this server has. This one stays up, and takes no more
    /// writes: its sessions that are open were told, too.
    pub fn fail_over(&self) -> Self {
        let standby = self.standby();
        self.wait_for(&standby);
        standby.promote();
        self.sql("ALTER SYSTEM SET default_transaction_read_only = on");
        self.sql("SELECT pg_reload_conf()");
        wait_until("it to be read-only", || self.sql("SHOW default_transaction_read_only") == "on");
        standby
    }

    /// Makes a primary of a standby.
    pub fn promote(&self) {
        assert_eq!(self.sql("SELECT pg_promote()"), "t", "it was promoted");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The guard kills it; waiting could panic once more.
            return;
        }
        self.stop_at_once();
    }
}

/// Where Debian, Fedora and Homebrew put the programs of a server.
fn folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders.extend(["/usr/pgsql/bin", "/opt/homebrew/opt/postgresql/bin"].map(PathBuf::from));
    folders
}

/// Lets the user that servers of Postgres run as read and write it.
///
/// # Panics
///
/// If it is not there.
pub fn give_away(folder: &Path) {
    if let Some((user, group)) = someone_else() {
        chown(folder, Some(user), Some(group)).expect("root gives its folder away");
    }
}

/// Runs it as somebody who is not root.
pub(crate) fn unprivileged(command: &mut Command) {
    if let Some((user, group)) = someone_else() {
        command.uid(user).gid(group);
    }
}

/// Whom to be instead of root: `postgres`, or else `nobody`.
fn someone_else() -> Option<(u32, u32)> {
    // Who runs this test owns its process's folder.
    if Path::new("/proc/self").metadata().map_or(1, |meta| meta.uid()) != 0 {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("root can read the list of users");
    let find = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("a user other than root"))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
