//! What a completer did.

/// What became of the operations that a completer found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How many were due.
    pub found: usize,
    /// They are complete now.
    pub completed: usize,
    /// They ran and are not complete; a completer will try them again.
    pub released: usize,
    /// They are parked: an operator has to decide.
    pub parked: usize,
    /// A reconciler found out what happened.
    pub reconciled: usize,
    /// Another holder had them, or only their client can continue them.
    pub skipped: usize,
    /// The callback of their end was delivered: see [`Callback`](crate::Callback).
    pub callbacks_delivered: usize,
    /// The completer called their callback, which failed.
    pub callbacks_failed: usize,
    /// Their records can't be read. The completer reports each as
    /// [`Unreadable`](crate::EventKind::Unreadable), and leaves it alone for an hour.
    pub unreadable: usize,
    /// The store failed, or the claim was lost.
    pub failed: usize,
}

/// What became of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    Completed,
    Released,
    Parked,
    Reconciled,
    CallbackDelivered,
    CallbackFailed,
    Skipped,
    /// Its scope holds too many slots; it is met again.
    HeldBack,
    Unreadable,
    Failed,
}

impl Disposition {
    /// Whether the operation is over, as far as a completer is concerned.
    pub(super) const fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Parked | Self::Reconciled)
    }
}

impl Report {
    pub(super) const fn add(&mut self, did: Disposition) {
        match did {
            Disposition::Completed => self.completed += 1,
            Disposition::Released => self.released += 1,
            Disposition::Parked => self.parked += 1,
            Disposition::Reconciled => self.reconciled += 1,
            Disposition::CallbackDelivered => self.callbacks_delivered += 1,
            Disposition::CallbackFailed => self.callbacks_failed += 1,
            Disposition::Skipped => self.skipped += 1,
            // It is counted when it is started again.
            Disposition::HeldBack => self.found -= 1,
            Disposition::Unreadable => self.unreadable += 1,
            Disposition::Failed => self.failed += 1,
        }
    }
}
