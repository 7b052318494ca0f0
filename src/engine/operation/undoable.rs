//! What can be undone, and how.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::core::{KeyForm, StepKey};

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Undoes a step, given the result it had.
pub(super) type UndoWork = Box<dyn FnOnce(Bytes, StepKey) -> BoxFuture<Result<(), NotUndone>> + Send>;

/// Why a step was not [undone](super::StepFuture::undo_with).
///
/// Any error becomes `Later` by `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotUndone {
    /// Not now, for this reason. The next attempt tries again, with the same key.
    Later(String),
    /// It can't be undone, for this reason. The operation is parked with that reason.
    Never(String),
}

impl NotUndone {
    /// It can't be undone, for this reason.
    pub fn never(why: impl fmt::Display) -> Self {
        Self::Never(why.to_string())
    }
}

impl<E: std::error::Error> From<E> for NotUndone {
    fn from(error: E) -> Self {
        Self::Later(error.to_string())
    }
}

/// A step that can be undone, as this attempt knows it.
pub(super) struct Undo {
    pub(super) step: Box<str>,
    /// How; `None` while it is not known whether it happened.
    pub(super) how: Option<How>,
}

/// How a step is undone.
pub(super) struct How {
    /// The result it had.
    pub(super) result: Bytes,
    pub(super) work: UndoWork,
    /// How the key is written that is sent with it, and how long its receiver
    /// knows that.
    pub(super) form: KeyForm,
    pub(super) key_lifetime: Duration,
}
