//! All that can be typed.

pub(crate) mod schedule;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use http::StatusCode;
use jiff::SignedDuration;
use tower_idempotency::store::DurabilityLevel;
use tower_idempotency::{FindingKind, Label, ListPosition, ListState};

use crate::proxy::arguments::Proxy;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed: nothing was changed, unless the text says otherwise; or a decision was
     stored, and `done` could not be printed: `idempotency show` has it in the history
  2  what was typed makes no sense
  3  there is no such operation, window or schedule
  4  the store can't be reached or opened
  5  doctor found something
  141  who reads the output closed it, as `head` does";

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
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// The store: sqlite:PATH, redis://… or postgres://…, as the service has it, with what it
    /// sets: redis://HOST?prefix=NAME&index_complete=true,
    /// postgres://HOST/DB?schema=NAME&table_prefix=NAME&prepared=false
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
    /// List operations: without more words, those that need attention
    List(List),
    /// Show one operation: its state, its steps, its history, and the commands that fit
    Show(Show),
    /// Decide about an operation that no attempt holds: what happened to it, or to a step
    Resolve(Resolve),
    /// Let an unfinished operation run again: at its client's retry, or by a completer
    ///
    /// Steps that are done stay done. In at-most-once mode first make sure that nothing
    /// happened.
    Retry(Decision),
    /// Remove a complete operation before its retention is over
    ///
    /// If the client then retries, the operation runs anew.
    Forget(Decision),
    /// Give up the callback that is still to be made for a complete operation
    EndCallback(Decision),
    /// Maintenance windows: list, plan, extend, end
    #[command(subcommand)]
    Maintenance(Maintenance),
    /// What runs once a period: list, show, pause, run, back-fill
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    /// Serve the page for operators, on this machine, until Ctrl-C
    Serve(Serve),
    /// Stand in front of a service as a reverse proxy, so that its charges happen once
    ///
    /// The service may be written in any language: see the guide, "without touching your code".
    Proxy(Box<Proxy>),
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

/// Which operation.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// The hash of its key, or its reference, as `list`, problems, events and log lines have it
    #[arg(required_unless_present = "key", conflicts_with = "key")]
    pub(crate) operation: Option<String>,
    /// Or its idempotency key, as the client sends it
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// The scope of that key: whose it is; without it, the shared one
    #[arg(long, default_value = "", requires = "key")]
    pub(crate) scope: String,
    /// That key was given to a runner, not sent with a request
    #[arg(long, requires = "key")]
    pub(crate) runner: bool,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Which ones
    #[arg(long, value_enum, default_value_t = Listed::Attention)]
    pub(crate) state: Listed,
    /// Only those that began so long ago, as 10m or 2h
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub(crate) older_than: Option<Duration>,
    /// Only those with this finding
    #[arg(long, value_enum)]
    pub(crate) finding: Option<Found>,
    /// Only those with this label, as order=17
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub(crate) label: Option<Label>,
    /// How many, 200 at most
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: usize,
    /// Go on where the last page ended, by the position that it printed
    #[arg(long, value_name = "POSITION")]
    pub(crate) after: Option<ListPosition>,
}

/// What is listed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Listed {
    /// What an operator should look at
    Attention,
    /// All that are not complete
    Unfinished,
    /// Those of them that a completer should take
    Due,
    /// Those that are complete, the latest first
    Complete,
}

impl From<Listed> for ListState {
    fn from(listed: Listed) -> Self {
        match listed {
            Listed::Attention => Self::NeedsAttention,
            Listed::Unfinished => Self::Unfinished,
            Listed::Due => Self::Due,
            Listed::Complete => Self::Complete,
        }
    }
}

/// What may be found about an operation: the other findings are about a store or a process.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Found {
    Parked,
    InDoubt,
    Paid,
    Pending,
}

impl From<Found> for FindingKind {
    fn from(found: Found) -> Self {
        match found {
            Found::Parked => Self::Parked,
            Found::InDoubt => Self::InDoubt,
            Found::Paid => Self::Paid,
            Found::Pending => Self::Pending,
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) which: Which,
    /// With --json: also what clients and handlers sent, up to so many bytes of each body
    #[arg(long, value_name = "BYTES", requires = "json")]
    pub(crate) bodies: Option<usize>,
}

/// What each decision needs.
#[derive(Args, Debug)]
pub(crate) struct Decision {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Why, in one line; it stays in the history of the operation
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) why: String,
    /// Who decides; without it, your user and this host
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) who: Option<String>,
    /// The version that `show` printed: if the operation has changed since, nothing is done
    #[arg(long, value_name = "VERSION")]
    pub(crate) seen: Option<String>,
    /// Don't ask; needs --seen
    #[arg(long, requires = "seen")]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Resolve {
    #[command(flatten)]
    pub(crate) decision: Decision,
    #[command(flatten)]
    pub(crate) what: Outcome,
    /// With --respond: the body
    #[arg(long, value_name = "TEXT", requires = "respond", conflicts_with = "body_file")]
    pub(crate) body: Option<String>,
    /// With --respond: a file that has the body
    #[arg(long, value_name = "PATH", requires = "respond", value_hint = ValueHint::FilePath)]
    pub(crate) body_file: Option<PathBuf>,
    /// With --respond: a header, as 'content-type: application/json'; may be given again
    #[arg(long = "header", value_name = "NAME: VALUE", requires = "respond")]
    pub(crate) headers: Vec<String>,
    /// With --respond: how long to keep the response
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = length)]
    pub(crate) retention: Duration,
    /// With --step-done: the step's result, as JSON
    #[arg(long, value_name = "JSON", requires = "step_done")]
    pub(crate) value: Option<String>,
}

/// What is decided: one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Outcome {
    /// It happened: store the response with this status
    #[arg(long, value_name = "STATUS")]
    pub(crate) respond: Option<StatusCode>,
    /// The step that is in doubt was done; needs --value
    #[arg(long, value_name = "STEP", requires = "value")]
    pub(crate) step_done: Option<String>,
    /// The step that is in doubt did not happen, and will not
    #[arg(long, value_name = "STEP")]
    pub(crate) did_not_happen: Option<String>,
    /// The step that was to be undone is undone
    #[arg(long, value_name = "STEP")]
    pub(crate) undone: Option<String>,
    /// Keep completers from it until an operator decides
    #[arg(long)]
    pub(crate) park: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Maintenance {
    /// List what is planned, has begun, or was over less than a day ago
    List,
    /// Plan a window: new work is refused from its lead on, and all that it covers rests in it
    ///
    /// Every process sees it within seconds. What still runs when it begins can't be stopped:
    /// make the lead longer than your slowest handler.
    Plan(Plan),
    /// Move the end of a window
    Extend {
        #[command(flatten)]
        change: Change,
        /// When it is over, as 23:30, +1h, or 2026-11-30T01:00
        #[arg(long, value_name = "TIME")]
        until: String,
    },
    /// End a window now, or take it off the list
    End(Change),
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    /// When it begins: 22:00 is the next one here; also now, +10m, 2026-11-30T22:00
    #[arg(long, value_name = "TIME")]
    pub(crate) from: String,
    /// How long it takes, as 2h
    #[arg(long = "for", value_name = "TIME", value_parser = length)]
    pub(crate) length: Duration,
    /// How long before, new work is refused
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = length)]
    pub(crate) lead: Duration,
    /// Why, in one line: operators are told, clients are not
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
    /// Only requests to this path, and to those below it
    #[arg(long, value_name = "PATH", conflicts_with = "scope")]
    pub(crate) route: Option<String>,
    /// Only requests of this scope
    #[arg(long)]
    pub(crate) scope: Option<String>,
    /// Who plans it; without it, your user and this host
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) who: Option<String>,
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Which window is changed, and by whom.
#[derive(Args, Debug)]
pub(crate) struct Change {
    /// The window, as `list` has it
    pub(crate) id: String,
    /// Who changes it; without it, your user and this host
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) who: Option<String>,
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Who decides on the page; without it, your user and this host
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) who: Option<String>,
    /// Listen on an address that other machines reach: who reads the network can then decide
    #[arg(long)]
    pub(crate) without_tls_to_the_network: bool,
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
    /// Print the statements for Postgres, for your own migrations, and do nothing; with --store
    /// those for the schema and the prefix of its URL
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
    /// Leave out the trial operation, which shows that all rights are there; then nothing is written
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

fn label(text: &str) -> Result<Label, String> {
    let (name, value) = text.split_once('=').ok_or("write a label as its name, = and its value: order=17")?;
    Ok(Label::new(name.trim(), value.trim()))
}

/// A length of time, as 90s, 10m, 2h or 1h 30m.
fn length(text: &str) -> Result<Duration, String> {
    let wrong = || "write a length of time as 90s, 10m, 2h or 1h30m".to_owned();
    let length: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    /// The words of a command as a shell takes them, which knows no quotes but single ones.
    fn words(command: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for (index, part) in command.split('\'').enumerate() {
            let mut pieces = if index % 2 == 1 { vec![part] } else { part.split(' ').collect() }.into_iter();
            words.last_mut().unwrap().push_str(pieces.next().unwrap());
            words.extend(pieces.map(ToOwned::to_owned));
        }
        words
    }

    #[test]
    fn the_commands_of_the_guide_and_of_the_readme_are_those_of_the_program() {
        let mut seen = 0;
        for page in ["README.md", "../src/guide/runbook.md", "../src/guide/operator.md"] {
            let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
            let text = std::fs::read_to_string(&page).unwrap();
            for command in text.lines().filter_map(|line| line.strip_prefix("$ ")) {
                if command.starts_with("idempotency ") {
                    let parsed = Arguments::try_parse_from(words(command));
                    assert!(parsed.is_ok(), "{}: {command}: {}", page.display(), parsed.unwrap_err());
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn a_finding_has_the_name_that_the_page_and_the_metrics_have() {
        for found in Found::value_variants() {
            let name = found.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(name, FindingKind::from(*found).name());
        }
    }

    #[test]
    fn lengths_are_written_in_units() {
        assert_eq!(length("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(length("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(["", "5", "-5m", "soon"].iter().all(|text| length(text).is_err()));
    }
}
