//! The state machine: pure, synchronous, total functions on values.
//!
//! You need this module to write a [`Store`](crate::store::Store), or to read what an
//! [`Operator`](crate::Operator) shows; users of the layer do not. What they meet of it
//! is also at the top of the crate. The moves and the loop around them are the crate's
//! own: they are public for its tests, not shown here, and not a stable part of the API.
//!
//! `absent → Pending → Paid → Complete → (retention) → absent`, and every move
//! is a command. Nothing in here does I/O, reads a clock, draws a random
//! number or waits: time and nonces come in as a stamp, records come in
//! and go out by value. That is what lets the model checker walk every
//! interleaving of the very code that runs in production.
//!
//! It may know no other wing of this crate. Start with [`Command`], then `record`, what a
//! command moves, and `command`, a file for each move.

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
mod json;
mod key;
mod line;
mod message;
mod number;
mod packed;
mod record;
mod reference;
mod sealed;
mod text;
mod window;
mod wire;

pub(crate) use self::canonical::canonical;
#[doc(hidden)]
pub use self::command::acknowledge::{Acknowledge, NotAcknowledged};
// For completers: this crate's, and the model's.
#[doc(hidden)]
pub use self::command::callback::{CallbackAt, CallbackStep, EndCallback, NotEnded};
#[doc(hidden)]
pub use self::command::claim::{Claim, Claimed};
#[doc(hidden)]
pub use self::command::control::{Overtaken, SetControl};
#[doc(hidden)]
pub use self::command::fenced::{Change, Fenced, Lost};
pub use self::command::resolve::Resolution;
#[doc(hidden)]
pub use self::command::resolve::{NotResolved, Resolve};
pub(crate) use self::command::resume::tried;
#[doc(hidden)]
pub use self::command::resume::{Resume, Resumed};
#[doc(hidden)]
pub use self::command::submit::{Submit, Submitted};
#[doc(hidden)]
pub use self::command::{Command, Decision, Next};
#[doc(hidden)]
pub use self::exchange::{Ask, Done, Exchange, Reply};
pub use self::fingerprint::Fingerprint;
#[cfg(test)]
pub(crate) use self::grpc::stands_for;
pub(crate) use self::grpc::{is_grpc, judged};
pub(crate) use self::json::{spelled, write_string};
pub(crate) use self::key::quoted;
#[cfg(feature = "client")]
pub(crate) use self::key::uuid;
pub use self::key::{IdempotencyKey, InvalidKey, Key, KeyForm, StepKey};
pub(crate) use self::line::push_line;
pub use self::message::{NotRetained, StoredRequest, StoredResponse};
pub(crate) use self::message::{in_its_own_piece, is_of_request};
pub(crate) use self::packed::Packed;
#[cfg(feature = "schedule")]
pub(crate) use self::record::NEVER;
#[cfg(any(feature = "client", feature = "conformance", test))]
pub(crate) use self::record::OUTGOING;
pub use self::record::Record;
#[doc(hidden)]
pub use self::record::callback::PendingCallback;
pub use self::record::entry::{HistoryEntry, HistoryEvent};
pub use self::record::hold::{Fence, Hold, Mode, Progress, Status};
pub use self::record::label::{Label, Labels};
pub(crate) use self::record::outlook::Outlook;
#[doc(hidden)]
pub use self::record::reached::Reached;
pub(crate) use self::record::reason::one_line;
pub(crate) use self::record::start::{NotStarted, Standing, Start};
pub use self::record::step::{Point, Step};
#[doc(hidden)]
pub use self::record::time::{Intake, Stamp};
pub use self::record::time::{Timestamp, Version};
pub use self::record::undo::Undoing;
pub(crate) use self::record::undo::undo_name;
pub use self::reference::{InvalidReference, Reference};
pub(crate) use self::sealed::{Cipher, SealError};
#[cfg(feature = "encryption")]
pub(crate) use self::wire::envelope::{Envelope, NONCE};
pub use self::wire::{DecodeError, Encoded, PartId, Times, WIRE_FORMAT};

pub use self::window::{Covers, Maintenance, PlannedWindow, Window, WindowState};
pub(crate) use self::window::{Rest, Work, rest_of};

#[cfg(test)]
mod tests;
