//! The header fields that are the layer's own.

use http::HeaderName;

/// What a client sends. A `static`, for it is looked up in every request.
pub(crate) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// `Idempotent-Replayed: true` is on replays, and on nothing else.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// On a first response that no retry gets, and on what retries get instead; its
/// value says why.
pub(crate) const REPLAY_UNAVAILABLE: HeaderName = HeaderName::from_static("idempotency-replay-unavailable");

/// For how many seconds more retries get this response, where the layer tells.
pub(crate) const EXPIRES_IN: HeaderName = HeaderName::from_static("idempotency-expires-in");
