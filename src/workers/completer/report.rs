//! What a completer did.

/// What became of the operations that a completer found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How many were due.
    pub found: usize,
    /// They are complete now.
    pub completed: usize,
    /// They were run and are not complete; they will be tried again.
    pub released: usize,
    /// A human has to look.
    pub parked: usize,
    /// A reconciler found out what happened.
    pub reconciled: usize,
    /// Another holder had them, or only their client can go on.
    pub skipped: usize,
    /// The hook was called for their end: see [`Callback`](crate::Callback).
    pub told: usize,
    /// That was tried, and failed.
    pub untold: usize,
    /// What the store has can't be read. Each is told as
    /// [`Unreadable`](crate::EventKind::Unreadable), and left alone for an hour.
    pub unreadable: usize,
    /// The store failed, or the claim was lost.
    pub failed: usize,
}

/// What became of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    Completed,
    Released,
    Parked,
    Reconciled,
    Told,
    Untold,
    Skipped,
    Unreadable,
    Failed,
}

impl Did {
    /// Whether the operation is over, as far as a completer is concerned.
    pub(super) const fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Parked | Self::Reconciled)
    }
}

impl Report {
    pub(super) const fn add(&mut self, did: Did) {
        match did {
            Did::Completed => self.completed += 1,
            Did::Released => self.released += 1,
            Did::Parked => self.parked += 1,
            Did::Reconciled => self.reconciled += 1,
            Did::Told => self.told += 1,
            Did::Untold => self.untold += 1,
            Did::Skipped => self.skipped += 1,
            Did::Unreadable => self.unreadable += 1,
            Did::Failed => self.failed += 1,
        }
    }
}
