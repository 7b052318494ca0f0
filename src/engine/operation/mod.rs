//! The handler's side: steps whose results are stored.
//!
//! Under a resumable layer, after a crash the next attempt runs the handler again, but not
//! the finished steps: their results come from the record.
//!
//! | | before the work | after it | run again? |
//! |---|---|---|---|
//! | [`step`](Operation::step) | – | result stored | until its result is stored |
//! | [`pay`](Operation::pay) | intent stored | result stored, operation *paid* | until then, always with the same [`StepKey`] |
//! | [`once`](Operation::once) | intent stored | result stored, operation *paid* | never: in doubt, your reconciler decides, or it is parked |
//!
//! The record tells steps apart by name, not by position: a new release may add steps
//! and change their order. They may run concurrently, and those that finish at
//! the same moment are stored in one write. A step may also leave its result to the next write
//! ([`defer_save`](StepFuture::defer_save)).

mod error;
pub(crate) mod finite;
mod handle;
mod input;
mod kind;
pub(crate) mod result;
pub(crate) mod shared;
mod step;
mod stored;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod transaction;
mod undo;
mod undoable;

pub use self::error::StepError;
pub use self::handle::Operation;
pub use self::step::{Reconciled, StepFuture};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::transaction::{TransactionFuture, TransactionStep};
pub(crate) use self::undo::Undone;
pub use self::undoable::NotUndone;
