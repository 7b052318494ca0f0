//! The `payment` example behind a network that fails, and clients that pay all the same: with
//! this crate's layer over hyper-util and over reqwest.
//!
//! A *schedule* is what goes wrong with each connection of one payment, from a seed. However it
//! goes, the client has the right response in the end, and the gateway's log has one charge.

mod fault;
mod payer;
mod proxy;
mod run;

pub use crate::fault::{Action, Fault, Place};
pub use crate::payer::{Stack, over_hyper, over_reqwest};
pub use crate::proxy::Proxy;
pub use crate::run::{Report, run};
