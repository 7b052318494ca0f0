//! Every move that a record can make.

pub(in crate::core) mod acknowledge;
pub(in crate::core) mod callback;
pub(in crate::core) mod claim;
pub(in crate::core) mod control;
pub(in crate::core) mod fenced;
pub(in crate::core) mod resolve;
pub(in crate::core) mod resume;
pub(in crate::core) mod submit;

use super::record::Record;
use super::record::time::Stamp;

mod sealed {
    /// Only this crate makes moves: the model walks all of them.
    pub trait Sealed {}
}

pub(in crate::core) use self::sealed::Sealed;

/// A move: what becomes of a record, and what the mover learns.
///
/// Total: every command decides on every record, and on none. Sealed: there are no
/// moves but this crate's.
///
/// ```compile_fail
/// use tower_idempotency::core::{Command, Decision, Next, Record, Stamp};
///
/// struct Erase;
///
/// impl Command for Erase {
///     type Output = ();
///
///     fn apply(&self, _: Option<&Record>, _: Stamp<'_>) -> Decision<()> {
///         Decision { next: Next::Remove, output: () }
///     }
/// }
/// ```
pub trait Command: Sealed {
    /// What the mover learns.
    type Output;

    /// Decides. `current` is the record as the store has it, `None` if it has
    /// none or one that expired; `stamp` is everything else that counts.
    fn apply(&self, current: Option<&Record>, stamp: Stamp<'_>) -> Decision<Self::Output>;
}

/// What a [`Command`] decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "built by commands")]
pub struct Decision<T> {
    /// What to do with the record.
    pub next: Next,
    /// What the mover learns, once that is done.
    pub output: T,
}

/// What to do with a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "every loop must handle all of them")]
pub enum Next {
    /// Leave it as it is.
    Keep,
    /// Put this in its place.
    Put(Record),
    /// Remove it.
    Remove,
}

impl<T> Decision<T> {
    pub(in crate::core) const fn keep(output: T) -> Self {
        Self { next: Next::Keep, output }
    }

    pub(in crate::core) const fn put(record: Record, output: T) -> Self {
        Self { next: Next::Put(record), output }
    }
}
