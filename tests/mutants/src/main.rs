//! Plants known bugs, one at a time, and expects a test to find each.
//!
//! ```text
//! cargo run -p mutants [-- --only NAME,NAME] [--list] [--seconds N]
//! ```
//!
//! The tracked files are copied below `target/`, so the working tree stays as
//! it is. A mutant is dead if its test fails; a mutant that does not compile,
//! or whose text is not found exactly once any more, is stale, which is an
//! error: it proves nothing. `--seconds` stops starting mutants after that
//! time; those that were not reached are said to be, and are an error too.

mod run;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::run::{Outcome, Workshop};
use crate::table::{MUTANTS, Mutant};

/// What was asked for.
#[derive(Default)]
struct Options {
    only: Option<String>,
    list: bool,
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--list" => options.list = true,
            "--only" => options.only = Some(value()?),
            "--seconds" => {
                options.seconds = Some(value()?.parse().map_err(|_| "--seconds needs a number".to_owned())?);
            }
            other => return Err(format!("{other} is not known; there are --only NAME,NAME, --list and --seconds N")),
        }
    }
    Ok(options)
}

/// Whether all of them died.
fn run(options: &Options) -> Result<bool, String> {
    let wanted =
        |mutant: &&Mutant| options.only.as_ref().is_none_or(|only| only.split(',').any(|name| name == mutant.name));
    let mutants: Vec<_> = MUTANTS.iter().filter(wanted).collect();
    if mutants.is_empty() {
        return Err("there is no such mutant; see --list".into());
    }
    if options.list {
        mutants.iter().for_each(|mutant| println!("{:<44} {}  ({})", mutant.name, mutant.file, mutant.test));
        return Ok(true);
    }
    let workshop = Workshop::open(Path::new("."))?;
    let deadline = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    check_unmutated(&workshop, &mutants)?;
    let mut dead = 0;
    for mutant in &mutants {
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            println!("{:<44} not reached in time", mutant.name);
            continue;
        }
        dead += usize::from(try_one(&workshop, mutant)?);
    }
    println!("{dead} of {} mutants died", mutants.len());
    Ok(dead == mutants.len())
}

/// A test that fails anyway kills nothing.
fn check_unmutated(workshop: &Workshop, mutants: &[&Mutant]) -> Result<(), String> {
    let mut tests: Vec<_> = mutants.iter().map(|mutant| mutant.test).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        match workshop.run(test)? {
            Outcome::Green => println!("{:<44} green without mutants", test),
            Outcome::Red(line) => return Err(format!("cargo {test} fails without any mutant: {line}")),
            Outcome::Uncompiled(line) => return Err(format!("cargo {test} does not compile: {line}")),
        }
    }
    Ok(())
}

fn try_one(workshop: &Workshop, mutant: &Mutant) -> Result<bool, String> {
    let started = Instant::now();
    let (died, verdict) = match workshop.with(mutant, || workshop.run(mutant.test))? {
        None => (false, "STALE     its text is not there exactly once".to_owned()),
        Some(Outcome::Red(line)) => (true, format!("died      {line}")),
        Some(Outcome::Green) => (false, "SURVIVED".to_owned()),
        Some(Outcome::Uncompiled(line)) => (false, format!("STALE     does not compile: {line}")),
    };
    println!("{:<44} {:>4} s  {verdict}", mutant.name, started.elapsed().as_secs());
    Ok(died)
}
