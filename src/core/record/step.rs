//! Steps: the recovery points of an operation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::time::Version;
use crate::core::key::KeyForm;
use crate::core::message::{arc, piece};

/// One named step of an operation: a recovery point.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    pub(in crate::core) name: Box<str>,
    pub(in crate::core) point: Point,
    /// The version this was written under; a swap to that version is the one
    /// that has to store it.
    pub(in crate::core) written: Version,
    /// By which attempt, and how long after its claim.
    pub(in crate::core) attempt: u32,
    pub(in crate::core) after: Duration,
    /// What it depended on, as a hash.
    pub(in crate::core) input: Option<u64>,
    /// How its key is written, since it was begun.
    pub(in crate::core) key: KeyForm,
    /// It was begun before it was done, and made the operation paid.
    pub(in crate::core) paid: bool,
    /// By which attempt it was undone, and how long after that one's claim.
    pub(in crate::core) undone: Option<(u32, Duration)>,
}

impl Step {
    /// The step's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The attempt that wrote it; the first is 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The hash of what it depended on, if the handler said so.
    pub const fn input(&self) -> Option<u64> {
        self.input
    }

    /// How the key is written that was sent with it, if its intent says so.
    pub const fn key_form(&self) -> KeyForm {
        self.key
    }

    /// Whether it is undone.
    pub const fn is_undone(&self) -> bool {
        self.undone.is_some()
    }

    /// How far the step got.
    pub const fn point(&self) -> &Point {
        &self.point
    }
}

/// How far a step got.
///
/// `Debug` shows how large a value is, and not what.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// It was begun, and its outcome is unknown.
    Begun,
    /// It was done, with this value.
    Saved(Bytes),
    /// It failed with this final error.
    Failed(Bytes),
}

impl Step {
    /// The step of this name.
    pub(super) fn find<'a>(steps: &'a [Arc<Self>], name: &str) -> Option<&'a Self> {
        steps.iter().map(Arc::as_ref).find(|step| &*step.name == name)
    }

    pub(super) fn held(&self) -> usize {
        arc(size_of::<Self>()) + piece(self.name.len()) + piece(self.point.len())
    }
}

impl Point {
    fn len(&self) -> usize {
        match self {
            Self::Begun => 0,
            Self::Saved(bytes) | Self::Failed(bytes) => bytes.len(),
        }
    }
}

/// A result is the handler's, and often what a client sent: only its size is shown.
impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("Begun"),
            Self::Saved(value) => write!(f, "Saved({} bytes)", value.len()),
            Self::Failed(error) => write!(f, "Failed({} bytes)", error.len()),
        }
    }
}
