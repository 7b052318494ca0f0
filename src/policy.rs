//! What the layer does, as data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::Semaphore;

use crate::background::Background;
use crate::backoff::Backoff;
use crate::callback::Callback;
use crate::core::Mode;
use crate::dropped::Dropped;
use crate::response::Problems;
use crate::scope::Scope;
use crate::upload::{UploadLimits, Uploads};

/// A shorter lease would be over before its holder can renew it.
pub(crate) const MIN_LEASE: Duration = Duration::from_millis(10);
/// A shorter retention would forget an answer before a retry can come.
pub(crate) const MIN_RETENTION: Duration = Duration::from_secs(1);

/// How a handler's answer counts. A handler says so by putting one into its
/// response's extensions; otherwise the status code decides.
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
/// | status | at most once | resumable |
/// |---|---|---|
/// | 307, 308, 401, 403, 407, 421, 425, 429; to a PATCH 301 and 302 too | nothing happened | nothing happened |
/// | 408, 5xx | final | retryable |
/// | all others | final | final |
///
/// 301 and 302 turn a POST into a GET, and are final. What comes with another
/// method is repeated elsewhere under the same key.
///
/// A 101 is final and not retained: what it began can't be given again.
///
/// An answer of gRPC (200, and a `Content-Type` that begins with `application/grpc`)
/// counts as one of HTTP would that stands for its `grpc-status`, from the head or
/// else the trailers. It is stored and replayed as it came.
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
/// The trailers of an answer that is [not retained](crate::core::NotRetained) are not
/// looked at, nor is a body: gRPC-Web says its status there, so put the layer beneath
/// what translates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The answer is stored, and every retry gets it.
    ///
    /// Without this word a failure, 4xx or 5xx, is not final while a step that an
    /// earlier attempt began or paid was not reached by this one: the operation is
    /// parked. With it, the handler says that it knows what it leaves out.
    Final,
    /// The answer is not stored, and a retry resumes. In at-most-once mode
    /// nothing can be resumed, and a retry is told that the outcome is unknown.
    Retryable,
    /// The answer is not stored, and the key is as if it had never been used,
    /// unless a step was begun or done, or there was an attempt before this one:
    /// then it is as `Retryable`. A request that was accepted for the
    /// [background](crate::Background) stays accepted, and is tried again.
    NothingHappened,
}

impl Outcome {
    /// Whether a handler said that its answer is final, whatever was done.
    pub(crate) fn is_said_final(extensions: &http::Extensions) -> bool {
        extensions.get::<Self>() == Some(&Self::Final)
    }

    /// Of an answer that is judged by `status`; `is_post`: to a POST.
    pub(crate) fn of(mode: Mode, is_post: bool, status: StatusCode, said: Option<Self>) -> Self {
        if let Some(said) = said {
            return said;
        }
        let number = status.as_u16();
        let moved = !is_post && MOVED.contains(&number);
        let did_not_start = moved || DID_NOT_START.contains(&number);
        let failed = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
        match mode {
            _ if did_not_start => Self::NothingHappened,
            Mode::Resumable if failed => Self::Retryable,
            _ => Self::Final,
        }
    }
}

/// The statuses that mean that the handler did not start. Redirects that repeat
/// the request elsewhere are among them: routing is no operation, and the client
/// follows with the same key.
pub(crate) const DID_NOT_START: [u16; 8] = [307, 308, 401, 403, 407, 421, 425, 429];

/// Redirects that turn a POST into a GET, and repeat requests of other methods as
/// they are: to those they are routing, too.
pub(crate) const MOVED: [u16; 2] = [301, 302];

/// Whether a status says that there is no such route: if a router says so,
/// no handler was started.
pub(crate) const fn says_no_route(status: StatusCode) -> bool {
    matches!(status.as_u16(), 404 | 405 | 421 | 501)
}

/// Everything the layer was told.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) scope: Scope,
    pub(crate) mode: Mode,
    pub(crate) required: bool,
    /// Whether the authority is part of a request.
    pub(crate) by_authority: bool,
    /// Whether the trailers of any request are part of it, and not only gRPC's.
    pub(crate) by_trailers: bool,
    pub(crate) lease: Duration,
    pub(crate) max_execution: Duration,
    pub(crate) retention: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) request_limit: usize,
    pub(crate) response_limit: usize,
    pub(crate) stream_after: Duration,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) upload_limits: UploadLimits,
    pub(crate) uploads: Uploads,
    pub(crate) problems: Problems,
    pub(crate) background: Option<Background>,
    pub(crate) callback: Option<Callback>,
    /// What was taken for a credential, and told.
    pub(crate) dropped: Dropped,
}

impl Policy {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            mode: Mode::AtMostOnce,
            required: false,
            by_authority: true,
            by_trailers: false,
            lease: Duration::from_secs(60),
            max_execution: Duration::from_secs(60 * 60),
            retention: Duration::from_secs(24 * 60 * 60),
            backoff: Backoff::default(),
            request_limit: 2 << 20,
            response_limit: 2 << 20,
            stream_after: Duration::from_secs(5),
            permits: Arc::new(Semaphore::new(10_000)),
            upload_limits: UploadLimits::DEFAULT,
            uploads: Uploads::default(),
            problems: Problems::new(None),
            background: None,
            callback: None,
            dropped: Dropped::default(),
        }
    }

    #[inline]
    pub(crate) fn covers(method: &Method) -> bool {
        method == Method::POST || method == Method::PATCH
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("scope", &self.scope)
            .field("mode", &self.mode)
            .field("required", &self.required)
            .field("lease", &self.lease)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

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
            ("policy.rs", include_str!("policy.rs"), 2),
            ("lib.rs", include_str!("lib.rs"), 1),
            ("compensation.md", include_str!("guide/compensation.md"), 1),
            ("guarantees.md", include_str!("guide/guarantees.md"), 1),
            ("README.md", include_str!("../README.md"), 1),
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
            [("policy.rs", include_str!("policy.rs")), ("guarantees.md", include_str!("guide/guarantees.md"))]
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
