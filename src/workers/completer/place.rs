//! What an operation holds while the completer looks at it and runs it.

use tokio::sync::OwnedSemaphorePermit;

use crate::core::Key;
use crate::engine::shares::{ScopeTag, Share, Shares};

/// A slot, and once it is known whose operation it is, a share.
#[derive(Debug)]
pub(super) struct Place {
    share: Option<Share>,
    shares: Option<Shares>,
    _slot: OwnedSemaphorePermit,
}

impl Place {
    pub(super) const fn new(slot: OwnedSemaphorePermit, share: Option<Share>, shares: Option<Shares>) -> Self {
        Self { share, shares, _slot: slot }
    }

    /// Whether it has yet to be told whose it is.
    pub(super) const fn has_no_share(&self) -> bool {
        self.shares.is_some() && self.share.is_none()
    }

    /// Whether its scope may hold it. If not, it waits in line.
    pub(super) fn take_or_hold_back(&mut self, key: Key, scope: ScopeTag) -> bool {
        self.share = self.shares.as_ref().and_then(|shares| shares.take_or_hold_back(key, scope));
        self.share.is_some()
    }
}
