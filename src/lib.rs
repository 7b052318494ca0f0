//! wip
mod attempt;
pub mod clock;
pub mod core;
mod detach;
mod event;
mod ledger;
mod operation;
mod response;
mod run;
pub mod store;
mod sync;
pub use ledger::Ledger;
pub use operation::*;
