//! What the SQLite store costs, beside the bare minimum.
//!
//! ```text
//! cargo run --release --manifest-path benches/compare/Cargo.toml --bin sqlite -- --seconds 60
//! cargo run --release --manifest-path benches/compare/Cargo.toml --bin sqlite -- --records 1000000
//! cargo run --release --manifest-path benches/compare/Cargo.toml --bin sqlite -- --churn 1000000
//! ```
//!
//! Rounds of both alternate, so that a noisy machine is noisy for both. Printed are the
//! medians of the ratios within each round, with the extremes. `--rounds N` for more or
//! fewer than nine.

mod many;
mod writes;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use tokio::runtime::Runtime;
use tower_idempotency::store::SqliteStore;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Default)]
struct Options {
    seconds: Option<f64>,
    rounds: Option<u32>,
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
    many: Vec<f64>,
    many_p99: Vec<f64>,
    bare: Vec<f64>,
    one: Vec<f64>,
    bare_one: Vec<f64>,
}

fn table(options: &Options, directory: &Directory) -> Result<(), Failure> {
    let rounds = options.rounds.unwrap_or(9).max(1);
    let slice = Duration::from_secs_f64(options.seconds.unwrap_or(60.0) / f64::from(4 * rounds));
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
    }
    seen.print(rounds);
    Ok(())
}

impl Seen {
    fn print(self, rounds: u32) {
        // Of the same round: what disturbs it disturbs both.
        let against = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(one, other)| one / other).collect();
        println!("{rounds} rounds, {} writes; medians and extremes\n", self.writes);
        println!("{:<52}{:>9}   {:<22}{:<10}better", "", "median", "extremes", "bar");
        row("64 writers : shared append + fdatasync", against(&self.many, &self.bare), "0.27", "0.35");
        row("one writer, p50 : append + fdatasync", against(&self.one, &self.bare_one), "1.3 ×", "1.0 ×");
        let p99 = self.many_p99.iter().map(|micros| micros / 1e3).collect();
        row("64 writers, p99 of a write, ms", p99, "5", "3");
        println!();
        row("64 writers, writes a second", self.many, "", "");
        row("shared append + fdatasync, writes a second", self.bare, "", "");
        row("one writer, p50, µs", self.one, "", "");
        row("append + fdatasync, p50, µs", self.bare_one, "", "");
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
