//! Handlers written with steps: what they are promised, and that a crash at
//! any point keeps it.

mod crash;
mod deferred;
mod doubt;
mod input;
mod keys;
mod reached;
mod runner;
mod steps;
mod undo;
mod unreadable;
