//! What all handles to one attempt share.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};

use super::undoable::Undo;
use crate::core::IdempotencyKey;
use crate::util::signal::lock;

/// What the handler did in one attempt. A part of the attempt: it costs no allocation of its own.
#[derive(Default)]
pub(crate) struct Handled {
    /// As the client sent it.
    pub(super) idempotency_key: OnceLock<IdempotencyKey>,
    /// The steps this attempt has touched.
    pub(super) used: Mutex<HashMap<Box<str>, StepUse>>,
    /// Those that can be undone, in the order in which they were done.
    pub(super) undos: Mutex<Vec<Undo>>,
    pub(super) undoing: AtomicBool,
}

impl Handled {
    /// Lets go of what undoing would need: that is over, and it may hold what the handler had.
    pub(crate) fn forget_undos(&self) {
        // Dropped without the lock: it is not ours.
        drop(std::mem::take(&mut *lock(&self.undos)));
    }
}

/// What this attempt did with a step's name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StepUse {
    Running,
    /// It ended, and its result is stored.
    Stored,
    /// It ended before it was begun, and may be tried again.
    Again,
    /// It was begun and ended without a result.
    InDoubt,
    /// It was begun, by this attempt or an earlier one, and is known not to have happened.
    MayRun,
}
