//! The long documents.

#[doc = include_str!("guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("problems.md")]
pub mod problems {}

#[doc = include_str!("completer.md")]
pub mod completer {}

#[cfg(feature = "postgres")]
#[doc = include_str!("transactions.md")]
pub mod transactions {}
