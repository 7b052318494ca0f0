//! What may become of an operation that has no holder: the one place that says so.

use std::sync::Arc;
use std::time::Duration;

use super::Record;
use super::hold::{Hold, Mode};
use super::time::Stamp;

/// What may become of an operation once its holder has let go of it, or is dead. Of one
/// that is complete it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook<'r> {
    /// It has not run yet, or an operator or a reconciler has decided that it goes on:
    /// the next claim runs it, in any mode.
    Decided,
    /// The next attempt continues where the last one stopped.
    Resumable,
    /// In at-most-once mode: it may have happened, and is never run again until an operator
    /// or a reconciler decides.
    InDoubt,
    /// An operator has to decide, for this reason.
    Parked(&'r Arc<str>),
}

impl Record {
    pub(crate) const fn outlook(&self) -> Outlook<'_> {
        match (&self.hold, self.mode) {
            (Hold::Parked { why }, _) => Outlook::Parked(why),
            (Hold::Runnable, _) => Outlook::Decided,
            (Hold::Leased { .. } | Hold::Released, Mode::Resumable) => Outlook::Resumable,
            (Hold::Leased { .. } | Hold::Released, Mode::AtMostOnce) => Outlook::InDoubt,
        }
    }

    /// For how long its holder has it, if one does. A lease that is over says nothing where
    /// the process that asks has the operation in hand itself: then it is as good as `lease`.
    pub(in crate::core) fn held_for_now(&self, stamp: Stamp<'_>, lease: Duration) -> Option<Duration> {
        let is_leased = matches!(self.hold, Hold::Leased { .. });
        self.lease_left(stamp.now).or_else(|| (stamp.in_hand && is_leased).then_some(lease))
    }
}
