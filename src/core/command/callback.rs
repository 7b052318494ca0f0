//! On the way of a callback.

use std::time::Duration;

use super::{Command, Decision};
use crate::core::record::Record;
use crate::core::record::callback::{Callback, Owed};
use crate::core::record::time::{Stamp, Version};

/// A step on the way of a callback, if it is still as far as its maker saw. Not
/// the whole record: its client may acknowledge it meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallbackAt {
    id: Version,
    /// No other completer begins the same try.
    tries: u32,
    step: CallbackStep,
}

impl CallbackAt {
    /// That step, for the callback as it was looked at.
    pub const fn new(owed: &Owed, step: CallbackStep) -> Self {
        Self { id: owed.id, tries: owed.tries, step }
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
    Made,
    /// It failed, and is to be made again after this time.
    Failed {
        /// How long.
        rest: Duration,
    },
    /// It failed too often.
    GiveUp,
}

impl Command for CallbackAt {
    /// Whether it took.
    type Output = bool;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<bool> {
        let found = current.and_then(|found| Some((found, found.owed()?)));
        let Some((found, owed)) = found.filter(|(_, owed)| (owed.id, owed.tries) == (self.id, self.tries)) else {
            return Decision::keep(false);
        };
        let mut next = found.clone();
        if owed.tries == 0 {
            // The record's time is going to be that of the callback.
            next.remember_end();
        }
        next.version = stamp.nonce;
        next.callback = Some(Box::new(match self.step {
            CallbackStep::Begin { lease } => {
                Callback::Owed(Owed { tries: owed.tries.saturating_add(1), rest: lease, ..owed.clone() })
            }
            CallbackStep::Failed { rest } => Callback::Owed(Owed { rest, ..owed.clone() }),
            CallbackStep::Made => Callback::Made(owed.id),
            CallbackStep::GiveUp => Callback::GivenUp(owed.id),
        }));
        Decision::put(next, true)
    }
}
