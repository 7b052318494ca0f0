//! What an operation did.

use crate::core::{Key, Mode, Point, Record, Status};
use crate::operator::shown::Shown;

/// The steps of one operation, with their results: what
/// [`verify_replay`](super::verify_replay) runs a handler against.
#[derive(Clone, Debug)]
#[must_use]
pub struct Recording {
    pub(super) key: Key,
    pub(super) record: Record,
}

impl Recording {
    pub(super) const fn new(key: Key, record: Record) -> Self {
        Self { key, record }
    }

    /// From an operation that an [`Operator`](crate::Operator) shows: an unfinished one from
    /// production, say, which the next release has to finish. `None` if it has no steps, if
    /// some of them are in doubt, if it is parked, or if it is not in resumable mode.
    pub fn of(shown: &Shown) -> Option<Self> {
        Self::is_whole(&shown.record).then(|| Self::new(shown.key, shown.record.clone()))
    }

    /// The names of the steps, in the order in which they were first written.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.record.steps().iter().map(|step| step.name())
    }

    /// Whether a handler may be run against it: what is in doubt would be done again.
    pub(super) fn is_whole(record: &Record) -> bool {
        let is_resumable = record.mode() == Mode::Resumable && record.parked_for().is_none();
        let is_resumable = is_resumable && record.status() != Status::Complete;
        let mut points = record.steps().iter().map(|step| step.point());
        is_resumable && !record.steps().is_empty() && points.all(|point| *point != Point::Begun)
    }
}
