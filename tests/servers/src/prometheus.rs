//! A private Prometheus, and the program that checks rules.

use std::fs::write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Process, free_port, program, wait_until};

/// A Prometheus of this test's own, gone with this value. It scrapes one port of 127.0.0.1.
#[derive(Debug)]
pub struct Prometheus {
    // Before the folder: it ends first.
    _process: Process,
    _folder: TempDir,
    url: String,
}

impl Prometheus {
    /// One that scrapes `/metrics` of this port every so often, as job `shop`, under these
    /// rules.
    ///
    /// # Panics
    ///
    /// If Prometheus is not installed, or does not start with these rules.
    pub fn start(target: u16, every: Duration, rules: &Path) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
        let file = folder.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: {0}ms\n  scrape_timeout: {0}ms\nrule_files:\n  - {1:?}\nscrape_configs:\n  \
             - job_name: shop\n    static_configs:\n      - targets: ['127.0.0.1:{target}']\n",
            every.as_millis(),
            rules,
        );
        write(&file, text).expect("a file");
        let log = folder.path().join("log");
        let mut command = Command::new(program("prometheus", &[], "prometheus"));
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = Process::start(&mut command, &log);
        wait_until("Prometheus to start", || {
            assert!(!process.has_ended(), "{}", std::fs::read_to_string(&log).unwrap_or_default());
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { _process: process, _folder: folder, url: format!("http://127.0.0.1:{port}") }
    }

    /// What this expression gives now, as JSON: a vector, empty if there is no data.
    ///
    /// # Panics
    ///
    /// If Prometheus does not take the expression.
    pub fn query(&self, expression: &str) -> String {
        promtool(&["query", "instant", "--format=json", &self.url, expression])
    }
}

/// What `promtool` prints for these arguments.
///
/// # Panics
///
/// If it is not installed, or fails.
pub fn promtool(arguments: &[&str]) -> String {
    let output = Command::new(program("promtool", &[], "prometheus")).args(arguments).output().expect("it starts");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {text}{errors}");
    text.into_owned()
}
