//! A private PgBouncer in front of a Postgres.

use std::fs::write;
use std::process::Command;

use tempfile::TempDir;

use crate::postgres::{Postgres, give_away, unprivileged};
use crate::process::{Process, free_port, program, wait_until};

/// A PgBouncer of this test's own, gone with this value. It pools by the
/// transaction, over very few sessions, so that clients really share them.
#[derive(Debug)]
pub struct PgBouncer {
    // Before the folder: it ends first.
    _process: Process,
    _folder: TempDir,
    port: u16,
}

impl PgBouncer {
    /// One in front of `server`, with these settings besides.
    ///
    /// # Panics
    ///
    /// If PgBouncer is not installed, or does not start.
    pub fn start(server: &Postgres, settings: &[&str]) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
        let users = folder.path().join("users");
        write(&users, "\"postgres\" \"\"\n").expect("a file");
        let file = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\ndefault_pool_size = 3\n\
             max_client_conn = 200\nignore_startup_parameters = extra_float_digits\n{}\n",
            server.port(),
            users.display(),
            settings.join("\n"),
        );
        write(&file, text).expect("a file");
        give_away(folder.path());
        let mut command = Command::new(found());
        unprivileged(&mut command);
        let log = folder.path().join("log");
        let mut process = Process::start(command.current_dir(folder.path()).arg(&file), &log);
        wait_until("PgBouncer to start", || {
            assert!(!process.has_ended(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { _process: process, _folder: folder, port }
    }

    /// The URL of the superuser and this database, by way of it.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Its version: 1.21 is (1, 21).
    pub fn version() -> (u32, u32) {
        let output = Command::new(found()).arg("--version").output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut numbers = text.split_whitespace().nth(1).unwrap_or_default().split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
            _ => panic!("no version in {text:?}"),
        }
    }
}

fn found() -> std::path::PathBuf {
    program("pgbouncer", &["/usr/sbin".into(), "/opt/homebrew/bin".into()], "pgbouncer")
}
