//! The state machine: pure, synchronous, total functions on values.
//!
//! You need this module to write a [`Store`](crate::store::Store), or a front
//! end other than HTTP; users of the layer do not. What they meet of it is also
//! at the top of the crate.
//!
//! `absent → Pending → Paid → Complete → (retention) → absent`, and every move
//! is a [`Command`]. Nothing in here does I/O, reads a clock, draws a random
//! number or waits: time and nonces come in as a [`Stamp`], records come in
//! and go out by value. That is what lets the model checker walk every
//! interleaving of the very code that runs in production.

// What is in the wing, from below: `hash`, `key`, `fingerprint`, `message` (requests and
// responses, as they are kept), `grpc`; `record` (what is known about one operation, and
// how it changes); `command` (every move, a file each); `exchange` (the ledger's loop, as
// a value); `wire` (records as bytes, and nothing else knows how). It may know no other
// wing, and no two of its files import each other: each imports a name from the file
// that has it, and only this one passes names on. Start with `record/mod.rs`, then
// `command/fenced.rs`.

mod canonical;
mod command;
mod credential;
mod exchange;
mod fingerprint;
mod grpc;
mod hash;
mod key;
mod message;
mod record;
mod wire;

pub(crate) use self::canonical::canonical;
pub use self::command::acknowledge::{Acknowledge, NotAcknowledged};
// For completers: this crate's, and the model's.
#[doc(hidden)]
pub use self::command::callback::{CallbackAt, CallbackStep};
pub(crate) use self::command::claim::ClaimHere;
pub use self::command::claim::{Claim, Claimed};
pub use self::command::fenced::{Change, Fenced, Lost};
pub(crate) use self::command::resolve::ResolveAt;
pub use self::command::resolve::{NotResolved, Resolution, Resolve};
pub(crate) use self::command::resume::ResumeHere;
pub use self::command::resume::{Resume, Resumed};
pub(crate) use self::command::submit::SubmitHere;
pub use self::command::submit::{Submit, Submitted};
pub use self::command::{Command, Decision, Next};
pub use self::exchange::{Ask, Done, Exchange, Reply};
pub use self::fingerprint::Fingerprint;
#[cfg(test)]
pub(crate) use self::grpc::stands_for;
pub(crate) use self::grpc::{is_grpc, judged};
pub use self::key::{IdempotencyKey, InvalidKey, Key, KeyForm, StepKey};
pub use self::message::{NotRetained, StoredRequest, StoredResponse};
pub(crate) use self::message::{in_its_own_piece, is_of_request};
pub use self::record::Record;
#[doc(hidden)]
pub use self::record::callback::Owed;
pub use self::record::hold::{Fence, Hold, Mode, Progress, Status};
pub use self::record::moment::{Moment, What};
pub use self::record::reached::Reached;
pub use self::record::step::{Point, Step};
pub use self::record::time::{Stamp, Timestamp, Version};
pub use self::record::undo::Undoing;
pub(crate) use self::record::undo::undo_name;
pub use self::wire::{DecodeError, Encoded, PartId, Times, WIRE_FORMAT};

#[cfg(test)]
mod tests;
