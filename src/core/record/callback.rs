//! The callback of an operation: wanted, pending, delivered.

use std::time::Duration;

use super::entry::HistoryEvent;
use super::time::Version;
use crate::core::hash::short;
use crate::core::key::Key;

/// How far the callback of an operation is that has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::core) enum Callback {
    /// Its end will have a callback.
    Wanted,
    /// It ended, and its callback is to be made.
    Pending(PendingCallback),
    /// The callback of the end that this version made was made.
    Delivered(Version),
    /// The callback of that end was given up.
    GivenUp(Version),
}

impl Callback {
    /// What the last write was, if it was about the callback.
    pub(in crate::core) const fn shows(&self) -> Option<HistoryEvent> {
        match self {
            Self::Wanted | Self::Pending(PendingCallback { tries: 0, .. }) => None,
            Self::Pending(_) | Self::GivenUp(_) => Some(HistoryEvent::CallbackTried),
            Self::Delivered(_) => Some(HistoryEvent::CallbackDelivered),
        }
    }
}

/// A callback that is still to be made. Stored by the write that ends the
/// operation, so that nothing can come between the two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PendingCallback {
    /// The version at which the operation ended.
    pub(in crate::core) id: Version,
    pub(in crate::core) tries: u32,
    /// How long after the last write no other completer is to make it.
    pub(in crate::core) rest: Duration,
}

impl PendingCallback {
    /// How often it was begun.
    pub const fn tries(&self) -> u32 {
        self.tries
    }

    /// The version at which the operation ended.
    pub const fn end(&self) -> Version {
        self.id
    }

    /// Names this end of this operation, and no other.
    pub fn id(&self, key: &Key) -> String {
        short(b"C", [key.as_bytes().as_slice(), &self.id.get().to_be_bytes()])
    }
}
