//! What the hot paths cost, in instructions: a figure that no other load on the
//! machine can move.
//!
//! ```text
//! cargo run --release -p instructions              holds the code against figures.txt
//! cargo run --release -p instructions -- --write   writes figures.txt anew
//! ```
//!
//! Each scenario runs under `valgrind --tool=callgrind`, with few and with many
//! rounds; the difference by the rounds is what one costs, without start-up.
//! Valgrind hides the processor's SHA instructions, and SHA-256 in software would
//! drown everything else: what the hash's own functions cost is taken out, and
//! told beside it as blocks of 64 bytes hashed. Beside that, how often each allocates.
//!
//! A figure that is off by more than 3 %, up or down, is an error: what became
//! dearer has to be meant, and what became cheaper has to be kept. Two runs of the
//! same build are within 1 % of each other: the seeds of hash tables, and the
//! clock. Blocks and allocations are exact. System calls count as nothing here; `overhead` shows their time.
//! For a call to a server that leaves what is done in this process: a private one replies.

mod callgrind;
mod figures;
mod scenario;
mod servers;

use std::process::ExitCode;
use std::thread;

use crate::callgrind::Cost;
use crate::figures::{Figures, Row};
use crate::scenario::{SELDOM, Scenario};
use crate::servers::Servers;

/// Few rounds, and many. The fewer warm up what grows: tables, the allocator.
const ROUNDS: [u32; 2] = [200, 1200];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [] => check(),
        ["--write"] => write(),
        // What callgrind runs.
        ["scenario", name, rounds] => run(name, rounds).map(|()| true),
        _ => Err("usage: instructions [--write]".into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(name: &str, rounds: &str) -> Result<(), String> {
    let scenario = Scenario::named(name).ok_or_else(|| format!("there is no scenario {name}"))?;
    scenario.run(rounds.parse().map_err(|_| format!("{rounds} is no number of rounds"))?);
    Ok(())
}

fn check() -> Result<bool, String> {
    Figures::read()?.hold(&measure()?)
}

fn write() -> Result<bool, String> {
    let rows = measure()?;
    let before = Figures::read().map(|figures| figures.rows).unwrap_or_default();
    Figures::write(&rows, &before)?;
    Ok(true)
}

/// Every row, from the scenarios that it is made of.
fn measure() -> Result<Vec<Row>, String> {
    let mut costs = Vec::new();
    let servers = &Servers::start()?;
    // Two at a time: CI has two cores.
    for pair in Scenario::ALL.chunks(2) {
        let measured: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = pair.iter().map(|scenario| scope.spawn(|| per_round(*scenario, servers))).collect();
            running.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        for cost in measured {
            costs.push(cost.map_err(|_| "a measurement panicked")??);
        }
    }
    let of = |wanted: Scenario| {
        let at = Scenario::ALL.iter().position(|scenario| *scenario == wanted).unwrap_or_default();
        costs[at]
    };
    // Ten blocks more to hash, and next to nothing else.
    let block = (of(Scenario::LongFingerprint).hashing - of(Scenario::Fingerprint).hashing) / 10.0;
    let row =
        |name: &'static str, cost: Cost| Row::new(name, cost.instructions, cost.hashing / block, cost.allocations);
    let [nothing, bare] = [of(Scenario::Nothing), of(Scenario::Bare)];
    Ok(vec![
        row("first-request", of(Scenario::First) - bare),
        row("replay", of(Scenario::Replay) - bare),
        row("unguarded-request", of(Scenario::Unguarded) - bare),
        row("client", of(Scenario::Client) - bare),
        row("step", (of(Scenario::Steps) - of(Scenario::NoSteps)) / 10.0),
        row("pay", (of(Scenario::Pays) - of(Scenario::NoSteps)) / 10.0),
        row("record-encode", of(Scenario::Encode) - nothing),
        row("record-decode", of(Scenario::Decode) - nothing),
        row("key", of(Scenario::Key) - nothing),
        row("fingerprint-200-bytes", of(Scenario::Fingerprint) - nothing),
        row("fingerprint-4-KiB", of(Scenario::Fingerprint4KiB) - nothing),
        row("fingerprint-64-KiB", of(Scenario::Fingerprint64KiB) / (1.0 / f64::from(SELDOM))),
        row("memory-store-swap", of(Scenario::MemorySwap) - nothing),
        row("memory-store-load", of(Scenario::MemoryLoad) - nothing),
        row("memory-store-poll", of(Scenario::MemoryPoll) - nothing),
        row("redis-swap", of(Scenario::RedisSwap) - nothing),
        row("redis-load", of(Scenario::RedisLoad) - nothing),
        row("postgres-swap", of(Scenario::PostgresSwap) - nothing),
        row("postgres-load", of(Scenario::PostgresLoad) - nothing),
        row("canonical-json-4-KiB", (of(Scenario::CanonicalJson) - nothing) / 2.0),
    ])
}

fn per_round(scenario: Scenario, servers: &Servers) -> Result<Cost, String> {
    let [few, many] = ROUNDS;
    let cost = callgrind::cost(scenario, many, servers)? - callgrind::cost(scenario, few, servers)?;
    Ok(cost / f64::from(many - few))
}
