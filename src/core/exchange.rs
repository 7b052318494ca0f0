//! The loop around a command, as a value: look, decide, swap, again.

use std::sync::Arc;
use std::time::Duration;

use super::command::{Command, Decision, Next};
use super::record::Record;
use super::record::time::{Intake, Stamp, Timestamp, Version};

/// One command on its way through a store.
///
/// The loop of the ledger, without the waiting: it says what to [`Ask`] the
/// store, takes the [`Reply`], and is [`Done`] at last. A driver
/// does the I/O; the ledger does so with `async`, the model checker with every
/// reply a store could give.
///
/// A write whose reply was lost is decided by looking: its version is a nonce
/// minted for this exchange, so finding it means that the write took. A write
/// over another record is another write, and gets its own nonce: with the
/// old one, a delayed write of a worker that saw the first would fit again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exchange<C, T> {
    command: C,
    nonce: Version,
    elapsed: Duration,
    by: Option<Arc<str>>,
    callback: bool,
    in_hand: bool,
    intake: Intake,
    /// What the last write expected to find.
    expected: Option<Version>,
    /// The last decision. It stands once `known` says so.
    decision: Option<Decision<T>>,
    seen: Seen,
    known: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Seen {
    Nothing,
    /// Not seen in the store: good enough to write on, as a write compares, and never
    /// good enough to decide by alone.
    Guess(Option<Arc<Record>>),
    Record(Option<Record>, Timestamp),
}

impl Seen {
    fn record(self) -> Option<Record> {
        match self {
            Self::Record(record, _) => record,
            Self::Nothing | Self::Guess(_) => None,
        }
    }
}

/// What an [`Exchange`] asks of the store.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "every driver must handle all of them")]
pub enum Ask<'a> {
    /// Load the record.
    Load,
    /// Put `next` in the place of what is at `expected`.
    Swap {
        /// The version that must be there; `None` for no record.
        expected: Option<Version>,
        /// What to put there.
        next: &'a Record,
    },
    /// Remove the record at `expected`.
    Remove {
        /// The version that must be there.
        expected: Version,
    },
    /// Nothing more: the outcome is known.
    Finish,
}

/// What the store said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every driver must give one of them")]
pub enum Reply {
    /// What is there, and the store's time: the reply to a load, or to a write
    /// that found something else than it expected. (A refused write that shows
    /// the very version it expected is none: that is `Unknown`, and to be
    /// counted, or the two would ask each other for ever.)
    Found(Option<Record>, Timestamp),
    /// The write took.
    Written,
    /// It is not known: an error, a time-out, a lost reply.
    Unknown,
}

/// How an [`Exchange`] ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "these two are all there is")]
pub struct Done<T> {
    /// What the command returned.
    pub output: T,
    /// The record after it, as far as it is known.
    pub record: Option<Record>,
}

impl<C: Command<Output = T>, T> Exchange<C, T> {
    const fn new(command: C, nonce: Version, seen: Seen) -> Self {
        Self {
            command,
            nonce,
            elapsed: Duration::ZERO,
            by: None,
            callback: false,
            in_hand: false,
            intake: Intake::Open,
            expected: None,
            decision: None,
            seen,
            known: false,
        }
    }

    /// What the history is to say about its writes: see [`Stamp`].
    #[must_use]
    pub fn with_metadata(mut self, by: Option<Arc<str>>, elapsed: Duration) -> Self {
        self.describe(by, elapsed);
        self
    }

    /// The same in its place: it is large.
    pub(crate) fn describe(&mut self, by: Option<Arc<str>>, elapsed: Duration) {
        (self.by, self.elapsed) = (by, elapsed);
    }

    /// The same as [`in_hand`](Self::in_hand), [`taking`](Self::taking) and
    /// [`calling_back`](Self::calling_back), in its place.
    pub(crate) const fn set(&mut self, in_hand: bool, intake: Intake, callback: bool) {
        (self.in_hand, self.intake, self.callback) = (in_hand, intake, callback);
    }

    /// Whether the operation that it may begin has a callback.
    #[must_use]
    pub const fn calling_back(mut self, callback: bool) -> Self {
        self.callback = callback;
        self
    }

    /// Whether this process still has the operation in hand: see [`Stamp`].
    #[must_use]
    pub const fn in_hand(mut self, in_hand: bool) -> Self {
        self.in_hand = in_hand;
        self
    }

    /// Which work this process may begin: see [`Intake`]. It is asked once: work that was let
    /// in is let in to its end.
    #[must_use]
    pub const fn taking(mut self, intake: Intake) -> Self {
        self.intake = intake;
        self
    }

    /// Starts with a look at the store.
    pub const fn looking(command: C, nonce: Version) -> Self {
        Self::new(command, nonce, Seen::Nothing)
    }

    /// Starts with a guess at what the store has, which saves the look if it
    /// is right and costs nothing if it is wrong: a write compares, and its
    /// reply shows what is there instead. If a guess leads to no write, the
    /// exchange loads the record; it decides nothing by a guess alone.
    pub const fn guessing(command: C, nonce: Version, guess: Option<Arc<Record>>) -> Self {
        Self::new(command, nonce, Seen::Guess(guess))
    }

    /// What to ask the store next.
    pub fn ask(&mut self) -> Ask<'_> {
        let (record, now, guessed) = match &self.seen {
            Seen::Nothing => return Ask::Load,
            Seen::Guess(record) => (record.as_deref(), Timestamp::default(), true),
            Seen::Record(record, now) => (record.as_ref(), *now, false),
        };
        let live = record.filter(|record| !record.is_expired(now));
        let (nonce, elapsed, callback) = (self.nonce, self.elapsed, self.callback);
        let stamp =
            Stamp { now, nonce, elapsed, by: self.by.as_deref(), callback, in_hand: self.in_hand, intake: self.intake };
        let expected = record.map(Record::version);
        self.expected = expected;
        let decision = self.decision.insert(self.command.apply(live, stamp));
        match (&decision.next, expected) {
            (Next::Put(next), expected) => Ask::Swap { expected, next },
            (Next::Remove, Some(expected)) => Ask::Remove { expected },
            (Next::Keep | Next::Remove, _) if guessed => Ask::Load,
            (Next::Keep | Next::Remove, _) => {
                self.known = true;
                Ask::Finish
            }
        }
    }

    /// Takes in what the store said; `true` once the outcome is known.
    pub fn answer(&mut self, reply: Reply) -> bool {
        match reply {
            Reply::Written => self.known = true,
            Reply::Unknown => self.seen = Seen::Nothing,
            Reply::Found(record, now) => {
                self.known = self.took(record.as_ref());
                let elsewhere = record.as_ref().map(Record::version) != self.expected;
                if !self.known && self.decision.is_some() && elsewhere {
                    self.nonce = self.nonce.successor();
                }
                self.seen = Seen::Record(record, now);
            }
        }
        self.known
    }

    /// Whether our own write is what is there.
    fn took(&self, found: Option<&Record>) -> bool {
        match (&self.decision, found) {
            (Some(Decision { next: Next::Put(_), .. }), Some(found)) => found.is_of_write(self.nonce),
            (Some(Decision { next: Next::Remove, .. }), None) => true,
            _ => false,
        }
    }

    /// The outcome, after [`Ask::Finish`] or once [`answer`](Self::answer) returned `true`;
    /// `None` before that.
    pub fn finish(mut self) -> Option<Done<T>> {
        self.outcome()
    }

    /// The same, taken out of its place: it is large.
    pub(crate) fn outcome(&mut self) -> Option<Done<T>> {
        // Taken apart in place: records are large, and this is on every path.
        let Decision { next, output } = self.decision.take_if(|_| self.known)?;
        let record = match next {
            Next::Put(record) => {
                // What was written over is let go: its room may be used again.
                self.seen = Seen::Nothing;
                Some(record)
            }
            Next::Keep => std::mem::replace(&mut self.seen, Seen::Nothing).record(),
            Next::Remove => None,
        };
        Some(Done { output, record })
    }

    /// The record that its last decision was to write, if it was to write one.
    pub const fn writes(&self) -> Option<&Record> {
        match &self.decision {
            Some(Decision { next: Next::Put(record), .. }) => Some(record),
            _ => None,
        }
    }

    /// The store's time when it was last seen what is there.
    pub(crate) const fn seen_at(&self) -> Option<Timestamp> {
        match &self.seen {
            Seen::Record(_, now) => Some(*now),
            Seen::Nothing | Seen::Guess(_) => None,
        }
    }

    /// The nonce of its last write, or of the next one if there was none.
    pub const fn nonce(&self) -> Version {
        self.nonce
    }
}
