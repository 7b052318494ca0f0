//! That an operation failed for good, and what is undone because of it.

use std::sync::Arc;
use std::time::Duration;

use super::step::Step;
use super::time::Version;
use crate::core::message::{StoredResponse, arc, piece};

/// What the history and the events call the undoing of a step. Nothing is told by this
/// name: a handler may call a step of its own so.
pub(crate) fn undo_name(step: &str) -> String {
    format!("undo {step}")
}

/// The plan of an operation that failed for good: the steps to undo, and the response that
/// follows. Written once, before any step is undone; from then on no other step runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Undoing {
    pub(in crate::core) steps: Box<[Box<str>]>,
    pub(in crate::core) response: Arc<StoredResponse>,
    /// By which attempt, and how long after its claim.
    pub(in crate::core) attempt: u32,
    pub(in crate::core) after: Duration,
    /// The version this was written under, as of a [`Step`].
    pub(in crate::core) written: Version,
}

impl Undoing {
    /// The names of the steps that are undone, in the order in which they were done.
    pub fn steps(&self) -> &[Box<str>] {
        &self.steps
    }

    /// What the operation failed with: its response, once all of it is undone.
    pub const fn response(&self) -> &Arc<StoredResponse> {
        &self.response
    }

    /// The attempt that made it; the first is 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The steps that are still to be undone, the latest first. One that is not on
    /// record is among them, for it is not known that it is undone.
    pub(super) fn left<'a>(&'a self, steps: &'a [Arc<Step>]) -> impl Iterator<Item = &'a str> {
        let is_left = |name: &&str| Step::find(steps, name).is_none_or(|step| step.undone.is_none());
        self.steps.iter().rev().map(AsRef::as_ref).filter(is_left)
    }

    pub(super) fn held(&self) -> usize {
        let names: usize = self.steps.iter().map(|name| piece(name.len())).sum();
        arc(size_of::<Self>()) + piece(size_of_val(&*self.steps)) + names + self.response.held()
    }
}
