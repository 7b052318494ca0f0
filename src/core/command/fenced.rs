//! Every move a record can make.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::callback::Callback;
use crate::core::record::history::{Past, What};
use crate::core::message::on_its_own;
use crate::core::record::reached::Reached;
use crate::core::record::{Fence, Hold, Mode, Point, Progress, Record, Stamp, Step};
use crate::core::{Fingerprint, KeyForm, StoredRequest, StoredResponse};

/// A move: what becomes of a record, and what the mover learns.
///
/// Total: every command has an answer on every record, and on none.
pub trait Command {
    /// What the mover learns.
    type Output;

    /// Decides. `current` is the record as the store has it, `None` if it has
    /// none or one that expired; `stamp` is everything else that counts.
    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Self::Output>;
}

/// What a [`Command`] decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "built by commands")]
pub struct Decision<T> {
    /// What to do with the record.
    pub next: Next,
    /// What the mover learns, once that is done.
    pub output: T,
}

/// What to do with a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every loop must handle all of them")]
pub enum Next {
    /// Leave it as it is.
    Keep,
    /// Put this in its place.
    Put(Record),
    /// Remove it.
    Remove,
}

impl<T> Decision<T> {
    pub(in crate::core) const fn keep(output: T) -> Self {
        Self { next: Next::Keep, output }
    }

    pub(in crate::core) const fn put(record: Record, output: T) -> Self {
        Self { next: Next::Put(record), output }
    }
}

/// Asks for the right to run an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a plain message")]
pub struct Claim {
    /// What the request is.
    pub fingerprint: Fingerprint,
    /// What may be done if the holder dies.
    pub mode: Mode,
    /// How long one write keeps the operation held.
    pub lease: Duration,
    /// The request, where someone may have to run it again.
    pub request: Option<Arc<StoredRequest>>,
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every front end must answer all of them")]
pub enum Claimed {
    /// The operation is ours to run, under this fence.
    Granted(Fence),
    /// Another attempt holds it, for at least this long.
    Busy(Duration),
    /// It is complete; this is the answer.
    Replay(Arc<StoredResponse>),
    /// The key was used for another request.
    Mismatch,
    /// Nobody can know whether it happened. It will not be run until someone
    /// decides.
    Unknown {
        /// Why it was parked, if it was.
        parked: Option<Arc<str>>,
    },
}

impl Command for Claim {
    type Output = Claimed;

    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Claimed> {
        let fence = Fence::of(stamp.nonce);
        let Some(current) = current else {
            return Decision::put(self.first(stamp), Claimed::Granted(fence));
        };
        // Before "busy": a wrong body is never cured by waiting.
        if !current.fingerprint.matches(&self.fingerprint) {
            return Decision::keep(Claimed::Mismatch);
        }
        if let Some(response) = current.response() {
            return Decision::keep(Claimed::Replay(Arc::clone(response)));
        }
        if let Some(left) = current.lease_left(stamp.now) {
            return Decision::keep(Claimed::Busy(left));
        }
        let both_resumable = current.mode == Mode::Resumable && self.mode == Mode::Resumable;
        let grant = match &current.hold {
            Hold::Cleared => true,
            Hold::Leased { .. } | Hold::Free => both_resumable,
            Hold::Parked { why } => {
                return Decision::keep(Claimed::Unknown { parked: Some(Arc::clone(why)) });
            }
        };
        if !grant {
            return Decision::keep(Claimed::Unknown { parked: None });
        }
        Decision::put(current.taken(stamp, self.lease), Claimed::Granted(fence))
    }
}

impl Claim {
    fn first(&self, stamp: Stamp<'_>) -> Record {
        let nonce = stamp.nonce;
        Record {
            version: nonce,
            mode: self.mode,
            fingerprint: self.fingerprint,
            hold: Hold::Leased { fence: Fence::of(nonce), lease: self.lease },
            progress: Progress::Pending,
            attempts: 1,
            forgiven: 0,
            retry_in: Duration::ZERO,
            past: Past::begun_by(stamp.by),
            accepted: false,
            callback: stamp.callback.then(|| Box::new(Callback::Wanted)),
            request: self.request.clone(),
            steps: Vec::new(),
            created_at: None,
            written_at: crate::core::Timestamp::default(),
        }
    }
}

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
    /// The step failed for good. Nothing was paid by it.
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
    /// What the step depended on. Comes with the change that writes the step,
    /// or says nothing.
    Input {
        /// The step's name.
        step: Box<str>,
        /// A hash of it.
        hash: u64,
    },
    /// How the step's key is written. Comes with the intent, or says nothing.
    Key {
        /// The step's name.
        step: Box<str>,
        /// The form that is sent from now on.
        form: KeyForm,
    },
    /// A sign of life: the lease starts anew. (So it does with every change.)
    Renew,
    /// Once the attempt ends without an answer, nobody should go on unasked
    /// before this time is over, counted from that write.
    Postpone {
        /// How long.
        retry_in: Duration,
    },
    /// The attempt ends without an answer; the recovery points stay.
    Release,
    /// The attempt ends, and nothing happened: the record goes, unless a step
    /// was begun or done, or there was an attempt before. Then this is a
    /// `Release`.
    Withdraw,
    /// The attempt ends, and a human has to look. Steps that still run can't be
    /// saved any more, so this comes last.
    Park {
        /// Why, in one line.
        why: Arc<str>,
    },
    /// The attempt ends with its answer. Request and steps are dropped.
    ///
    /// Unless the answer is a failure, 4xx or 5xx, and a step that an earlier
    /// attempt began or paid was not reached: then this is a `Park` that names
    /// the step.
    Complete {
        /// The answer.
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
            Self::Renew => f.write_str("Renew"),
            Self::Postpone { retry_in } => write!(f, "Postpone({retry_in:?})"),
            Self::Release => f.write_str("Release"),
            Self::Withdraw => f.write_str("Withdraw"),
            Self::Park { why } => write!(f, "Park({why:?})"),
            Self::Complete { response, retention, .. } => write!(f, "Complete({response:?}, for {retention:?})"),
        }
    }
}

/// The claim is no longer ours: someone else took over, or the record is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say")]
pub struct Lost;

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
            let first = next.attempts == 1 && held.has_no_past() && !held.accepted;
            if matches!(change, Change::Withdraw) && first && next.steps.is_empty() {
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
            Self::Renew => {}
            Self::Postpone { retry_in } => record.retry_in = *retry_in,
            // It was claimed because it had been accepted, or someone had decided
            // that it may run; nothing has happened, so it still may.
            Self::Withdraw if record.mode == Mode::AtMostOnce && record.steps.is_empty() => {
                record.hold = Hold::Cleared;
            }
            Self::Release | Self::Withdraw => record.hold = Hold::Free,
            Self::Park { why } => record.park(why),
            Self::Complete { response, retention, reached } => match record.hidden_by(response, reached) {
                Some((_, why)) => record.park(&why),
                None => record.complete(response, *retention),
            },
        }
    }
}

impl Record {
    /// The same, held by whoever writes this.
    pub(in crate::core) fn taken(&self, stamp: Stamp<'_>, lease: Duration) -> Self {
        let (mut next, nonce) = (self.clone(), stamp.nonce);
        next.remember(if self.attempts == 0 { What::Claimed } else { What::Resumed }, None, stamp);
        next.past.set_by(stamp.by);
        next.version = nonce;
        next.hold = Hold::Leased { fence: Fence::of(nonce), lease };
        next.attempts = next.attempts.saturating_add(1);
        next.retry_in = Duration::ZERO;
        next
    }

    /// Writes a step, unless its result is already stored: that never changes.
    pub(in crate::core) fn set(&mut self, name: &str, point: Point, after: Duration) {
        let (written, attempt) = (self.version, self.attempts);
        match self.steps.iter_mut().find(|step| &*step.name == name) {
            None => {
                let (input, key, paid) = (None, KeyForm::default(), false);
                self.steps.push(Arc::new(Step { name: name.into(), point, written, attempt, after, input, key, paid }));
            }
            Some(step) if step.point == Point::Begun && point != Point::Begun => {
                let (input, key, paid) = (step.input, step.key, matches!(point, Point::Saved(_)));
                *step = Arc::new(Step { name: name.into(), point, written, attempt, after, input, key, paid });
            }
            Some(_) => {}
        }
    }

    fn set_input(&mut self, name: &str, hash: u64) {
        if let Some(step) = self.fresh_step(name) {
            step.input = Some(hash);
        }
    }

    fn set_key(&mut self, name: &str, form: KeyForm) {
        if let Some(step) = self.fresh_step(name) {
            step.key = form;
        }
    }

    /// The step, if it is this very write that stores it.
    fn fresh_step(&mut self, name: &str) -> Option<&mut Step> {
        let fresh = |step: &&mut Arc<Step>| &*step.name == name && step.written == self.version;
        self.steps.iter_mut().find(fresh).map(Arc::make_mut)
    }

    pub(in crate::core) fn clear(&mut self, name: &str) {
        let begun = |step: &Arc<Step>| &*step.name == name && step.point == Point::Begun;
        let Some(index) = self.steps.iter().position(begun) else { return };
        self.steps.remove(index);
        // The later ones moved up, so the store has to write them again.
        for step in &mut self.steps[index..] {
            Arc::make_mut(step).written = self.version;
        }
    }

    pub(in crate::core) fn park(&mut self, why: &Arc<str>) {
        self.hold = Hold::Parked { why: Arc::clone(why) };
        self.owe();
    }

    pub(in crate::core) fn complete(&mut self, response: &Arc<StoredResponse>, retention: Duration) {
        self.progress = Progress::Complete { response: Arc::clone(response), retention };
        self.hold = Hold::Free;
        self.retry_in = Duration::ZERO;
        self.request = None;
        self.remember_steps();
        self.owe();
    }
}
