//! The core, cell by cell.

mod intake;
mod keys;
mod messages;
mod packed;
mod reached;
mod sealed;
mod submit;
mod transitions;
mod undo;
mod windows;
mod wire;
