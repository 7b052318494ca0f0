//! What an operator or a reconciler decides.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::fenced::Change;
use super::{Command, Decision, Sealed};
use crate::core::message::StoredResponse;
use crate::core::record::Record;
use crate::core::record::entry::HistoryEvent;
use crate::core::record::hold::{Hold, Mode, Status};
use crate::core::record::step::Point;
use crate::core::record::time::{Stamp, Version};

/// An operator's or a reconciler's decision on an operation without a holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain message")]
pub struct Resolve {
    /// What was decided.
    pub resolution: Resolution,
    /// The version that its maker looked at: it decides on nothing newer. Finding out takes
    /// time, and others decide and run meanwhile.
    pub seen: Option<Version>,
    /// Why, in one line. Only for the history.
    pub why: Option<Arc<str>>,
}

/// What an operator or a reconciler decided.
///
/// A decision on a step says nothing of other steps: one that was begun and
/// has no result stays in doubt, and the next attempt asks about it again. Nor
/// does it say anything of what a handler did outside its steps, so in at-most-once
/// mode the operation still waits for [`Respond`](Self::Respond) or
/// [`RunAgain`](Self::RunAgain).
///
/// `Debug` shows how large a value is, and not what.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resolution {
    /// It happened, and this is its response.
    Respond {
        /// The response.
        response: Arc<StoredResponse>,
        /// How long to remember it.
        retention: Duration,
    },
    /// The step was done, with this value.
    StepDone {
        /// The step's name.
        step: Box<str>,
        /// Its value.
        value: Bytes,
    },
    /// The step that was begun did not happen, and will not.
    DidNotHappen {
        /// The step's name.
        step: Box<str>,
    },
    /// The step, which was to be undone, is undone.
    Undone {
        /// The step's name.
        step: Box<str>,
    },
    /// The operation may run again, in any [`Mode`]. Its steps stay as they
    /// are.
    RunAgain,
    /// The reconciler could not find out: an operator has to decide.
    Park {
        /// Why, in one line.
        why: Arc<str>,
    },
}

impl fmt::Debug for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Respond { response, retention } => write!(f, "Respond({response:?}, for {retention:?})"),
            Self::StepDone { step, value } => write!(f, "StepDone({step:?}, {} bytes)", value.len()),
            Self::DidNotHappen { step } => write!(f, "DidNotHappen({step:?})"),
            Self::Undone { step } => write!(f, "Undone({step:?})"),
            Self::RunAgain => f.write_str("RunAgain"),
            Self::Park { why } => write!(f, "Park({why:?})"),
        }
    }
}

/// Why a [`Resolve`] changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotResolved {
    /// There is no such record.
    Absent,
    /// An attempt holds it, for at least this long.
    Busy(Duration),
    /// It is complete, and that never changes.
    Complete,
    /// The step has its result already, or was never begun; or it is not one that
    /// is still to be undone.
    NotInDoubt,
    /// The record has changed since the maker of the decision saw it.
    Overtaken,
}

impl Sealed for Resolve {}

impl Command for Resolve {
    type Output = Result<(), NotResolved>;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Self::Output> {
        let Some(current) = current else {
            return Decision::keep(Err(NotResolved::Absent));
        };
        if self.seen.is_some_and(|seen| seen != current.version()) {
            return Decision::keep(Err(NotResolved::Overtaken));
        }
        if current.status() == Status::Complete {
            return Decision::keep(Err(NotResolved::Complete));
        }
        if let Some(left) = current.lease_left(stamp.now) {
            return Decision::keep(Err(NotResolved::Busy(left)));
        }
        if !self.resolution.fits(current) {
            return Decision::keep(Err(NotResolved::NotInDoubt));
        }
        let mut next = current.clone();
        next.remember(HistoryEvent::Decided, Some(&decided(self.resolution.name(), self.why.as_deref())), stamp);
        // What it is from here on is not its last holder's doing.
        next.history.set_by(stamp.by);
        next.version = stamp.nonce;
        self.resolution.make(&mut next);
        Decision::put(next, Ok(()))
    }
}

/// What was decided, and why, as the history shows it.
pub(super) fn decided(what: &str, why: Option<&str>) -> String {
    why.map_or_else(|| what.to_owned(), |why| format!("{what}: {why}"))
}

impl Resolution {
    /// Its name, as the history shows it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Respond { .. } => "respond",
            Self::StepDone { .. } => "step done",
            Self::DidNotHappen { .. } => "step did not happen",
            Self::Undone { .. } => "step undone",
            Self::RunAgain => "run again",
            Self::Park { .. } => "park",
        }
    }

    fn fits(&self, record: &Record) -> bool {
        match self {
            Self::StepDone { step, .. } => match record.step(step) {
                Some(step) => step.point == Point::Begun,
                None => record.undoing.is_none(),
            },
            Self::Undone { step } => record.left_to_undo().any(|left| *left == **step),
            Self::DidNotHappen { step } => record.step(step).is_some_and(|step| step.point == Point::Begun),
            Self::Respond { .. } | Self::RunAgain | Self::Park { .. } => true,
        }
    }

    fn make(&self, next: &mut Record) {
        // Also takes the record from a holder whose lease lapsed: what was
        // decided here must not be overtaken by an attempt that wakes up.
        next.hold = match (&next.hold, next.mode) {
            (_, Mode::Resumable) | (Hold::Runnable, _) => Hold::Runnable,
            (Hold::Parked { why }, Mode::AtMostOnce) => Hold::Parked { why: Arc::clone(why) },
            (_, Mode::AtMostOnce) => Hold::Released,
        };
        next.attempts_before_reset = next.attempts;
        next.retry_in_ms = 0;
        match self {
            Self::Respond { response, retention } => next.complete(response, *retention),
            Self::StepDone { step, value } => {
                next.set(step, Point::Begun, Duration::ZERO);
                Change::Save { step: step.clone(), value: value.clone() }.make(next, Duration::ZERO);
            }
            Self::DidNotHappen { step } => next.clear(step),
            Self::Undone { step } => next.set_undone(step, Duration::ZERO),
            Self::RunAgain => next.hold = Hold::Runnable,
            Self::Park { why } => next.park(why),
        }
        next.owe_no_more();
    }
}
