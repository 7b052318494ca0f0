//! What can be typed about schedules.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::length;

#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
    /// List all schedules that a process has run over this store
    List,
    /// Show where one stands: what runs, what is in doubt, what ended, what comes next
    Show {
        /// The schedule, as `list` has it
        name: String,
    },
    /// Print the next runs: of a schedule, or of a timing, which needs no store
    Next(Next),
    /// Pause it: no period begins, in any process, until you go on; what runs goes on
    Pause(Ordered),
    /// Go on with one that is paused: what began meanwhile was missed
    GoOn(Ordered),
    /// Run it once, now, besides its periods; also while it is paused
    Run(Ordered),
    /// Run its periods from one time until another once more, the oldest first
    BackFill {
        #[command(flatten)]
        order: Ordered,
        /// From when, as 2026-11-23T00:00, which is here; also 2026-11-23T00:00Z
        #[arg(long, value_name = "TIME")]
        from: String,
        /// Until when; without it, until now
        #[arg(long, value_name = "TIME", default_value = "now")]
        until: String,
    },
    /// Take one that no process has any longer off the list, with what is on record of its runs
    Forget(Ordered),
}

/// Whose runs are printed.
#[derive(Args, Debug)]
pub(crate) struct Next {
    /// The schedule, as `list` has it
    #[arg(required_unless_present_any = ["cron", "every"])]
    pub(crate) name: Option<String>,
    /// Or a cron expression of five fields, as '0 2 * * *'
    #[arg(long, value_name = "EXPRESSION", requires = "zone", conflicts_with_all = ["name", "every"])]
    pub(crate) cron: Option<String>,
    /// The time zone of that expression, as Europe/Berlin
    #[arg(long, requires = "cron")]
    pub(crate) zone: Option<String>,
    /// Or the distance between two periods, as 90s or 2h
    #[arg(long, value_name = "TIME", value_parser = length, conflicts_with = "name")]
    pub(crate) every: Option<Duration>,
    /// How many
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) count: u16,
}

/// Which schedule, who says so, and why.
#[derive(Args, Debug)]
pub(crate) struct Ordered {
    /// The schedule, as `list` has it
    pub(crate) name: String,
    /// Why, in one line; it is shown with the schedule
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) why: Option<String>,
    /// Who says so; without it, your user and this host
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) who: Option<String>,
    /// Don't ask
    #[arg(long)]
    pub(crate) yes: bool,
}
