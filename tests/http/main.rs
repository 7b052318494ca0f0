//! The layer: what every request gets, whatever happens. Over scripted services,
//! without a socket, but for `axum` and `wire`.
//!
//! Numbers in comments ("peer bug 38") are those of the bugs that libraries
//! like this one shipped.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod axum;
mod background;
mod bodies_apart;
mod coverage;
mod drain;
mod events;
mod fidelity;
mod fingerprint;
mod fingerprint_rules;
mod grpc;
mod hangup;
mod kept;
mod key_member;
mod keys;
mod lease;
mod maintenance;
mod near_cache;
mod nested;
mod outage;
mod outcome;
mod outcomes;
mod outside;
mod oversize;
mod panics;
mod presets;
mod problems;
mod ready;
mod reasons;
mod redacted;
mod redaction;
mod references;
mod replay;
mod replay_hook;
mod retries;
mod routes;
mod scope;
mod streams;
mod taken_back;
mod trailers;
mod uploads;
mod waiting;
mod webhooks;
mod wire;
mod words;
