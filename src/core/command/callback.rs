//! That the end of an operation is to be told, and was.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::core::Key;
use crate::core::fingerprint::update_framed;
use crate::core::record::history::What;
use crate::core::key::Hex;
use crate::core::record::{Hold, Record, Stamp, Status, Version};
use super::fenced::{Command, Decision};

/// How far the callback of an operation is that has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::core) enum Callback {
    /// Its end is to be told.
    Wanted,
    /// It ended, and someone is to be told.
    Owed(Owed),
    /// Someone was told of the end that this version made.
    Made(Version),
    /// That end could not be told.
    GivenUp(Version),
}

impl Callback {
    /// What the last write was, if it was about the callback.
    pub(in crate::core) const fn shows(&self) -> Option<What> {
        match self {
            Self::Wanted | Self::Owed(Owed { tries: 0, .. }) => None,
            Self::Owed(_) | Self::GivenUp(_) => Some(What::Called),
            Self::Made(_) => Some(What::Told),
        }
    }
}

/// A callback that is still to be made. Stored by the write that ends the
/// operation, so that nothing can come between the two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owed {
    /// The version at which the operation ended.
    pub(in crate::core) id: Version,
    pub(in crate::core) tries: u32,
    /// How long after the last write nobody else is to make it.
    pub(in crate::core) rest: Duration,
}

impl Owed {
    /// How often it was begun.
    pub(crate) const fn tries(&self) -> u32 {
        self.tries
    }

    /// Names this end of this operation, and no other.
    pub(crate) fn id(&self, key: &Key) -> String {
        let mut hash = Sha256::new();
        update_framed(&mut hash, b"C");
        update_framed(&mut hash, key.as_bytes());
        update_framed(&mut hash, &self.id.get().to_be_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        Hex(&digest[..20]).to_string()
    }
}

/// A step on the way of a callback, if it is still as far as its maker saw. Not
/// the whole record: its client may acknowledge it meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CallbackAt {
    id: Version,
    /// Nobody else begins the same try.
    tries: u32,
    step: CallbackStep,
}

impl CallbackAt {
    pub(crate) const fn new(owed: &Owed, step: CallbackStep) -> Self {
        Self { id: owed.id, tries: owed.tries, step }
    }
}

/// What becomes of a callback.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CallbackStep {
    /// It is about to be made. For so long nobody else is to.
    Begin { lease: Duration },
    /// It was made.
    Made,
    /// It failed, and is to be made again after this time.
    Failed { rest: Duration },
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

impl Record {
    /// The callback that is still to be made for it.
    pub(crate) fn owed(&self) -> Option<&Owed> {
        match self.callback.as_deref() {
            Some(Callback::Owed(owed)) => Some(owed),
            _ => None,
        }
    }

    /// Whether the write of this version is what is there, or ended it and only
    /// its callback went on since.
    pub(crate) fn is_of_write(&self, version: Version) -> bool {
        let ended = match self.callback.as_deref() {
            Some(Callback::Owed(Owed { id, .. }) | Callback::Made(id) | Callback::GivenUp(id)) => Some(*id),
            _ => None,
        };
        self.version == version || ended == Some(version)
    }

    /// Whether a write that stored this record is to wake who makes callbacks.
    pub(crate) fn owes_since_now(&self) -> bool {
        self.owed().is_some_and(|owed| owed.id == self.version)
    }

    /// The status that a store files it under: a complete record that still
    /// owes a callback is found, and kept, like an unfinished one.
    ///
    /// For stores, beside [`due`](Self::due); everyone else asks for its
    /// [`status`](Self::status).
    pub fn index_class(&self) -> Status {
        match self.status() {
            Status::Complete if self.owed().is_some() => Status::Paid,
            status => status,
        }
    }

    /// Its version is that of the write that ends it.
    pub(in crate::core) fn owe(&mut self) {
        if self.callback.is_some() {
            let owed = Owed { id: self.version, tries: 0, rest: Duration::ZERO };
            self.callback = Some(Box::new(Callback::Owed(owed)));
        }
    }

    /// It goes on; what was owed would be out of date.
    pub(in crate::core) fn owe_no_more(&mut self) {
        let ended = self.status() == Status::Complete || matches!(self.hold, Hold::Parked { .. });
        if !ended && self.callback.is_some() {
            self.callback = Some(Box::new(Callback::Wanted));
        }
    }
}
