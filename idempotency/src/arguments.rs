//! All that can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use jiff::SignedDuration;
use tower_idempotency::store::DurabilityLevel;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed: nothing was changed, unless the text says otherwise
  2  what was typed makes no sense
  3  there is no such operation, or no such window
  4  the store can't be reached or opened
  5  doctor found something";

/// What is stuck in a store of tower-idempotency, why, and what to do.
///
/// Called at three in the morning? `idempotency list` shows what needs attention, and
/// `idempotency show` says what fits.
#[derive(Debug, Parser)]
#[command(name = "idempotency", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) color: colorchoice_clap::Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What all commands share.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// The store: sqlite:PATH, redis://… or postgres://…, as the service has it
    #[arg(long, value_name = "URL", env = "IDEMPOTENCY_STORE", hide_env_values = true, global = true)]
    pub(crate) store: Option<String>,
    /// The keys of encrypted records: a file with a line for each, NAME and 64 hexadecimal
    /// digits; the first one writes
    #[arg(
        long,
        value_name = "PATH",
        env = "IDEMPOTENCY_ENCRYPTION_KEY_FILE",
        global = true,
        value_hint = ValueHint::FilePath
    )]
    pub(crate) encryption_key_file: Option<PathBuf>,
    /// Write JSON, one value a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print a line when something begins to need attention, and when it is over
    ///
    /// Ends with Ctrl-C. It sees what the store has: a response that a service could not
    /// store yet is known to that service alone.
    Watch(Watch),
    /// Remove responses whose retention is over
    ///
    /// SQLite and Redis forget by themselves; a store on Postgres needs a sweeper in a
    /// service, or this.
    Sweep(Sweep),
    /// Make what the store needs: the tables of Postgres, the file of SQLite
    ///
    /// What is there already stays as it is.
    Migrate(Migrate),
    /// Check the store as the layer would, and say what to set
    Doctor(Doctor),
    /// Print completions for a shell
    ///
    /// For example: idempotency completions bash > /etc/bash_completion.d/idempotency
    Completions {
        /// For which shell
        shell: Shell,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// How often to look, as 30s or 2m
    #[arg(long, default_value = "10s", value_parser = length)]
    pub(crate) every: Duration,
    /// Report an operation that is paid for, and has had no response for so long
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = length)]
    pub(crate) paid_for: Duration,
    /// Report an operation that has been neither paid for nor complete for so long
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = length)]
    pub(crate) pending_for: Duration,
    /// Report a store that survives less than this
    #[arg(long, value_enum, default_value_t = Level::Nothing)]
    pub(crate) require: Level,
}

#[derive(Args, Debug)]
pub(crate) struct Sweep {
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Migrate {
    /// Print the statements for Postgres, for your own migrations, and do nothing
    #[arg(long)]
    pub(crate) print: bool,
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// A store that survives less is a problem
    #[arg(long, value_enum, default_value_t = Level::Nothing)]
    pub(crate) require: Level,
    /// Write nothing: leave out the trial operation, which shows that all rights are there
    #[arg(long)]
    pub(crate) read_only: bool,
}

/// What a store survives.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    Nothing,
    AppCrash,
    StoreCrash,
    PowerLoss,
    MachineLoss,
}

impl From<Level> for DurabilityLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Nothing => Self::Nothing,
            Level::AppCrash => Self::AppCrash,
            Level::StoreCrash => Self::StoreCrash,
            Level::PowerLoss => Self::PowerLoss,
            Level::MachineLoss => Self::MachineLoss,
        }
    }
}

/// A length of time, as 90s, 10m, 2h or 1h 30m.
fn length(text: &str) -> Result<Duration, String> {
    let wrong = || "write a length of time as 90s, 10m, 2h or 1h30m".to_owned();
    let length: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn lengths_are_written_in_units() {
        assert_eq!(length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(length("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(["", "5", "-5m", "soon"].iter().all(|text| length(text).is_err()));
    }
}
