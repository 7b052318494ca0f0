//! The public surface of a crate, read from its sources.
//!
//! What `lib.rs` leads to is public, as it is for the compiler: by `pub mod`, and by
//! `pub use` of a name, a renamed one, a module or a glob. The list has each public item
//! once, at its shortest path, with all of its members and `impl`s, and the features that
//! it needs. Names in it are whole paths, so that another import is another line.
//!
//! What it can't follow it refuses: a panic here is a red test. What it can't see is in
//! `docs/decisions/0015-the-public-surface.md`.

pub mod attributes;
mod exports;
mod impls;
mod list;
mod member;
mod paths;
mod sources;
mod text;

pub use list::surface;
pub use sources::{Sources, read};
