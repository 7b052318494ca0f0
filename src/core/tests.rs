//! The core, cell by cell.

mod keys;
mod messages;
mod submit;
mod transitions;
mod wire;
