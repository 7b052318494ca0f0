//! What the SQLite store costs, beside the bare minimum, the store that it replaced,
//! and durare on SQLite.
//!
//! ```text
//! cargo run --release --manifest-path benches/compare/Cargo.toml -- --seconds 60
//! cargo run --release --manifest-path benches/compare/Cargo.toml -- --records 1000000
//! cargo run --release --manifest-path benches/compare/Cargo.toml -- --churn 1000000
//! ```
//!
//! Rounds of all variants alternate, so that a noisy machine is noisy for all of
//! them. Printed are the medians of the ratios within each round, with the extremes.
//! `--rounds N` for more or fewer than nine; `--writes` leaves out what goes over
//! sockets, which builds an earlier commit of this repository and durare first.

mod many;
mod servers;
mod three_steps;
mod writes;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use tokio::runtime::Runtime;
use tower_idempotency::store::SqliteStore;

use self::servers::Server;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

const CONNECTIONS: usize = 32;

#[derive(Default)]
struct Options {
    seconds: Option<f64>,
    rounds: Option<u32>,
    only_writes: bool,
    records: Option<usize>,
    churn: Option<usize>,
    /// What a child is to do.
    words: Vec<OsString>,
}

impl Options {
    fn read() -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("seconds") => options.seconds = Some(arguments.value()?.parse()?),
                Long("rounds") => options.rounds = Some(arguments.value()?.parse()?),
                Long("writes") => options.only_writes = true,
                Long("records") => options.records = Some(arguments.value()?.parse()?),
                Long("churn") => options.churn = Some(arguments.value()?.parse()?),
                Value(word) => options.words.push(word),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }
}

fn main() -> Result<(), Failure> {
    let options = Options::read()?;
    match options.words.as_slice() {
        [] => {}
        [what, ..] if what == "serve" => return three_steps::main(),
        [what, path, count] => {
            let count = count.to_str().ok_or("no number")?.parse()?;
            return many::run(&runtime()?, what.to_str().ok_or("no word")?, path.as_ref(), count);
        }
        other => return Err(format!("what is {other:?}?").into()),
    }
    let directory = Directory::new()?;
    match (options.records, options.churn) {
        (Some(count), _) => many::records(&directory.0, count),
        (_, Some(count)) => many::churn(&runtime()?, &directory.0, count),
        _ => table(&options, &directory),
    }
}

fn runtime() -> Result<Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// What all rounds saw.
#[derive(Default)]
struct Seen {
    writes: usize,
    requests: usize,
    many: Vec<f64>,
    many_p99: Vec<f64>,
    bare: Vec<f64>,
    one: Vec<f64>,
    bare_one: Vec<f64>,
    ours: Vec<f64>,
    old: Vec<f64>,
    durare: Vec<f64>,
    durare_normal: Vec<f64>,
}

/// Those that could be built.
struct Servers {
    ours: Server,
    old: Option<Server>,
    durare: Option<Server>,
    durare_normal: Option<Server>,
}

impl Servers {
    fn start(directory: &Directory) -> Result<Self, Failure> {
        let there = |what: &str, server: Result<Server, Failure>| {
            server.inspect_err(|error| eprintln!("not measured, {what}: {error}")).ok()
        };
        Ok(Self {
            ours: servers::ours(&directory.0)?,
            old: there("the store before this one", servers::old(&directory.0)),
            durare: there("durare", servers::durare(&directory.0, "full")),
            durare_normal: there("durare", servers::durare(&directory.0, "normal")),
        })
    }
}

fn table(options: &Options, directory: &Directory) -> Result<(), Failure> {
    let rounds = options.rounds.unwrap_or(9).max(1);
    let servers = if options.only_writes { None } else { Some(Servers::start(directory)?) };
    let slices = if options.only_writes { 4 } else { 8 };
    let slice = Duration::from_secs_f64(options.seconds.unwrap_or(60.0) / f64::from(slices * rounds));
    let runtime = runtime()?;
    let store = SqliteStore::open(directory.0.join("writes.db"))?;
    let bare = writes::Bare::open(&directory.0.join("bare"))?;
    let mut seen = Seen::default();
    for _ in 0..rounds {
        let many = writes::busy(&runtime, &store, 64, slice)?;
        seen.bare.push(writes::busy(&runtime, &bare, 64, slice)?.per_second);
        let one = writes::busy(&runtime, &store, 1, slice)?;
        seen.bare_one.push(writes::busy(&runtime, &bare, 1, slice)?.p50);
        seen.writes += many.writes + one.writes;
        seen.many.push(many.per_second);
        seen.many_p99.push(many.p99);
        seen.one.push(one.p50);
        if let Some(servers) = &servers {
            let mut load = |server: Option<&Server>, into: fn(&mut Seen) -> &mut Vec<f64>| {
                let Some(server) = server else { return Ok(()) };
                let (requests, rate) = server.load(CONNECTIONS, slice)?;
                seen.requests += requests;
                into(&mut seen).push(rate);
                Ok::<_, Failure>(())
            };
            load(Some(&servers.ours), |seen| &mut seen.ours)?;
            load(servers.old.as_ref(), |seen| &mut seen.old)?;
            load(servers.durare.as_ref(), |seen| &mut seen.durare)?;
            load(servers.durare_normal.as_ref(), |seen| &mut seen.durare_normal)?;
        }
    }
    seen.print(rounds);
    Ok(())
}

impl Seen {
    fn print(self, rounds: u32) {
        // Of the same round: what disturbs it disturbs both.
        let against = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one / other).collect();
        println!("{rounds} rounds, {} writes, {} requests; medians and extremes\n", self.writes, self.requests);
        println!("{:<52}{:>9}   {:<22}{:<10}better", "", "median", "extremes", "bar");
        row("64 writers : shared append + fdatasync", against(&self.many, &self.bare), "0.27", "0.35");
        row("one writer, p50 : append + fdatasync", against(&self.one, &self.bare_one), "1.3 ×", "1.0 ×");
        row("three steps over HTTP : the old store", against(&self.ours, &self.old), "0.65", "0.9");
        row("the same : on durare, synchronous = FULL", against(&self.ours, &self.durare), "4 ×", "7 ×");
        row("the same : on durare, its default, NORMAL", against(&self.ours, &self.durare_normal), "", "");
        let p99 = self.many_p99.iter().map(|micros| micros / 1e3).collect();
        row("64 writers, p99 of a write, ms", p99, "5", "3");
        println!();
        row("64 writers, writes a second", self.many, "", "");
        row("shared append + fdatasync, writes a second", self.bare, "", "");
        row("one writer, p50, µs", self.one, "", "");
        row("append + fdatasync, p50, µs", self.bare_one, "", "");
        row("three steps, requests a second, ours", self.ours, "", "");
        row("the old store", self.old, "", "");
        row("durare, synchronous = FULL", self.durare, "", "");
        row("durare, synchronous = NORMAL", self.durare_normal, "", "");
    }
}

fn row(what: &str, mut figures: Vec<f64>, bar: &str, better: &str) {
    figures.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (figures.first(), figures.last()) else { return };
    let digits = if *most >= 100.0 { 0 } else { 2 };
    let extremes = format!("{least:.digits$} to {most:.digits$}");
    println!("{what:<52}{:>9.digits$}   {extremes:<22}{bar:<10}{better}", figures[figures.len() / 2]);
}

/// Next to the build, where the disk is, and gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self, Failure> {
        let target = std::env::current_exe()?.parent().ok_or("no directory")?.to_owned();
        let path = target.join(format!("compare-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
