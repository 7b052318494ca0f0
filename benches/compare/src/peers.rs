//! What is compared with, and can't be in this package: each has a graph of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use servers::free_port;

use crate::Failure;
use crate::load::fetch;
use crate::process::{Process, bound};

/// Built when they are first needed.
#[derive(Debug)]
pub(crate) struct Peers {
    target: PathBuf,
    built: RefCell<BTreeMap<String, PathBuf>>,
}

impl Peers {
    /// Builds go to `target`.
    pub(crate) fn in_folder(target: &Path) -> Self {
        Self { target: target.to_owned(), built: RefCell::default() }
    }

    /// The program of the package with this name.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf, Failure> {
        if let Some(built) = self.built.borrow().get(name) {
            return Ok(built.clone());
        }
        eprintln!("building {name}, the first time for some minutes");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("Cargo.toml");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]).arg(manifest);
        let status = build.arg("--target-dir").arg(&self.target).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("{name} can't be built").into());
        }
        let program = self.target.join("release").join(format!("compare-{name}"));
        self.built.borrow_mut().insert(name.to_owned(), program.clone());
        Ok(program)
    }

    /// Restate's server: what `RESTATE_SERVER` names, what the search path has, or what npm
    /// put beside the builds.
    fn restate_server(&self) -> Result<PathBuf, Failure> {
        let named = std::env::var_os("RESTATE_SERVER").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|folder| folder.join("restate-server"));
        let native = format!("restate-server-linux-{}", if cfg!(target_arch = "x86_64") { "x64" } else { "arm64" });
        let by_npm = self.target.join("restate/node_modules/@restatedev").join(native).join("bin/restate-server");
        let found = named.into_iter().chain(on_path).chain([by_npm]).find(|path| path.is_file());
        found.ok_or_else(|| {
            let folder = self.target.join("restate");
            format!("no restate-server; npm install --prefix {} @restatedev/restate-server", folder.display()).into()
        })
    }
}

/// Restate's server, in front of the endpoint that has the handlers.
#[derive(Debug)]
pub(crate) struct Restate {
    pub(crate) process: Process,
    pub(crate) ingress: SocketAddr,
}

impl Restate {
    pub(crate) fn start(peers: &Peers, folder: &Path, endpoint: SocketAddr) -> Result<Self, Failure> {
        let [node, ingress, admin] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = bound(peers.restate_server()?)?;
        command.args(["--no-logo", "--listen-mode", "tcp", "--base-dir"]).arg(folder.join("data"));
        command.args(["--bind-ip", "127.0.0.1", "--bind-port", &node.port().to_string()]);
        command.env("RESTATE_INGRESS__BIND_ADDRESS", ingress.to_string());
        command.env("RESTATE_ADMIN__BIND_ADDRESS", admin.to_string()).env("DO_NOT_TRACK", "1");
        command.env("RESTATE_DISABLE_TELEMETRY", "true").env("RUST_LOG", "warn").stdout(log.try_clone()?).stderr(log);
        let process = Process::start(&mut command)?;
        let uri = format!("{{\"uri\":\"http://{endpoint}\"}}");
        let register = format!(
            "POST /deployments HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{uri}",
            uri.len()
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match runtime.block_on(fetch(admin, &register)) {
                Ok(_) => return Ok(Self { process, ingress }),
                Err(error) if Instant::now() > end => {
                    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                    return Err(format!("Restate: {error}\n{log}").into());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    /// Where its server takes the requests of `path`.
    pub(crate) fn path(path: &str) -> String {
        format!("/Payments/{}", path.trim_start_matches('/').replace('-', "_"))
    }
}
