//! The state that the library's hooks share with a transaction.

use std::sync::atomic::{AtomicBool, Ordering};

/// How it stands with a transaction, for the library's hooks.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The commit that comes is the store's. Any other is refused: it would part the rows
    /// from their recovery point.
    may_commit: AtomicBool,
    /// It was rolled back, by a statement or by the library.
    rolled_back: AtomicBool,
    /// No caller wants it any more.
    given_up: AtomicBool,
    /// The connection is not to be used again: the work may have changed it.
    unfit: AtomicBool,
}

impl State {
    pub(super) fn may_commit(&self) -> bool {
        self.may_commit.load(Ordering::SeqCst)
    }

    pub(super) fn let_commit(&self) {
        self.may_commit.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_rolled_back(&self) -> bool {
        self.rolled_back.load(Ordering::SeqCst)
    }

    pub(super) fn set_rolled_back(&self) {
        self.rolled_back.store(true, Ordering::SeqCst);
    }

    #[cfg(feature = "sqlx-sqlite")]
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    pub(super) fn is_unfit(&self) -> bool {
        self.unfit.load(Ordering::SeqCst)
    }

    pub(super) fn set_unfit(&self) {
        self.unfit.store(true, Ordering::SeqCst);
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }
}
