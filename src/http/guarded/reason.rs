//! Why a handler's response does not count, in words for the history.

use http::header::CONTENT_TYPE;
use http::response::Parts;

use crate::core::{NotRetained, is_grpc};
use crate::engine::content::Content;
use crate::http::problem::problem_type;

/// The status, and what kind of problem it is, if the handler says so.
#[cold]
pub(super) fn reason(parts: &Parts, content: &Result<Content, NotRetained>) -> String {
    let kind = parts.headers.get(CONTENT_TYPE).map_or(&[][..], |kind| kind.as_bytes());
    if is_grpc(kind) {
        let trailers = content.as_ref().ok().and_then(|content| content.trailers.as_deref());
        let status = [Some(&parts.headers), trailers].into_iter().flatten().find_map(|lines| lines.get("grpc-status"));
        if let Some(Ok(status)) = status.map(|status| status.to_str()) {
            return format!("grpc-status {status}");
        }
    }
    let status = parts.status.as_u16();
    match content {
        Ok(content) => match problem_type(kind, &content.bytes) {
            Some(name) => format!("status {status}, problem {name}"),
            None => format!("status {status}"),
        },
        Err(why) => format!("status {status}, and its body is not retained ({})", why.name()),
    }
}
