//! What each file of a library names, read from its sources.
//!
//! Text is not enough for that: a path may begin with `super`, `self`, `$crate`, the name
//! of a child or another name for any of these, and it may stand in a macro's body. So the
//! files are parsed, and each path is followed to where it leads from the root of the crate.
//! A re-export is not followed: what names a module depends on that module's file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "only tests use it")]

mod attributes;
mod collect;
mod resolve;
mod tokens;

pub use collect::{Call, Library, Use};
pub use resolve::Target;
pub use surface::{Sources, read};
