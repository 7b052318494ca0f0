//! Laws of the core, for whatever proptest comes up with.
#![cfg(test)]

mod commands;
mod corpus;
mod fingerprint;
mod keys;
mod laws;
mod wire;
