//! Which responses are streams: they start at once, and are not kept.

use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// This response is a stream: the client gets it as it comes, and the layer does not keep it.
/// A handler puts this into its response's extensions. By default the layer first reads a
/// response to its end, for as long as
/// [`stream_after`](crate::IdempotencyLayer::stream_after) allows.
///
/// If the first response is [final](crate::Outcome), its head says that no retry gets it:
/// `Idempotency-Replay-Unavailable: streaming`. A retry
/// runs nothing and gets the problem `not-retained`
/// ([the guide](crate::guide::problems#responses-that-are-not-retained)).
///
/// ```
/// use http::{Response, header::CONTENT_TYPE};
/// use tower_idempotency::Streaming;
///
/// fn progress<B>(lines: B) -> Response<B> {
///     let mut response = Response::new(lines);
///     response.headers_mut().insert(CONTENT_TYPE, "application/x-ndjson".parse().unwrap());
///     response.extensions_mut().insert(Streaming);
///     response
/// }
/// # assert!(progress("").extensions().get::<Streaming>().is_some());
/// ```
///
/// # Caveats
///
/// The response counts by its head: the trailers of gRPC come too late. The layer does not
/// notice if the stream breaks off. [`Operation::complete`](crate::Operation::complete)
/// ignores this mark and stores its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a mark has nothing more to say")]
pub struct Streaming;

/// How long a response with these headers may have nothing to say.
pub(crate) fn patience(headers: &HeaderMap, stream_after: Duration) -> Duration {
    if is_endless(headers) { Duration::ZERO } else { stream_after }
}

/// A stream of events has no end to wait for.
fn is_endless(headers: &HeaderMap) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let Some((media_type, rest)) = value.as_bytes().trim_ascii_start().split_at_checked(EVENTS.len()) else {
        return false;
    };
    media_type.eq_ignore_ascii_case(EVENTS) && rest.first().is_none_or(|next| matches!(next, b';' | b' ' | b'\t'))
}
