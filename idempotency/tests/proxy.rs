//! The proxy as a process, before a service that does what a test tells it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

#[path = "proxy/bed.rs"]
mod bed;
#[path = "proxy/faults.rs"]
mod faults;
#[path = "proxy/identity.rs"]
mod identity;
#[path = "proxy/languages.rs"]
mod languages;
#[path = "proxy/settings.rs"]
mod settings;
#[path = "proxy/versions.rs"]
mod versions;
#[path = "proxy/wire.rs"]
mod wire;
