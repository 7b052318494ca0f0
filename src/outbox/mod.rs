//! Calls that must be made: kept in a store, and sent until they have a final response. It may
//! know `client`, `workers` and `operator` besides what is below them.
//!
//! Start with [`Outbox`]: its settings, and `send_later`. `driver` looks for what is due, `attempt`
//! sends one call, `answer` decides what a response means for it, and `call` is what there is to
//! see of it.

mod answer;
mod attempt;
mod call;
mod driver;
mod error;
mod sender;
mod settings;

pub use self::call::{Call, CallState, Calls};
pub use self::driver::OutboxRound;
pub use self::error::{InvalidOutboxName, SendLaterError};
pub use self::settings::Outbox;
