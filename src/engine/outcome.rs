//! How a handler's response counts.

use std::time::Duration;

use super::limits::MIN_RETENTION;

/// How a handler's response counts. A handler marks a response by putting one into its
/// extensions; otherwise the status code decides, by the layer's [`Outcomes`](crate::Outcomes):
/// by default as in this table.
///
/// ```
/// use http::{Response, StatusCode};
/// use tower_idempotency::Outcome;
///
/// fn sold_out() -> Response<String> {
///     let mut response = Response::new("sold out, try again tomorrow".to_string());
///     *response.status_mut() = StatusCode::CONFLICT;
///     response.extensions_mut().insert(Outcome::NothingHappened);
///     response
/// }
/// # assert!(sold_out().extensions().get::<Outcome>().is_some());
/// ```
///
/// | status | at-most-once mode | resumable mode |
/// |---|---|---|
/// | 307, 308, 401, 403, 407, 421, 425, 429; to a PATCH 301 and 302 too | nothing happened | nothing happened |
/// | 408, 5xx | final | retryable |
/// | any other 4xx | final | nothing happened, where that frees the key; else final |
/// | all others | final | final |
///
/// In resumable mode a 4xx frees the key, so that a corrected request runs under it: in
/// the first attempt, with its client still connected, if the handler reached no step. It does
/// not if the request was accepted for the [background](crate::Background), or a
/// [`Completer`](crate::Completer) drives it. [`Outcomes`](crate::Outcomes) has other tables.
///
/// 301 and 302 turn a POST into a GET, and are final. For another method, the client repeats
/// the request elsewhere under the same key.
///
/// A 101 is final and not retained: the layer can't repeat what it began.
///
/// A gRPC response (200, and a `Content-Type` that begins with `application/grpc`)
/// counts as the HTTP status that stands for its `grpc-status`, from the head or
/// else the trailers. The layer stores and replays it as it came.
///
/// | `grpc-status` | counts as |
/// |---|---|
/// | 0 | 200 |
/// | 3, 5, 6, 9, 10, 11 | 400 |
/// | 16 | 401 |
/// | 7 | 403 |
/// | 8 | 429 |
/// | 1, 2, 13, 15, any other | 500 |
/// | 12 | 501 |
/// | 14 | 503 |
/// | 4 | 504 |
///
/// The layer does not look at the trailers of a response that is
/// [not retained](crate::core::NotRetained), nor at any body: gRPC-Web has its status there, so
/// put the layer beneath the one that translates gRPC-Web.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The response is stored, and every retry gets it.
    ///
    /// Without this mark a failure, 4xx or 5xx, is not final if an earlier attempt began or
    /// paid a step that this one did not reach: the operation is
    /// parked. With it, the handler says that it knows what it leaves out.
    Final,
    /// The response is not stored, and a retry resumes. In at-most-once mode
    /// no retry can resume, and it gets `outcome-unknown`.
    Retryable,
    /// The response is not stored, and the key is free, as if the client had never used it,
    /// unless a step was begun or done, or there was an attempt before this one:
    /// then this is the same as `Retryable`. A request that was accepted for the
    /// [background](crate::Background) stays accepted, and a completer tries it again.
    NothingHappened,
}

/// How long the store keeps this response, instead of
/// [`Engine::retention`](crate::Engine::retention): at least a second. A handler puts it into
/// its response's extensions.
///
/// ```
/// use std::time::Duration;
/// use http::Response;
/// use tower_idempotency::Retention;
///
/// fn quote() -> Response<String> {
///     let mut response = Response::new("4999 until noon".to_string());
///     response.extensions_mut().insert(Retention::new(Duration::from_secs(60 * 60)));
///     response
/// }
/// # assert!(quote().extensions().get::<Retention>().is_some());
/// ```
///
/// # Caveats
///
/// A retry that comes later runs the handler again. This counts only if the
/// response is stored ([`Outcome::Final`]), and not if an earlier attempt has made an undo
/// plan for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retention(Duration);

impl Retention {
    /// For so long, from when the response is stored.
    pub const fn new(length: Duration) -> Self {
        Self(length)
    }

    /// What a handler said.
    pub(crate) fn said(extensions: &http::Extensions) -> Option<Duration> {
        extensions.get::<Self>().map(|said| said.0.max(MIN_RETENTION))
    }
}

impl Outcome {
    /// Whether a handler said that its response is final, whatever was done.
    pub(crate) fn is_said_final(extensions: &http::Extensions) -> bool {
        extensions.get::<Self>() == Some(&Self::Final)
    }
}

/// The statuses that mean that the handler did not start. Redirects that repeat
/// the request elsewhere are among them: routing is no operation, and the client
/// follows with the same key.
pub(crate) const DID_NOT_START: [u16; 8] = [307, 308, 401, 403, 407, 421, 425, 429];

/// Redirects that turn a POST into a GET, and repeat requests of other methods as
/// they are: to those they are routing, too.
pub(crate) const MOVED: [u16; 2] = [301, 302];

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{DID_NOT_START, MOVED};
    use crate::core::stands_for;

    /// Each of these documents has the list, and wherever it has one it is this.
    #[test]
    fn the_documents_name_the_statuses_that_mean_did_not_start() {
        let all = DID_NOT_START.map(|status| status.to_string());
        let (last, first) = all.split_last().unwrap();
        let lists = [all.join(", "), format!("{} and {last}", first.join(", "))];
        let documents = [
            // In the docs of `Outcome`, and as the constant.
            ("outcome.rs", include_str!("outcome.rs"), 2),
            ("lib.rs", include_str!("../lib.rs"), 1),
            ("compensation.md", include_str!("../guide/compensation.md"), 1),
            ("guarantees.md", include_str!("../guide/guarantees.md"), 1),
            ("README.md", include_str!("../../README.md"), 1),
        ];
        // Two of them in a row, spelled so that this line is no list.
        let twice = [DID_NOT_START[3], DID_NOT_START[4]].map(|status| status.to_string()).join(", ");
        for (name, text, expected) in documents {
            let text = text.replace("///", " ").replace("//!", " ");
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let whole: usize = lists.iter().map(|list| text.matches(list.as_str()).count()).sum();
            assert_eq!(whole, text.matches(&twice).count(), "{name} has another list");
            assert_eq!(whole, expected, "{name} has not as many lists as it should");
            let [one, other] = MOVED;
            let moved = format!("to a PATCH {one} and {other} too");
            assert!(text.contains(&moved), "{name} does not say {moved:?}");
        }
    }

    /// Each table of these documents has every status of gRPC, and what it counts as.
    #[test]
    fn the_documents_name_what_stands_for_a_status_of_grpc() {
        for (name, text) in
            [("outcome.rs", include_str!("outcome.rs")), ("guarantees.md", include_str!("../guide/guarantees.md"))]
        {
            let text = text.replace("/// ", "");
            let (_, table) = text.split_once("| `grpc-status` | counts as |\n|---|---|\n").unwrap();
            let rows = table.lines().map_while(|row| row.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
            let mut found = Vec::new();
            for (statuses, counts_as) in rows {
                let counts_as: StatusCode = counts_as.parse().unwrap();
                for status in statuses.split(", ") {
                    assert_eq!(stands_for(status.as_bytes()), counts_as, "{name}: {status}");
                    found.push(status.to_owned());
                }
            }
            let all = (0..=16).map(|status: u8| status.to_string()).chain(["any other".to_owned()]);
            let missing: Vec<_> = all.filter(|status| !found.contains(status)).collect();
            assert!(missing.is_empty() && found.len() == 18, "{name}: {missing:?} of {found:?}");
        }
    }
}
