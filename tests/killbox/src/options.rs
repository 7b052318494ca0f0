//! The command line.

use std::time::Duration;

pub const HELP: &str = "\
Kills real payment processes and their stores, and counts the charges.

Usage: killbox [OPTIONS]

  --seconds N   begin no cell after so long, but try each fault on each store once [120]
  --seed N      the order, and so the choice; drawn and printed otherwise
  --all         every cell; then the table, and whether crashes.md shows it
  --write       with --all: put the table into crashes.md
  --cell NAME   only cells whose name has this in it, all of them
  --list        what there is
  --help        this text
";

pub struct Options {
    /// None: as long as it takes.
    pub seconds: Option<Duration>,
    pub seed: u64,
    pub all: bool,
    pub write: bool,
    pub cell: Option<String>,
    pub list: bool,
}

impl Options {
    /// `None` if all that is wanted is help.
    pub fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let seed = u64::from(fastrand::u32(..));
        let mut options = Self { seconds: None, seed, all: false, write: false, cell: None, list: false };
        let mut seconds = 120;
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("seconds") => seconds = parser.value()?.parse()?,
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("all") => options.all = true,
                Long("write") => options.write = true,
                Long("cell") => options.cell = Some(parser.value()?.string()?),
                Long("list") => options.list = true,
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        if !options.all && options.cell.is_none() {
            options.seconds = Some(Duration::from_secs(seconds));
        }
        Ok(Some(options))
    }
}
