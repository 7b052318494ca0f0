//! gRPC responds 200 whatever happened, and says beside it what did.

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::message::StoredResponse;

/// The status by which a response is judged: its own, unless it is a 200 of gRPC.
/// There it is the one that stands for `grpc-status`, which is in the head of a response
/// that has nothing else, and else in the trailers.
pub(crate) fn judged<'a, H, T>(status: StatusCode, head: H, trailers: T) -> StatusCode
where
    H: IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)> + Clone,
    T: IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>,
{
    if status != StatusCode::OK {
        return status;
    }
    let kind = head.clone().into_iter().find(|(name, _)| **name == CONTENT_TYPE);
    if !kind.is_some_and(|(_, kind)| is_grpc(kind.as_bytes())) {
        return status;
    }
    let lines = head.into_iter().chain(trailers);
    let mut said =
        lines.filter(|(name, _)| name.as_str() == "grpc-status").map(|(_, said)| stands_for(said.as_bytes()));
    said.find(|status| *status != StatusCode::OK).unwrap_or(status)
}

/// Whether this content type is one of gRPC's.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    content_type.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
}

/// The status of HTTP that stands for one of gRPC. None is 404 or 405: that there
/// is no such thing is a handler's response, and only 12 says that there is no such route.
pub(crate) const fn stands_for(grpc_status: &[u8]) -> StatusCode {
    match grpc_status {
        b"0" => StatusCode::OK,
        b"7" => StatusCode::FORBIDDEN,
        b"8" => StatusCode::TOO_MANY_REQUESTS,
        b"16" => StatusCode::UNAUTHORIZED,
        b"12" => StatusCode::NOT_IMPLEMENTED,
        b"14" => StatusCode::SERVICE_UNAVAILABLE,
        b"4" => StatusCode::GATEWAY_TIMEOUT,
        b"3" | b"5" | b"6" | b"9" | b"10" | b"11" => StatusCode::BAD_REQUEST,
        // 1, 2, 13 and 15, and what no release of gRPC has said so far.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl StoredResponse {
    /// The status by which it is judged.
    pub(super) fn judged(&self) -> StatusCode {
        let [head, trailers] =
            [self.headers(), self.trailers()].map(|lines| lines.iter().map(|(name, value)| (name, value)));
        judged(self.status(), head, trailers)
    }
}
