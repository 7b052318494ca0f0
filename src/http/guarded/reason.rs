//! Why a handler's response does not count, in words for the history.

use http::header::CONTENT_TYPE;
use http::response::Parts;
use serde_json::Value;

use crate::core::{NotRetained, is_grpc};
use crate::engine::content::Content;

/// Of a problem that is larger, the type is not looked for.
const LARGEST: usize = 64 << 10;

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

/// RFC 9457 §3.1.1.
fn problem_type(kind: &[u8], body: &[u8]) -> Option<String> {
    const PROBLEM: &[u8] = b"application/problem+json";
    let is_problem = kind.get(..PROBLEM.len()).is_some_and(|start| start.eq_ignore_ascii_case(PROBLEM));
    if !is_problem || body.len() > LARGEST {
        return None;
    }
    let problem: Value = serde_json::from_slice(body).ok()?;
    problem.get("type")?.as_str().map(str::to_owned)
}
