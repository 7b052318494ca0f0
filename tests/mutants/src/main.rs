//! Plants known bugs, one at a time, and expects a test to find each.
//!
//! ```text
//! cargo run -p mutants [-- --only NAME,NAME] [--list] [--check] [--seconds N] [--seed N]
//! ```
//!
//! The tracked files are copied below `target/`, so the working tree stays as
//! it is. A mutant is dead if its test fails. One that does not compile, or
//! whose text is not found exactly once any more, is stale: it proves nothing, and
//! nor does one whose test there is not.
//! Both are looked for first, and for the whole table, however little is
//! planted; `--check` does no more than that. A mutant that survives or is stale is
//! an error.
//!
//! `--seconds` stops planting after that time, not counting the builds and runs
//! without a mutant, which come before the first one of each target. Those are what takes
//! longest, so then it plants mutants of one target only: `--seed` says of which, in the
//! order in which the table comes to them. The groups take turns then. `--seed` also says
//! with which one of each group to begin.

mod run;
mod table;

use std::collections::HashSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::run::{Outcome, Workshop};
use crate::table::{GROUPS, Mutant};

/// What was asked for.
#[derive(Default)]
struct Options {
    only: Option<String>,
    list: bool,
    check: bool,
    seconds: Option<u64>,
    seed: usize,
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
        let number = |_| format!("{word} needs a number");
        match word.as_str() {
            "--list" => options.list = true,
            "--check" => options.check = true,
            "--only" => options.only = Some(value()?),
            "--seconds" => options.seconds = Some(value()?.parse().map_err(number)?),
            "--seed" => options.seed = value()?.parse().map_err(number)?,
            other => {
                return Err(format!(
                    "{other} is not known; there are --only NAME,NAME, --list, --check, --seconds N and --seed N"
                ));
            }
        }
    }
    Ok(options)
}

/// Whether none survived and none is stale.
fn run(options: &Options) -> Result<bool, String> {
    let all = || GROUPS.into_iter().flatten();
    if options.list {
        all()
            .for_each(|mutant| println!("{:<44} {}  ({} {})", mutant.name, mutant.file, mutant.target, mutant.tests()));
        return Ok(true);
    }
    let workshop = Workshop::open(Path::new("."))?;
    let mut stale = Vec::new();
    for mutant in all() {
        if !workshop.is_fresh(mutant)? {
            println!("{:<44}         STALE     its text is not there exactly once", mutant.name);
            stale.push(mutant.name);
        } else if !workshop.has_tests_of(mutant) {
            println!("{:<44}         STALE     no test is called {}", mutant.name, mutant.tests());
            stale.push(mutant.name);
        }
    }
    if options.check {
        println!("{} mutants, {} of them stale", all().count(), stale.len());
        return Ok(stale.is_empty());
    }
    let wanted = chosen(options, &stale)?;
    let (mut planted, mut died) = (0, 0);
    let (mut spent, mut checked) = (Duration::ZERO, HashSet::new());
    for mutant in &wanted {
        if options.seconds.is_some_and(|seconds| spent.as_secs() >= seconds) {
            break;
        }
        if checked.insert(mutant.target) {
            check_unmutated(&workshop, mutant.target, &wanted)?;
        }
        let started = Instant::now();
        planted += 1;
        died += usize::from(try_one(&workshop, mutant)?);
        spent += started.elapsed();
    }
    let (total, stale) = (all().count(), stale.len());
    println!(
        "planted {planted} of {total} mutants: {died} died, {} did not; {stale} not planted, as stale",
        planted - died
    );
    if planted == 0 {
        return Err("there was no time to plant any".into());
    }
    Ok(died == planted && stale == 0)
}

/// What is to be planted, in this order.
fn chosen(options: &Options, stale: &[&str]) -> Result<Vec<&'static Mutant>, String> {
    let known = |name: &str| GROUPS.into_iter().flatten().any(|mutant| mutant.name == name);
    let names: Option<Vec<_>> = options.only.as_ref().map(|only| only.split(',').collect());
    if let Some(name) = names.iter().flatten().find(|name| !known(name)) {
        return Err(format!("there is no mutant {name}; see --list"));
    }
    let wanted = |mutant: &&Mutant| {
        names.as_ref().is_none_or(|names| names.contains(&mutant.name)) && !stale.contains(&mutant.name)
    };
    let mut targets: Vec<_> = Vec::new();
    for mutant in GROUPS.into_iter().flatten().filter(wanted) {
        if !targets.contains(&mutant.target) {
            targets.push(mutant.target);
        }
    }
    // With little time, those of one target.
    let target = options.seconds.and_then(|_| targets.get(options.seed % targets.len().max(1)));
    let groups = GROUPS.map(|group| {
        let is_of_target = |mutant: &&Mutant| target.is_none_or(|target| *target == mutant.target);
        let mut group: Vec<_> = group.iter().filter(wanted).filter(is_of_target).collect();
        let start = options.seed % group.len().max(1);
        group.rotate_left(start);
        group
    });
    if options.seconds.is_none() {
        return Ok(groups.concat());
    }
    let longest = groups.iter().map(Vec::len).max().unwrap_or(0);
    Ok((0..longest).flat_map(|turn| groups.iter().filter_map(move |group| group.get(turn).copied())).collect())
}

/// A test that fails anyway kills nothing, and nor does one that there is not.
fn check_unmutated(workshop: &Workshop, target: &str, mutants: &[&Mutant]) -> Result<(), String> {
    let of_target = || mutants.iter().filter(|mutant| mutant.target == target);
    let tests = workshop.tests(target)?;
    let is_named = |filter: &str| tests.iter().any(|test| test.contains(filter));
    if let Some(lost) = of_target().find(|mutant| !is_named(&mutant.tests())) {
        return Err(format!(
            "{}: no test of {target} has {} in its name; name one that is there",
            lost.name,
            lost.tests()
        ));
    }
    let filters: Vec<_> = of_target().map(|mutant| mutant.tests()).collect();
    match workshop.run(target, &filters)? {
        Outcome::Green => println!("{target:<44} green without mutants"),
        Outcome::Red(line) => return Err(format!("{target} fails without any mutant: {line}")),
        Outcome::Uncompiled(line) => return Err(format!("{target} does not compile: {line}")),
    }
    Ok(())
}

fn try_one(workshop: &Workshop, mutant: &Mutant) -> Result<bool, String> {
    let started = Instant::now();
    let (died, verdict) = match workshop.with(mutant, || workshop.run(mutant.target, &[mutant.tests()]))? {
        Outcome::Red(line) => (true, format!("died      {line}")),
        Outcome::Green => (false, "SURVIVED".to_owned()),
        Outcome::Uncompiled(line) => (false, format!("STALE     does not compile: {line}")),
    };
    println!("{:<44} {:>4} s  {verdict}", mutant.name, started.elapsed().as_secs());
    Ok(died)
}
