//! The figures that are checked in, and how they are held against the code.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How far a figure may be off.
const TOLERANCE: f64 = 0.03;
/// And with another compiler than the one that the figures are of.
const OTHER_COMPILER: f64 = 0.15;
/// And so many instructions in any case: 3 % of a few hundred are nothing.
const SLACK: f64 = 8.0;
/// Of a block, and of an allocation: what grows with the store allocates now and then.
const COUNTED: f64 = 0.05;
const HOW: &str = "if this is meant, write new figures with: cargo run --release -p instructions -- --write";

/// What one operation costs.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: String,
    instructions: f64,
    blocks: f64,
    allocations: f64,
    /// What it cost before the work that is going on, for the record.
    before: Option<(f64, f64)>,
}

impl Row {
    pub(crate) fn new(name: &str, instructions: f64, blocks: f64, allocations: f64) -> Self {
        Self { name: name.to_owned(), instructions, blocks, allocations, before: None }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let mut row = Self::new(words.next()?, 0.0, 0.0, 0.0);
        let mut number = || words.next()?.parse().ok();
        (row.instructions, row.blocks, row.allocations) = (number()?, number()?, number()?);
        row.before = number().zip(number());
        Some(row)
    }

    /// By how much the code costs more than this, in per cent, and whether that
    /// is too much either way.
    fn against(&self, now: &Self, tolerance: f64) -> (f64, bool) {
        let more = now.instructions - self.instructions;
        let allowed = (self.instructions.abs() * tolerance).max(SLACK);
        let differs = |now: f64, limit: f64| (now - limit).abs() > COUNTED;
        let counts_differ = differs(now.blocks, self.blocks) || differs(now.allocations, self.allocations);
        let off = more.abs() > allowed || counts_differ;
        (100.0 * more / self.instructions.abs().max(1.0), off)
    }
}

/// The file.
pub(crate) struct Figures {
    compiler: String,
    pub(crate) rows: Vec<Row>,
}

impl Figures {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("figures.txt")
    }

    pub(crate) fn read() -> Result<Self, String> {
        let path = Self::path();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let compiler = text.lines().find_map(|line| line.strip_prefix("# compiler: "));
        let compiler = compiler.ok_or("figures.txt does not name its compiler")?.to_owned();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let row = |line| Row::parse(line).ok_or_else(|| format!("figures.txt: {line:?} is no row"));
        Ok(Self { compiler, rows: lines.map(row).collect::<Result<_, _>>()? })
    }

    /// Another compiler makes other code, which only the same compiler's figures
    /// can be held against closely.
    fn tolerance(&self) -> Result<f64, String> {
        let here = compiler()?;
        if here == self.compiler {
            return Ok(TOLERANCE);
        }
        println!(
            "figures.txt is of {}, and this is {here}: a row may be off by {:.0} % instead of {:.0} %. To be exact, \
             write the figures of the commit before with this compiler, and hold the new code against those.",
            self.compiler,
            100.0 * OTHER_COMPILER,
            100.0 * TOLERANCE
        );
        Ok(OTHER_COMPILER)
    }

    /// Prints both, and says whether all rows hold.
    pub(crate) fn hold(&self, now: &[Row]) -> Result<bool, String> {
        let tolerance = self.tolerance()?;
        let mut good = now.len() == self.rows.len();
        println!("{:<24}{:>14}{:>10}{:>9}{:>14}{:>14}", "", "instructions", "limit", "off by", "blocks", "allocations");
        for row in now {
            let Some(limit) = self.rows.iter().find(|limit| limit.name == row.name) else {
                println!("{:<24}{:>14.0}  is not in figures.txt", row.name, row.instructions);
                good = false;
                continue;
            };
            let (more, off) = limit.against(row, tolerance);
            let verdict = if off { "   RED" } else { "" };
            println!(
                "{:<24}{:>14.0}{:>10.0}{more:>+8.1}%{:>7.1} /{:>5.1}{:>7.1} /{:>5.1}{verdict}",
                row.name,
                row.instructions,
                limit.instructions,
                row.blocks,
                limit.blocks,
                row.allocations,
                limit.allocations
            );
            good &= !off;
        }
        if !good {
            println!("a row is off by too much, hashes or allocates more or less often, or is missing; {HOW}");
        }
        Ok(good)
    }

    /// Writes what the code costs now. What it cost before stays.
    pub(crate) fn write(now: &[Row], old: &[Row]) -> Result<(), String> {
        let mut text = format!(
            "# What one operation costs: instructions without SHA-256, the blocks of 64 bytes it hashes, and how\n\
             # often it allocates; then instructions and blocks before the work that is going on. Written by:\n\
             # cargo run --release -p instructions -- --write\n\
             # compiler: {}\n",
            compiler()?
        );
        for row in now {
            let old = old.iter().find(|old| old.name == row.name);
            let before = old.and_then(|old| old.before).unwrap_or((row.instructions, row.blocks));
            let Row { name, instructions, blocks, allocations, .. } = row;
            let (was, hashed) = before;
            let _ =
                writeln!(text, "{name:<24}{instructions:>8.0}{blocks:>8.1}{allocations:>6.1}{was:>10.0}{hashed:>8.1}");
        }
        print!("{text}");
        let path = Self::path();
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn compiler() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().map_err(|error| format!("rustc: {error}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    Ok(format!("{version}, {}", std::env::consts::ARCH))
}
