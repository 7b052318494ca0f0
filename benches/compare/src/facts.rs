//! What needs no rounds: round trips of a request, from accepted to done, and bytes of a key.

use std::time::Duration;

use bench_report::{ROWS, Row, Run};
use tower_idempotency::store::SqliteStore;

use crate::Failure;
use crate::load::Keys;
use crate::measure::{Bench, path};
use crate::relay::Relay;
use crate::service::Service;
use crate::stores::{Kind, Place};

/// Of so many keys.
const STORED: u64 = 30_000;
const ASKED: u64 = 200;
/// Operations that are accepted, one after another, for so long at most: some of what is compared polls.
const ACCEPTED: u32 = 500;
const PATIENCE: Duration = Duration::from_secs(3);

impl Bench {
    pub(crate) fn facts(&self, run: &mut Run) -> Result<(), Failure> {
        for row in ROWS.iter().filter(|row| self.wants(row)) {
            if run.is_skipped(row.id) {
                continue;
            }
            self.trips(row, run)?;
            self.done(row, run)?;
            self.bytes(row, run)?;
            self.stores.clear()?;
        }
        Ok(())
    }

    /// Of a first request, its replay, and of a handler with steps; one after another.
    fn trips(&self, row: &Row, run: &mut Run) -> Result<(), Failure> {
        let kind = Kind::of(row.id);
        for scenario in ["first", "replay", "three-steps", "hundred-steps"] {
            let what = format!("round trips, {scenario}");
            let is_there = matches!(kind, Kind::Redis | Kind::Postgres) && row.scenarios.contains(&scenario);
            if !is_there || run.fact(row.id, &what).is_some() {
                continue;
            }
            eprintln!("round trips of {}, {scenario}", row.id);
            let place = self.stores.fresh(kind, &self.cores)?;
            let Some(server) = self.stores.address(kind) else { continue };
            let relay = Relay::to(server)?;
            let place = place.by(server, relay.address);
            let service = Service::start(row.id, scenario, &place, &self.peers, &self.cores)?;
            let keys = if scenario == "replay" { Keys::One } else { Keys::Fresh };
            let load = service.load(path(scenario), keys, 1);
            let asked = if scenario == "hundred-steps" { ASKED / 20 } else { ASKED };
            load.count(&self.runtime, 20)?;
            let before = relay.trips();
            load.count(&self.runtime, asked)?;
            run.note(row.id, &what, (relay.trips() - before) as f64 / asked as f64);
        }
        Ok(())
    }

    /// From a request that is accepted until its operation is done, with nothing else to do.
    fn done(&self, row: &Row, run: &mut Run) -> Result<(), Failure> {
        const WHAT: [&str; 2] = ["accept to done, p50 µs", "accept to done, p99 µs"];
        if !row.scenarios.contains(&"background") || run.fact(row.id, WHAT[0]).is_some() {
            return Ok(());
        }
        eprintln!("from accept to done of {}", row.id);
        let place = self.stores.fresh(Kind::of(row.id), &self.cores)?;
        let service = Service::start(row.id, "background", &place, &self.peers, &self.cores)?;
        let load = service.load(path("background"), Keys::Fresh, 1);
        load.until_done(&self.runtime, 20, PATIENCE)?;
        let seen = load.until_done(&self.runtime, ACCEPTED, PATIENCE)?;
        for (what, figure) in WHAT.into_iter().zip([seen.p50, seen.p99]) {
            run.note(row.id, what, figure);
        }
        Ok(())
    }

    /// What a first request leaves behind.
    fn bytes(&self, row: &Row, run: &mut Run) -> Result<(), Failure> {
        const WHAT: &str = "bytes a key";
        if !row.scenarios.contains(&"replay") || row.id == "bare" || run.fact(row.id, WHAT).is_some() {
            return Ok(());
        }
        eprintln!("bytes a key of {}", row.id);
        let place = self.stores.fresh(Kind::of(row.id), &self.cores)?;
        let service = Service::start(row.id, "first", &place, &self.peers, &self.cores)?;
        let load = service.load("/charge", Keys::Fresh, 8);
        load.count(&self.runtime, 1000)?;
        let before = self.size(&service, &place)?;
        load.count(&self.runtime, STORED)?;
        let grown = if place.kind == Kind::Sqlite {
            drop(service);
            sqlite_size(&place)?
        } else {
            self.size(&service, &place)? - before
        };
        run.note(row.id, WHAT, grown as f64 / STORED as f64);
        Ok(())
    }

    fn size(&self, service: &Service, place: &Place) -> Result<u64, Failure> {
        match self.stores.size(place)? {
            Some(size) => Ok(size),
            None => service.process.resident(),
        }
    }
}

/// After an orderly end, so that nothing is in its log. Some pages are those of an empty
/// store, and of the warming up.
fn sqlite_size(place: &Place) -> Result<u64, Failure> {
    let path = place.path.with_extension("db");
    drop(SqliteStore::open(&path)?);
    Ok(std::fs::metadata(path)?.len() * STORED / (STORED + 1000))
}
