//! The core, cell by cell.

mod keys;
mod messages;
mod transitions;
mod wire;
