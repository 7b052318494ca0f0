//! Presets, each held to what its original documents.

mod ietf;
mod stripe_v1;
