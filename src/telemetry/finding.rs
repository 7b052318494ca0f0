//! What a watcher reports.

use std::fmt;

use crate::core::{Key, Timestamp};

/// Something that an operator should know of.
///
/// Displayed, it is one line: what, which operation, the cause, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What kind of finding it is.
    pub kind: FindingKind,
    /// The operation, if the finding is about one: the hash of its key.
    pub key: Option<Key>,
    /// The cause, in one line.
    pub cause: String,
    /// Since when: by the store's clock if the finding is about what the store has,
    /// by this process's clock otherwise.
    pub since: Timestamp,
    /// The watcher reported it before, and it is over now.
    pub over: bool,
}

/// What kind of [`Finding`] it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingKind {
    /// The operation is parked: it waits for an operator.
    Parked,
    /// The operation has no holder, and what it did is unknown: it ran in
    /// at-most-once mode, or a step was begun and has no result.
    InDoubt,
    /// Its client has a response that could not be stored.
    Unsaved,
    /// A payment is on record, and for too long no response.
    Paid,
    /// Claimed, and for too long neither paid nor complete.
    Pending,
    /// A record can't be read.
    Unreadable,
    /// The store survives less than is required.
    BelowDurability,
    /// The store was wiped, exchanged, or is back at an earlier state.
    EpochChanged,
    /// The store does not respond, so the watcher sees nothing.
    StoreAway,
    /// The store has more than the watcher reads in one round.
    Capped,
}

impl FindingKind {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Parked,
        Self::InDoubt,
        Self::Unsaved,
        Self::Paid,
        Self::Pending,
        Self::Unreadable,
        Self::BelowDurability,
        Self::EpochChanged,
        Self::StoreAway,
        Self::Capped,
    ];

    /// Its name, as the metrics have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::InDoubt => "in-doubt",
            Self::Unsaved => "unsaved",
            Self::Paid => "paid",
            Self::Pending => "pending",
            Self::Unreadable => "unreadable",
            Self::BelowDurability => "below-durability",
            Self::EpochChanged => "epoch-changed",
            Self::StoreAway => "store-away",
            Self::Capped => "capped",
        }
    }

    /// What to do first.
    pub const fn first_response(self) -> &'static str {
        match self {
            Self::Parked => "find out what happened, then decide: store a response, decide its step, or run it again",
            Self::InDoubt => "ask the receiver whether it happened, then decide; let a reconciler do so next time",
            Self::Unsaved => "keep this process alive and bring the store back: only it knows the response",
            Self::Paid => {
                "check that a completer runs and what its attempts report: the client paid and has no response"
            }
            Self::Pending => "check whether the handler hangs, and that a completer runs",
            Self::Unreadable => {
                "roll back the release if its format is newer, else restore that record; do not delete it"
            }
            Self::BelowDurability => "undo what changed the store's settings, or stop taking payments on it",
            Self::EpochChanged => {
                "stop completers, find out what was lost, and ask the receivers before anything runs again"
            }
            Self::StoreAway => "bring the store back; keyed requests are refused meanwhile",
            Self::Capped => "find out why so much is unfinished: is a completer running, is a receiver down?",
        }
    }
}

impl Finding {
    /// What to do first.
    pub const fn first_response(&self) -> &'static str {
        self.kind.first_response()
    }

    /// Whether it says the same: what a failing store says may differ from one
    /// call to the next, and is no news.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let loose = self.kind == FindingKind::StoreAway;
        self.kind == other.kind && self.over == other.over && (loose || self.cause == other.cause)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(key) = &self.key {
            write!(f, " {key}")?;
        }
        if self.over {
            return f.write_str(": over");
        }
        write!(f, ": {}; {}", self.cause, self.first_response())
    }
}
