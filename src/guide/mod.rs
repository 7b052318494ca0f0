//! The long documents.
//!
//! Nothing but text, for readers of the documentation; its examples may use all of the crate.
//! Start with [`guarantees`].

#[doc = include_str!("glossary.md")]
pub mod glossary {}

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("crashes.md")]
pub mod crashes {}

#[doc = include_str!("problems.md")]
pub mod problems {}

#[doc = include_str!("clients.md")]
pub mod clients {}

#[doc = include_str!("order.md")]
pub mod order {}

#[doc = include_str!("openapi.md")]
pub mod openapi {}

#[cfg(feature = "testing")]
#[doc = include_str!("testing.md")]
pub mod testing {}

#[doc = include_str!("completer.md")]
pub mod completer {}

#[cfg(feature = "client")]
#[doc = include_str!("client.md")]
pub mod client {}

#[cfg(feature = "client")]
#[doc = include_str!("outbox.md")]
pub mod outbox {}

#[doc = include_str!("operator.md")]
pub mod operator {}

#[cfg(feature = "inspector")]
#[doc = include_str!("inspector.md")]
pub mod inspector {}

#[doc = include_str!("background.md")]
pub mod background {}

#[doc = include_str!("policies.md")]
pub mod policies {}

#[doc = include_str!("presets.md")]
pub mod presets {}

#[doc = include_str!("compensation.md")]
pub mod compensation {}

#[doc = include_str!("stored.md")]
pub mod stored {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("runbook.md")]
pub mod runbook {}

#[doc = include_str!("scale.md")]
pub mod scale {}

#[doc = include_str!("deploys.md")]
pub mod deploys {}

#[doc = include_str!("proxy.md")]
pub mod proxy {}

#[doc = include_str!("maintenance.md")]
pub mod maintenance {}

#[cfg(feature = "schedule")]
#[doc = include_str!("schedules.md")]
pub mod schedules {}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
#[doc = include_str!("transactions.md")]
pub mod transactions {}
