//! What became of a run of a schedule.

use std::fmt;

/// What became of a run of a [schedule](crate::guide::schedules), or of periods that had none.
///
/// Its [`Display`](fmt::Display) is the end of a sentence, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleTurn {
    /// The run is complete.
    Complete,
    /// A try of the run failed, and what it did is certain; it is tried again.
    Failed {
        /// How many tries have failed.
        tries: u32,
    },
    /// The run failed as often as it may, or its deadline is over: it is not tried again.
    GivenUp {
        /// How many tries have failed.
        tries: u32,
    },
    /// What the run did is unknown, and an operator has to decide.
    InDoubt,
    /// Periods began while no process ran them, and none of them will run.
    PassedOver {
        /// How many in a row; the event names the last of them.
        periods: u64,
    },
}

impl ScheduleTurn {
    /// Its name, as metrics have it.
    #[cfg(feature = "metrics")]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed { .. } => "failed",
            Self::GivenUp { .. } => "given-up",
            Self::InDoubt => "in-doubt",
            Self::PassedOver { .. } => "passed-over",
        }
    }
}

impl fmt::Display for ScheduleTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("complete"),
            Self::Failed { tries } => write!(f, "failed at try {tries}, and will be tried again"),
            Self::GivenUp { tries } => write!(f, "given up after {tries} tries that failed"),
            Self::InDoubt => f.write_str("in doubt, until an operator decides"),
            Self::PassedOver { periods } => write!(f, "passed over, the last of {periods} that were missed"),
        }
    }
}
