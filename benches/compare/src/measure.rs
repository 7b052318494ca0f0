//! Rounds: all rows of a scenario take turns.

use std::path::Path;
use std::time::{Duration, Instant};

use bench_report::{ROWS, Row, Run, Sample, Scenario};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::cores::Cores;
use crate::load::{Keys, Seen, number};
use crate::peers::Peers;
use crate::serve::KEPT;
use crate::service::Service;
use crate::stores::{Kind, Stores};

pub(crate) const CONNECTIONS: usize = 32;
const DUPLICATES: usize = 64;
const MANY: u64 = 10_000;

/// All that a measurement needs.
pub(crate) struct Bench {
    pub(crate) runtime: Runtime,
    pub(crate) cores: Cores,
    pub(crate) stores: Stores,
    pub(crate) peers: Peers,
    pub(crate) slice: Duration,
    pub(crate) rounds: usize,
    /// Which of the rows, or all.
    pub(crate) rows: Vec<String>,
}

/// One that takes part.
struct Turn {
    row: &'static Row,
    kind: Kind,
    service: Service,
}

impl Bench {
    pub(crate) fn wants(&self, row: &Row) -> bool {
        self.rows.is_empty() || self.rows.iter().any(|wanted| wanted == row.id)
    }

    /// The rounds of a scenario that the run does not have yet. Keeps each at `path`.
    pub(crate) fn scenario(&self, scenario: &Scenario, run: &mut Run, path: &Path) -> Result<(), Failure> {
        let takes_part =
            |row: &&Row| row.scenarios.contains(&scenario.id) && self.wants(row) && !run.is_skipped(row.id);
        let rows: Vec<_> = ROWS.iter().filter(takes_part).collect();
        let wanted: Vec<_> = rows.iter().map(|row| row.id).collect();
        if wanted.is_empty() || run.rounds(scenario.id, &wanted) >= self.rounds {
            return Ok(());
        }
        let mut turns = Vec::new();
        for row in rows {
            match self.start(row, scenario.id) {
                Ok(turn) => turns.push(turn),
                Err(error) => {
                    eprintln!("not measured, {}: {error}", row.title);
                    run.skip(row.id, &error.to_string());
                }
            }
        }
        let rows: Vec<_> = turns.iter().map(|turn| turn.row.id).collect();
        for round in run.rounds(scenario.id, &rows)..self.rounds {
            eprint!("{}, round {} of {}:", scenario.id, round + 1, self.rounds);
            for turn in &turns {
                let sample = self.slice(turn, scenario.id, round)?;
                eprint!(" {} {:.0}", turn.row.id, sample.rate());
                run.samples.push(sample);
            }
            eprintln!();
            run.save(path)?;
        }
        drop(turns);
        self.stores.clear()
    }

    fn start(&self, row: &'static Row, scenario: &str) -> Result<Turn, Failure> {
        let kind = Kind::of(row.id);
        let place = self.stores.fresh(kind, &self.cores)?;
        let service = Service::start(row.id, scenario, &place, &self.peers, &self.cores)?;
        let turn = Turn { row, kind, service };
        self.warm_up(&turn, scenario)?;
        turn.service.pause();
        Ok(turn)
    }

    fn warm_up(&self, turn: &Turn, scenario: &str) -> Result<(), Failure> {
        let service = &turn.service;
        let load = |keys, connections| service.load(path(scenario), keys, connections);
        match scenario {
            // One alone stores the answer that all others replay.
            "replay" => load(Keys::One, 1).count(&self.runtime, 1)?,
            "replay-10k" => load(Keys::Each(MANY), CONNECTIONS).count(&self.runtime, MANY)?,
            "hundred-steps" => load(Keys::Fresh, 1).count(&self.runtime, 2)?,
            "duplicates" => load(Keys::Fresh, 1).count(&self.runtime, 2)?,
            "first" if turn.kind == Kind::Process => {
                load(Keys::Fresh, CONNECTIONS).count(&self.runtime, KEPT as u64 * 6 / 5)?
            }
            _ => load(keys(scenario), CONNECTIONS).count(&self.runtime, 300)?,
        };
        self.wait_for_the_rest(service, scenario, 300)
    }

    /// Where operations are done later: until that many more are.
    fn wait_for_the_rest(&self, service: &Service, scenario: &str, done: u64) -> Result<(), Failure> {
        let end = Instant::now() + Duration::from_secs(120);
        while scenario == "background" && self.runs(service)? < done {
            if Instant::now() > end {
                return Err("accepted operations are not done after two minutes".into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn runs(&self, service: &Service) -> Result<u64, Failure> {
        number(&self.runtime, service.address(), "/runs")
    }

    fn slice(&self, turn: &Turn, scenario: &str, round: usize) -> Result<Sample, Failure> {
        let Turn { row, kind, service } = turn;
        service.go_on();
        let store_nanos = || service.front_cpu_nanos().or_else(|| self.stores.cpu_nanos(*kind));
        let (service_before, store_before) = (service.process.cpu_nanos(), store_nanos());
        let (seen, runs) = match scenario {
            "duplicates" => self.duplicates(service)?,
            "background" => (self.background(service)?, None),
            _ => (service.load(path(scenario), keys(scenario), CONNECTIONS).run(&self.runtime, self.slice)?, None),
        };
        let micros = |before: u64, after: u64| (after - before) as f64 / 1e3 / seen.requests as f64;
        let sample = Sample {
            scenario: scenario.to_owned(),
            row: row.id.to_owned(),
            round,
            requests: seen.requests,
            seconds: seen.seconds,
            p50: seen.p50,
            p99: seen.p99,
            cpu: micros(service_before, service.process.cpu_nanos()),
            store_cpu: store_before.zip(store_nanos()).map(|(before, after)| micros(before, after.max(before))),
            runs,
        };
        service.pause();
        Ok(sample)
    }

    fn duplicates(&self, service: &Service) -> Result<(Seen, Option<f64>), Failure> {
        let before = self.runs(service)?;
        let (seen, keys) = service.load("/charge", Keys::Fresh, DUPLICATES).bursts(&self.runtime, self.slice)?;
        let runs = (self.runs(service)? - before) as f64 / keys as f64;
        Ok((seen, Some(runs)))
    }

    /// The clock stops when the last one is done; what the quantiles tell is the accepting.
    fn background(&self, service: &Service) -> Result<Seen, Failure> {
        let (before, begin) = (self.runs(service)?, Instant::now());
        let accepted = service.load("/later", Keys::Fresh, CONNECTIONS).run(&self.runtime, self.slice)?;
        self.wait_for_the_rest(service, "background", before + accepted.requests)?;
        Ok(Seen { seconds: begin.elapsed().as_secs_f64(), ..accepted })
    }
}

pub(crate) fn path(scenario: &str) -> &'static str {
    match scenario {
        "three-steps" => "/three-steps",
        "hundred-steps" => "/hundred-steps",
        "background" => "/later",
        _ => "/charge",
    }
}

fn keys(scenario: &str) -> Keys {
    match scenario {
        "no-key" => Keys::None,
        "replay" => Keys::One,
        "replay-10k" => Keys::OneOf(MANY),
        _ => Keys::Fresh,
    }
}
