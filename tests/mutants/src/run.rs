//! The copy that mutants are planted in.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::table::Mutant;

/// A copy of the tracked files. What it depends on is built already: it has the
/// build directory of the tests.
pub(crate) struct Workshop {
    copy: PathBuf,
    build: PathBuf,
    /// What functions and modules are called, tests among them.
    names: HashSet<String>,
}

/// How a test ended.
pub(crate) enum Outcome {
    Green,
    /// It failed, and this is the first thing it said about why.
    Red(String),
    Uncompiled(String),
}

impl Workshop {
    /// Copies what is tracked below `root`, as it is in the working tree.
    pub(crate) fn open(root: &Path) -> Result<Self, String> {
        let base = std::path::absolute(root.join("target/mutants")).map_err(|error| error.to_string())?;
        let build = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let build = std::path::absolute(build).map_err(|error| error.to_string())?;
        let mut workshop = Self { copy: base.join("copy"), build, names: HashSet::new() };
        let listing = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
        let listing = listing.map_err(|error| format!("git ls-files: {error}"))?.stdout;
        if listing.is_empty() {
            return Err("nothing is tracked here; run this in the root of the repository".into());
        }
        // What is left of an earlier run, such as a mutant that was planted
        // when it was killed, must not stay.
        if workshop.copy.exists() {
            fs::remove_dir_all(&workshop.copy).map_err(|error| format!("{}: {error}", workshop.copy.display()))?;
        }
        for name in String::from_utf8_lossy(&listing).split_terminator('\0') {
            copy(&root.join(name), &workshop.copy.join(name))?;
            if name.ends_with(".rs") && !name.starts_with("tests/mutants/") {
                workshop.names.extend(names(&read(&root.join(name))?));
            }
        }
        Ok(workshop)
    }

    /// Plants the mutant for as long as `act` takes.
    pub(crate) fn with<T>(&self, mutant: &Mutant, act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        let path = self.copy.join(mutant.file);
        let original = read(&path)?;
        write(&path, &original.replace(mutant.text, mutant.instead))?;
        let outcome = act();
        write(&path, &original)?;
        outcome
    }

    /// Whether the text that the mutant replaces is there exactly once. If it
    /// is not, the mutant proves nothing.
    pub(crate) fn is_fresh(&self, mutant: &Mutant) -> Result<bool, String> {
        Ok(read(&self.copy.join(mutant.file))?.matches(mutant.text).count() == 1)
    }

    /// Whether a test that has to fail may be there, as far as one sees without a build.
    pub(crate) fn has_tests_of(&self, mutant: &Mutant) -> bool {
        let (within, part) = mutant.filter.rsplit_once("::").unwrap_or((mutant.module, mutant.filter));
        let is_named = |name: &String| if within.is_empty() { name.contains(part) } else { name.starts_with(part) };
        part.is_empty() || self.names.iter().any(is_named)
    }

    /// Builds and runs some tests of one target, and tells a red test from a
    /// broken build.
    pub(crate) fn run(&self, target: &str, filters: &[String]) -> Result<Outcome, String> {
        let built = self.cargo(target, &["--no-run"])?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr).into_owned();
            return Ok(Outcome::Uncompiled(first(&said, |line| line.starts_with("error"))));
        }
        let filters: Vec<_> = filters.iter().map(String::as_str).collect();
        let ran = self.cargo(target, &[&["--"], &filters[..]].concat())?;
        if ran.status.success() {
            return Ok(Outcome::Green);
        }
        let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        Ok(Outcome::Red(complaint(&said)))
    }

    /// The names of all tests of a target.
    pub(crate) fn tests(&self, target: &str) -> Result<Vec<String>, String> {
        let listed = self.cargo(target, &["--", "--list"])?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    fn cargo(&self, target: &str, more: &[&str]) -> Result<Output, String> {
        let mut command = Command::new("cargo");
        command.arg("test").args(target.split_whitespace());
        if target != crate::table::MODEL {
            // The packages and features of `scripts/test`.
            command.args(["--workspace", "--exclude", "tower-idempotency-benches", "--exclude", "model"]);
            command.arg("--all-features");
        }
        // Every mutant is compiled once more: only what changed.
        command.env_remove("CARGO_INCREMENTAL").args(more);
        command.current_dir(&self.copy).env("CARGO_TARGET_DIR", &self.build).env("RUST_BACKTRACE", "0");
        // What a cargo says to this program. Build scripts go by it, and with another value they and
        // all that depends on them would be built again, now and by the next cargo.
        let is_said = |name: &OsString| {
            let name = name.to_string_lossy();
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        };
        std::env::vars_os().map(|(name, _)| name).filter(is_said).for_each(|name| _ = command.env_remove(name));
        command.output().map_err(|error| format!("cargo test {target}: {error}"))
    }
}

/// What follows `fn` and `mod`.
fn names(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').filter(|word| !word.is_empty());
    let defined = words.clone().zip(words.skip(1)).filter(|(before, _)| matches!(*before, "fn" | "mod"));
    defined.map(|(_, name)| name.to_owned())
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if !from.is_file() {
        return Ok(());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    to.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    fs::copy(from, to).map(drop).map_err(failed)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Which test panicked, and the line after that: what it had to say. The last
/// one: panics before it may be part of the test.
fn complaint(said: &str) -> String {
    let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let panic = lines.iter().rposition(|line| line.contains("panicked at"));
    let Some([panic, why, ..]) = panic.map(|at| &lines[at..]) else {
        return first(said, |line| line.contains("FAILED"));
    };
    let name = panic.split('\'').nth(1).unwrap_or_default();
    let why: String = why.trim().chars().take(120).collect();
    format!("{name}: {why}")
}

fn first(said: &str, like: impl Fn(&str) -> bool) -> String {
    said.lines().find(|line| like(line)).unwrap_or("it said nothing").to_owned()
}
