//! The moves of a callback.

use std::sync::Arc;
use std::time::Duration;

use super::resolve::decided;
use super::{Command, Decision, Sealed};
use crate::core::record::Record;
use crate::core::record::callback::{Callback, PendingCallback};
use crate::core::record::entry::HistoryEvent;
use crate::core::record::time::{Stamp, Version};

/// A move of a callback, if that is still where its completer saw it. Other things about
/// the record may have changed: its client may acknowledge it meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallbackAt {
    id: Version,
    /// So that no other completer begins the same try.
    tries: u32,
    step: CallbackStep,
}

impl CallbackAt {
    /// A move of the callback that its completer saw as `pending`.
    pub const fn new(pending: &PendingCallback, step: CallbackStep) -> Self {
        Self { id: pending.id, tries: pending.tries, step }
    }
}

/// What becomes of a callback.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the moves of the state machine")]
pub enum CallbackStep {
    /// It is about to be made. For so long no other completer is to.
    Begin {
        /// How long.
        lease: Duration,
    },
    /// It was made.
    Delivered,
    /// It failed, and is to be made again after this time.
    Failed {
        /// How long.
        rest: Duration,
    },
    /// It failed too often.
    GiveUp,
}

impl Sealed for CallbackAt {}

impl Command for CallbackAt {
    /// Whether the move took.
    type Output = bool;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<bool> {
        let found = current.and_then(|found| Some((found, found.pending_callback()?)));
        let Some((found, pending)) = found.filter(|(_, pending)| (pending.id, pending.tries) == (self.id, self.tries))
        else {
            return Decision::keep(false);
        };
        let mut next = found.clone();
        if pending.tries == 0 {
            // From here on the record's time is that of the callback.
            next.remember_end();
        }
        next.version = stamp.nonce;
        next.callback = Some(Box::new(match self.step {
            CallbackStep::Begin { lease } => Callback::Pending(PendingCallback {
                tries: pending.tries.saturating_add(1),
                rest: lease,
                ..pending.clone()
            }),
            CallbackStep::Failed { rest } => Callback::Pending(PendingCallback { rest, ..pending.clone() }),
            CallbackStep::Delivered => Callback::Delivered(pending.id),
            CallbackStep::GiveUp => Callback::GivenUp(pending.id),
        }));
        Decision::put(next, true)
    }
}

/// An operator's decision that a pending callback is not made any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain message")]
pub struct EndCallback {
    /// The version that the operator looked at.
    pub seen: Version,
    /// Why, in one line. Only for the history.
    pub why: Option<Arc<str>>,
}

impl EndCallback {
    /// Its name, as the history shows it.
    pub(crate) const NAME: &str = "end callback";
}

/// Why an [`EndCallback`] changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the moves of the state machine")]
pub enum NotEnded {
    /// There is no such record.
    Absent,
    /// The record has changed since the operator saw it.
    Overtaken,
    /// No callback is pending.
    NotPending,
}

impl Sealed for EndCallback {}

impl Command for EndCallback {
    type Output = Result<(), NotEnded>;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Self::Output> {
        let Some(current) = current else {
            return Decision::keep(Err(NotEnded::Absent));
        };
        if self.seen != current.version() {
            return Decision::keep(Err(NotEnded::Overtaken));
        }
        let Some(pending) = current.pending_callback() else {
            return Decision::keep(Err(NotEnded::NotPending));
        };
        let mut next = current.clone();
        next.remember(HistoryEvent::Decided, Some(&decided(Self::NAME, self.why.as_deref())), stamp);
        next.version = stamp.nonce;
        next.callback = Some(Box::new(Callback::GivenUp(pending.id)));
        Decision::put(next, Ok(()))
    }
}
