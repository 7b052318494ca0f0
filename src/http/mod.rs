//! The edge: requests in, responses out. It translates, and decides nothing that is
//! stored.
//!
//! It may know `core`, `util`, `store`, `telemetry` and `engine`. Start with
//! [`service`]: `Idempotency::call`; then [`guarded`], from a claim to its response.
//! [`layer`] has the settings, [`problem`] is the only place that builds refusals.
//! [`background`], [`accept`] and [`status`] accept a request now and show its response
//! later.

pub(crate) mod accept;
pub(crate) mod acceptance;
pub(crate) mod background;
pub(crate) mod body;
pub(crate) mod callback;
pub(crate) mod coverage;
pub(crate) mod extract;
pub(crate) mod fingerprint;
pub(crate) mod first_request;
pub(crate) mod first_sent;
pub(crate) mod grpc;
pub(crate) mod guarded;
pub(crate) mod head;
pub(crate) mod header;
pub(crate) mod key_member;
pub(crate) mod key_rules;
pub(crate) mod layer;
pub(crate) mod policy;
pub(crate) mod prefer;
mod presets;
pub(crate) mod problem;
pub(crate) mod queue;
pub(crate) mod redaction;
pub(crate) mod replay_hook;
pub(crate) mod replay_mark;
pub(crate) mod retry_advice;
pub(crate) mod route;
pub(crate) mod scope;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod streaming;
pub(crate) mod target;
pub(crate) mod upload;
pub(crate) mod whose;
pub(crate) mod words;
