//! wip
#![cfg_attr(docsrs, feature(doc_cfg))]

mod attempt;
mod body;
pub mod clock;
pub mod core;
mod detach;
mod event;
mod extract;
mod future;
mod layer;
mod ledger;
mod operation;
mod policy;
mod response;
mod run;
mod runner;
mod scope;
mod service;
pub mod store;
mod sync;

pub use self::body::{RequestBody, ResponseBody};
pub use self::event::{Event, EventKind};
#[cfg(feature = "axum")]
pub use self::extract::MissingOperation;
pub use self::future::ResponseFuture;
pub use self::layer::IdempotencyLayer;
pub use self::ledger::Ledger;
pub use self::operation::{Operation, Reconciled, StepError, StepFuture};
pub use self::policy::Outcome;
pub use self::response::Refusal;
pub use self::runner::{RunError, Runner};
pub use self::scope::Scope;
pub use self::service::Idempotency;
