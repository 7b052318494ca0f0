//! Services of other languages, as the guide shows them, behind the proxy.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::bed::{Proxy, TRUSTING};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn behind(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proxy/behind").join(file)
}

/// Both ways of a response: with a length, and in chunks.
fn charges_once(service: &mut Command) {
    let child = service.stdout(Stdio::piped()).spawn();
    let mut service =
        Running(child.unwrap_or_else(|error| panic!("{service:?}: {error}; install it, as scripts/test does")));
    let mut address = String::new();
    BufReader::new(service.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let proxy = Proxy::start(address.trim().parse().unwrap(), TRUSTING);
    for (key, body) in [("a", "charge 1"), ("a", "charge 1"), ("b", "charge 2"), ("a", "charge 1")] {
        let response = proxy.pay("/payments", key);
        assert_eq!((response.status(), &*response.body), (201, body));
    }
}

#[test]
fn a_service_in_python_charges_once() {
    charges_once(Command::new("python3").arg(behind("service.py")));
}

#[test]
fn a_service_in_node_charges_once() {
    charges_once(Command::new("node").arg(behind("service.js")));
}

#[test]
fn a_service_in_go_charges_once() {
    let folder = TempDir::new().unwrap();
    let mut go = Command::new("go");
    go.args(["build", "-o", "service"]).arg(behind("service.go")).current_dir(&folder);
    let built = go.env("GOCACHE", folder.path().join("cache")).env("GO111MODULE", "off").status();
    assert!(built.unwrap_or_else(|error| panic!("go: {error}; install it, as scripts/test does")).success());
    charges_once(&mut Command::new(folder.path().join("service")));
}

#[test]
fn the_guide_shows_the_service_that_is_tested() {
    let guide = include_str!("../../../src/guide/proxy.md");
    assert!(guide.contains(&format!("```python\n{}```", include_str!("behind/service.py"))));
}

/// Whether each of these is in the text, and the first that is not.
#[track_caller]
fn has(text: &str, lines: &[&str]) {
    let missing = lines.iter().find(|line| !text.lines().any(|found| found == **line));
    assert_eq!(missing, None);
}

#[test]
fn the_container_has_no_shell_no_root_and_no_tag_that_moves() {
    let text = include_str!("../../deploy/Dockerfile");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let froms: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert!(froms.len() == 2 && froms.iter().all(|from| from.contains(':') && !from.contains(":latest")), "{froms:?}");
    assert!(froms[1].contains("distroless"), "{froms:?}");
    has(text, &["USER 65532:65532", "ENTRYPOINT [\"/usr/local/bin/idempotency\", \"proxy\"]", "WORKDIR /source"]);
    has(text, &["RUN cargo build --profile dist --locked --package idempotency"]);
    let after_user = lines.iter().skip_while(|line| !line.starts_with("USER "));
    assert!(!after_user.clone().any(|line| line.starts_with("RUN") || line.starts_with("ADD")), "{lines:?}");
}

#[test]
fn the_unit_stops_later_than_the_drain_and_reloads_by_sighup() {
    let text = include_str!("../../deploy/idempotency-proxy.service");
    let check = "ExecStartPre=/usr/local/bin/idempotency proxy --config /etc/idempotency/proxy.toml --check";
    has(text, &["ExecReload=/bin/kill -HUP $MAINPID", "TimeoutStopSec=35", "DynamicUser=yes", check]);
}
