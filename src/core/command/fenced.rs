//! What only the holder of a claim may change.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Command, Decision, Next, Sealed};
use crate::core::key::KeyForm;
use crate::core::message::{StoredResponse, on_its_own};
use crate::core::record::Record;
use crate::core::record::hold::{Fence, Hold, Mode, Progress};
use crate::core::record::label::Label;
use crate::core::record::reached::Reached;
use crate::core::record::step::Point;
use crate::core::record::time::Stamp;

/// Changes that only the holder of `fence` may make, all of them or none.
///
/// Several changes in one command cost one write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain message")]
pub struct Fenced {
    /// The claim under which they are made.
    pub fence: Fence,
    /// The changes, in their order. Those after one that ends the claim are
    /// not made.
    pub changes: Vec<Change>,
}

/// One change to a record that is held.
///
/// `Debug` shows how large a value is, and not what.
#[derive(Clone, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the moves of the state machine")]
pub enum Change {
    /// Intent: the step is about to act on the outside world.
    Begin {
        /// The step's name.
        step: Box<str>,
    },
    /// Recovery point: the step was done. If it had been begun, the operation
    /// is [`Paid`](crate::core::Status::Paid) from here on.
    Save {
        /// The step's name.
        step: Box<str>,
        /// Its value.
        value: Bytes,
    },
    /// The step failed with a final error. It paid nothing.
    Fail {
        /// The step's name.
        step: Box<str>,
        /// Its error.
        error: Bytes,
    },
    /// The begun step is known not to have happened.
    Clear {
        /// The step's name.
        step: Box<str>,
    },
    /// What the step depended on. Counts only together with the change that writes the
    /// step.
    Input {
        /// The step's name.
        step: Box<str>,
        /// A hash of it.
        hash: u64,
    },
    /// How the step's key is written. Counts only together with the intent.
    Key {
        /// The step's name.
        step: Box<str>,
        /// The form that is sent from now on.
        form: KeyForm,
    },
    /// An operator finds it by this label from now on.
    Label {
        /// The label.
        label: Label,
    },
    /// A sign of life: the lease starts anew. (So it does with every change.)
    Renew,
    /// Once the attempt ends without a response, no completer should go on unasked
    /// before this time is over, counted from that write.
    Postpone {
        /// How long.
        retry_in: Duration,
    },
    /// Why the attempt is about to end without a response. Counts only together with the
    /// change that ends it.
    Reason {
        /// Why, in one line.
        why: Arc<str>,
    },
    /// The attempt ends without a response; the recovery points stay.
    Release,
    /// The attempt ends, and nothing happened: the record goes, unless a step
    /// was begun or done, or there was an attempt before. Then this is a
    /// `Release`.
    Withdraw,
    /// The attempt ends, and an operator has to decide. No step can be saved after
    /// this, so it comes last.
    Park {
        /// Why, in one line.
        why: Arc<str>,
    },
    /// The operation failed for good, and its steps are undone. From here on no
    /// step begins, and none that had not begun is saved.
    ///
    /// Only the first one counts.
    Undo {
        /// The steps that are undone, in the order in which they were done.
        steps: Box<[Box<str>]>,
        /// What the client gets then.
        response: Arc<StoredResponse>,
    },
    /// The step, one of the [plan's](Self::Undo), is undone.
    Undone {
        /// The step's name.
        step: Box<str>,
    },
    /// The attempt ends with its response. Request and steps are dropped.
    ///
    /// If the response is a failure, 4xx or 5xx, and the attempt did not reach a step
    /// that an earlier one began or paid, this is a `Park` that names the step.
    ///
    /// If the operation failed for good before, the response is the one of that
    /// [plan](Self::Undo), whatever is given here, and this is a `Park` as long as a
    /// step is still to be undone.
    Complete {
        /// The response.
        response: Arc<StoredResponse>,
        /// How long to remember it.
        retention: Duration,
        /// What the attempt came to.
        reached: Reached,
    },
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_step = |f: &mut fmt::Formatter<'_>, name, step: &str| write!(f, "{name}({step:?})");
        match self {
            Self::Begin { step } => of_step(f, "Begin", step),
            Self::Clear { step } => of_step(f, "Clear", step),
            Self::Input { step, .. } => of_step(f, "Input", step),
            Self::Key { step, .. } => of_step(f, "Key", step),
            Self::Save { step, value } => write!(f, "Save({step:?}, {} bytes)", value.len()),
            Self::Fail { step, error } => write!(f, "Fail({step:?}, {} bytes)", error.len()),
            Self::Undo { steps, response } => write!(f, "Undo({steps:?}, {response:?})"),
            Self::Undone { step } => of_step(f, "Undone", step),
            Self::Label { label } => label.fmt(f),
            Self::Renew => f.write_str("Renew"),
            Self::Postpone { retry_in } => write!(f, "Postpone({retry_in:?})"),
            Self::Reason { why } => write!(f, "Reason({why:?})"),
            Self::Release => f.write_str("Release"),
            Self::Withdraw => f.write_str("Withdraw"),
            Self::Park { why } => write!(f, "Park({why:?})"),
            Self::Complete { response, retention, .. } => write!(f, "Complete({response:?}, for {retention:?})"),
        }
    }
}

/// The claim is no longer ours: another attempt took over, or the record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct Lost;

impl Sealed for Fenced {}

impl Command for Fenced {
    type Output = Result<(), Lost>;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Self::Output> {
        // The one place where fences are checked.
        let held = current.filter(|record| matches!(record.hold, Hold::Leased { fence, .. } if fence == self.fence));
        let Some(held) = held else {
            return Decision::keep(Err(Lost));
        };
        let mut next = held.clone();
        next.version = stamp.nonce;
        for change in &self.changes {
            if !matches!(next.hold, Hold::Leased { .. }) {
                break;
            }
            // Nothing is known of what an earlier attempt did outside its steps;
            // and what was accepted or decided before this attempt stands.
            let first = held.starts_here();
            let nothing = next.steps.is_empty() && next.undoing.is_none();
            if matches!(change, Change::Withdraw) && first && nothing {
                return Decision { next: Next::Remove, output: Ok(()) };
            }
            change.make(&mut next, stamp.elapsed);
        }
        Decision::put(next, Ok(()))
    }
}

impl Change {
    pub(in crate::core) fn make(&self, record: &mut Record, elapsed: Duration) {
        match self {
            Self::Begin { step } => record.set(step, Point::Begun, elapsed),
            Self::Save { step, value } => {
                let begun = record.step(step).is_some_and(|step| step.point == Point::Begun);
                if begun && record.progress == Progress::Pending {
                    record.progress = Progress::Paid;
                }
                record.set(step, Point::Saved(on_its_own(value.clone())), elapsed);
            }
            Self::Fail { step, error } => record.set(step, Point::Failed(on_its_own(error.clone())), elapsed),
            Self::Clear { step } => record.clear(step),
            Self::Input { step, hash } => record.set_input(step, *hash),
            Self::Key { step, form } => record.set_key(step, *form),
            Self::Label { label } => record.history.set_label(label.clone()),
            Self::Renew => {}
            Self::Postpone { retry_in } => record.rest(*retry_in),
            Self::Reason { why } => record.history.set_reason(Some(Arc::clone(why))),
            // It was claimed because it had been accepted, or it was decided
            // that it may run; nothing has happened, so it still may.
            Self::Withdraw if record.mode == Mode::AtMostOnce && record.steps.is_empty() => {
                record.hold = Hold::Runnable;
                // Its history does not show an attempt that did not happen.
                record.history.set_reason(None);
            }
            Self::Release | Self::Withdraw => record.hold = Hold::Released,
            Self::Park { why } => record.park(why),
            Self::Undo { steps, response } => record.undo(steps, response, elapsed),
            Self::Undone { step } => record.set_undone(step, elapsed),
            Self::Complete { response, retention, reached } => record.respond(response, *retention, reached),
        }
    }
}
