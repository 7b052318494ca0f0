//! The service of a row, as it runs for one scenario.

use std::net::SocketAddr;
use std::process::Command;

use crate::Failure;
use crate::cores::Cores;
use crate::load::{Keys, Load};
use crate::peers::{Peers, Restate};
use crate::process::{Process, bound};
use crate::stores::{Kind, Place};

/// Paused while it is not its turn: some of them poll.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) process: Process,
    /// In front of it, where that takes the requests.
    restate: Option<Restate>,
    address: SocketAddr,
}

impl Service {
    pub(crate) fn start(
        row: &str,
        scenario: &str,
        place: &Place,
        peers: &Peers,
        cores: &Cores,
    ) -> Result<Self, Failure> {
        let mut command = command(row, scenario, place, peers)?;
        let (process, address) = cores.for_service(|| Process::serving(&mut command))?;
        if place.kind != Kind::Restate {
            return Ok(Self { process, restate: None, address });
        }
        let restate = cores.for_stores(|| Restate::start(peers, &place.path, address))?;
        let address = restate.ingress;
        Ok(Self { process, restate: Some(restate), address })
    }

    pub(crate) fn load(&self, path: &str, keys: Keys, connections: usize) -> Load {
        let path = match &self.restate {
            Some(_) => Restate::path(path),
            None => path.to_owned(),
        };
        Load { server: self.address, path, keys, connections }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nanoseconds on a CPU so far, of the server in front of it.
    pub(crate) fn front_cpu_nanos(&self) -> Option<u64> {
        self.restate.as_ref().map(|restate| restate.process.cpu_nanos())
    }

    fn all(&self) -> impl Iterator<Item = &Process> {
        self.restate.iter().map(|restate| &restate.process).chain([&self.process])
    }

    pub(crate) fn pause(&self) {
        self.all().for_each(Process::pause);
    }

    pub(crate) fn go_on(&self) {
        self.all().for_each(Process::go_on);
    }
}

fn command(row: &str, scenario: &str, place: &Place, peers: &Peers) -> Result<Command, Failure> {
    let mut command = match row {
        "dbos" => bound(peers.program("dbos")?)?,
        "restate" => return bound(peers.program("restate")?),
        _ if row.starts_with("durare") => bound(peers.program("durare")?)?,
        _ => {
            let mut ours = bound(std::env::current_exe()?)?;
            ours.args(["serve", row, scenario]);
            ours
        }
    };
    let creates = if matches!(row, "ours-postgres" | "deferred-postgres") { "?create_schema=true" } else { "" };
    command.arg(format!("{}{creates}", place.url));
    if row == "durare-normal" {
        command.arg("normal");
    }
    Ok(command)
}
