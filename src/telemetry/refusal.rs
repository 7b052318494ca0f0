//! Why the layer responded to a request itself. `http/problem.rs` builds the response.

use std::fmt;

use http::StatusCode;

use crate::core::InvalidKey;

/// Why the layer responded to a request itself. It is in the response's extensions, so
/// that outer layers can see it.
///
/// As problem details (RFC 9457) each has a `type` of its own; titles and
/// details of the first three are those of the IETF draft, §2.7.
///
/// ```
/// use http::{Response, StatusCode};
/// use tower_idempotency::Refusal;
///
/// // In a layer outside, say for metrics:
/// fn label<B>(response: &Response<B>) -> &'static str {
///     response.extensions().get::<Refusal>().map_or("served", |refusal| refusal.name())
/// }
/// # assert_eq!(label(&Response::new(())), "served");
/// assert_eq!(Refusal::InProgress.status(), StatusCode::CONFLICT);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// 400: the route requires a key.
    MissingKey,
    /// 422: the key was used for a different request.
    KeyReused,
    /// 409: the first request with this key is still running.
    InProgress,
    /// 400: the header is not an idempotency key, or came twice; with the reason.
    InvalidKey(InvalidKey),
    /// 400: the request does not say when it was [first
    /// sent](crate::IdempotencyLayer::first_sent), or says so without a key.
    FirstSentInvalid,
    /// 412: the request was [first sent](crate::IdempotencyLayer::first_sent) longer ago than
    /// responses are remembered, and is not known.
    TooOld,
    /// 501: the request has a key, and is
    /// [not guarded](crate::IdempotencyLayer::refuse_unguarded).
    NotGuarded,
    /// 400: the request's body ended early.
    BodyIncomplete,
    /// 408: the request's body took longer than
    /// [`upload_timeout`](crate::IdempotencyLayer::upload_timeout) allows.
    BodyTimeout,
    /// 413: the request's body is larger than
    /// [`request_limit`](crate::IdempotencyLayer::request_limit).
    BodyTooLarge,
    /// Of gRPC: a key is required, and the method is not
    /// [named](crate::IdempotencyLayer::grpc_methods), so that the call can't be guarded.
    GrpcMethodNotNamed,
    /// 403: the request does not say whose key it is.
    ScopeUnknown,
    /// 500: the request's [principal](crate::IdempotencyLayer::principal) can't be stored: it is
    /// larger than 1 KiB, or JSON can't carry it.
    PrincipalNotStored,
    /// 500: an attempt, of this request or of an earlier one, ended without a
    /// response, and what it did is unknown. The layer does not start the handler again
    /// until an operator or the [reconciler](crate::Completer::reconcile) decides.
    OutcomeUnknown,
    /// 500: this attempt was interrupted. A retry resumes it.
    Interrupted,
    /// The stored status code: the response was sent once, and could not be kept,
    /// see [the guide](crate::guide::problems#responses-that-are-not-retained).
    NotRetained,
    /// 500: the stored record is damaged.
    RecordCorrupt,
    /// 409: the stored record was written by a newer release.
    RecordNewer,
    /// 503: the store failed, or has no room.
    StoreUnavailable,
    /// 503: this process is shutting down, and begins nothing new: see
    /// [`drain`](crate::IdempotencyLayer::drain).
    Draining,
    /// 503: a [maintenance window](crate::guide::maintenance) covers the request.
    Maintenance,
    /// 503: too many guarded requests are running, or waiting to run.
    Overloaded,
    /// 503: the request bodies that are being read hold all of the
    /// [`upload_budget`](crate::IdempotencyLayer::upload_budget), or of the
    /// caller's [share](crate::IdempotencyLayer::upload_budget_per_scope).
    UploadOverload,
    /// 404: the caller has no such operation.
    NoSuchOperation,
    /// 409: the operation has no response that could be acknowledged yet.
    Unfinished,
    /// 405: a status resource has no such method.
    MethodNotAllowed,
}

/// How a refusal appears to the client.
pub(crate) struct ProblemText {
    pub(crate) name: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) detail: &'static str,
    /// Whether trying again, as it is, may help.
    pub(crate) retryable: bool,
}

const fn text(
    name: &'static str,
    status: StatusCode,
    retryable: bool,
    title: &'static str,
    detail: &'static str,
) -> ProblemText {
    ProblemText { name, status, title, detail, retryable }
}

impl Refusal {
    #[rustfmt::skip]
    pub(crate) const fn text(self) -> ProblemText {
        match self {
            Self::MissingKey => text("missing-key", StatusCode::BAD_REQUEST, false,
                "Idempotency-Key is missing",
                "This operation is idempotent and it requires correct usage of Idempotency Key."),
            Self::KeyReused => text("key-reused", StatusCode::UNPROCESSABLE_ENTITY, false,
                "Idempotency-Key is already used",
                "This operation is idempotent and it requires correct usage of Idempotency Key. Idempotency Key MUST not be reused across different payloads of this operation."),
            Self::InProgress => text("in-progress", StatusCode::CONFLICT, true,
                "A request is outstanding for this Idempotency-Key",
                "A request with the same Idempotency-Key for the same operation is being processed or is outstanding."),
            Self::InvalidKey(why) => text("invalid-key", StatusCode::BAD_REQUEST, false,
                "Idempotency-Key is not valid", why.detail()),
            Self::BodyIncomplete => text("body-incomplete", StatusCode::BAD_REQUEST, false,
                "The request body is incomplete",
                "The request body ended early. Nothing was run or stored."),
            Self::BodyTimeout => text("body-timeout", StatusCode::REQUEST_TIMEOUT, true, "The request body took too long",
                "The request body did not arrive in time. Nothing was run or stored. Retry with the same Idempotency-Key."),
            Self::BodyTooLarge => text("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, false,
                "The request body is too large",
                "The request body is larger than this operation accepts. Nothing was run or stored."),
            Self::GrpcMethodNotNamed => text("grpc-method-not-named", StatusCode::BAD_REQUEST, false,
                "The method is not guarded",
                "This service requires an Idempotency-Key, and is not set up to keep one for this method. Nothing was run or stored."),
            Self::ScopeUnknown => text("scope-unknown", StatusCode::FORBIDDEN, false,
                "The caller is unknown",
                "Idempotency keys are scoped to a caller, and this request does not say who that is. Nothing was run or stored."),
            Self::OutcomeUnknown => text("outcome-unknown", StatusCode::INTERNAL_SERVER_ERROR, false,
                "The outcome is unknown",
                "An attempt with this Idempotency-Key ended without a response, and what it did is unknown. The operation will not run again until an operator decides. Do not retry with a new key."),
            Self::Interrupted => text("interrupted", StatusCode::INTERNAL_SERVER_ERROR, true,
                "The operation was interrupted",
                "The operation was interrupted half-way. Retry with the same Idempotency-Key: it resumes where it stopped."),
            Self::NotRetained => text("not-retained", StatusCode::OK, false,
                "The response was not retained",
                "The operation is complete, and was not run again. Its response was sent once, and could not be kept."),
            Self::RecordCorrupt => text("record-corrupt", StatusCode::INTERNAL_SERVER_ERROR, false,
                "The stored record is damaged",
                "What is stored under this Idempotency-Key can't be read. Nothing was run. Do not retry with a new key."),
            Self::RecordNewer => text("record-newer", StatusCode::CONFLICT, true,
                "The stored record is newer than this server",
                "What is stored under this Idempotency-Key was written by a newer release. Nothing was run. Retry later with the same key."),
            Self::StoreUnavailable => text("store-unavailable", StatusCode::SERVICE_UNAVAILABLE, true,
                "The idempotency store is unavailable",
                "The operation was not run, because it can't be protected now. Retry with the same Idempotency-Key."),
            Self::Draining => text("draining", StatusCode::SERVICE_UNAVAILABLE, true, "This server is shutting down",
                "The operation was not run, because this server begins nothing new. Retry with the same Idempotency-Key."),
            Self::Overloaded => text("overloaded", StatusCode::SERVICE_UNAVAILABLE, true, "Too many operations are running",
                "The operation was not run. Retry with the same Idempotency-Key."),
            Self::UploadOverload => text("upload-overload", StatusCode::SERVICE_UNAVAILABLE, true, "Too many uploads are in progress",
                "There is no room for this request's body now. Nothing was run or stored. Retry with the same Idempotency-Key."),
            Self::NoSuchOperation => text("no-such-operation", StatusCode::NOT_FOUND, false, "There is no such operation",
                "You have no operation with this Idempotency-Key, or its response is no longer stored."),
            Self::Unfinished => text("unfinished", StatusCode::CONFLICT, true, "The operation is not complete",
                "An operation can be acknowledged once it has its response."),
            Self::MethodNotAllowed => text("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, false, "The method is not allowed",
                "A status resource can be read (GET, HEAD) and acknowledged (DELETE)."),
            _ => self.unguarded_text(),
        }
    }

    /// The same, of what is refused for when or where it is repeated, or for whose it is.
    #[rustfmt::skip]
    const fn unguarded_text(self) -> ProblemText {
        match self {
            Self::FirstSentInvalid => text("first-sent-invalid", StatusCode::BAD_REQUEST, false,
                "The time of the first try is missing or not valid",
                "Send the key together with the time at which the request was first sent, or neither of them. The time is an HTTP date such as Sun, 06 Nov 1994 08:49:37 GMT (RFC 9110, IMF-fixdate). Nothing was run or stored."),
            Self::TooOld => text("too-old", StatusCode::PRECONDITION_FAILED, false,
                "The request is too old",
                "The request was first sent longer ago than responses are remembered, and nothing is known of it by now. It may have been done. Nothing was run or stored."),
            Self::PrincipalNotStored => text("principal-not-stored", StatusCode::INTERNAL_SERVER_ERROR, false,
                "The caller can't be stored",
                "This service has to store whose operation this is, and can't. Nothing was run or stored. Its operator has to correct that."),
            Self::Maintenance => text("maintenance", StatusCode::SERVICE_UNAVAILABLE, true, "The service is under maintenance",
                "The operation was not run, because planned work on this service is under way. Retry with the same Idempotency-Key after the time in Retry-After."),
            _ => text("not-guarded", StatusCode::NOT_IMPLEMENTED, false,
                "The request can't be guarded",
                "The request has an idempotency key, and this service does not keep one for it. Nothing was run or stored."),
        }
    }

    /// The status of gRPC by which a [call](crate::IdempotencyLayer::grpc_methods) is
    /// refused, as [the guide](crate::guide::problems#grpc) lists them.
    ///
    /// None is 0, and none is `ALREADY_EXISTS`, which clients take for success, but that of
    /// an operation that is complete.
    #[rustfmt::skip]
    pub const fn grpc_status(self) -> u16 {
        match self {
            // UNKNOWN: as the outcome is.
            Self::OutcomeUnknown => 2,
            // INVALID_ARGUMENT
            Self::MissingKey | Self::InvalidKey(_) | Self::FirstSentInvalid | Self::BodyIncomplete | Self::MethodNotAllowed => 3,
            // NOT_FOUND
            Self::NoSuchOperation => 5,
            // ALREADY_EXISTS
            Self::NotRetained => 6,
            // PERMISSION_DENIED
            Self::ScopeUnknown => 7,
            // RESOURCE_EXHAUSTED: as of a message that is larger than a server takes.
            Self::BodyTooLarge => 8,
            // FAILED_PRECONDITION: not before the client or the operator changes something.
            Self::KeyReused | Self::GrpcMethodNotNamed | Self::TooOld | Self::PrincipalNotStored => 9,
            // ABORTED: as of what runs at the same time.
            Self::InProgress | Self::Unfinished => 10,
            // UNIMPLEMENTED
            Self::NotGuarded => 12,
            // UNAVAILABLE: the same call may succeed later.
            Self::BodyTimeout | Self::Interrupted | Self::RecordNewer | Self::StoreUnavailable | Self::Draining | Self::Maintenance | Self::Overloaded
                | Self::UploadOverload => 14,
            // DATA_LOSS
            Self::RecordCorrupt => 15,
        }
    }

    /// The last part of the problem's `type`.
    pub const fn name(self) -> &'static str {
        self.text().name
    }

    /// The status code; that of [`NotRetained`](Self::NotRetained) is the
    /// stored one instead.
    pub const fn status(self) -> StatusCode {
        self.text().status
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().title)
    }
}

/// All that there are.
#[cfg(test)]
pub(crate) const ALL: [Refusal; 26] = [
    Refusal::MissingKey,
    Refusal::KeyReused,
    Refusal::InProgress,
    Refusal::InvalidKey(InvalidKey::Empty),
    Refusal::FirstSentInvalid,
    Refusal::TooOld,
    Refusal::NotGuarded,
    Refusal::BodyIncomplete,
    Refusal::BodyTimeout,
    Refusal::BodyTooLarge,
    Refusal::GrpcMethodNotNamed,
    Refusal::ScopeUnknown,
    Refusal::PrincipalNotStored,
    Refusal::OutcomeUnknown,
    Refusal::Interrupted,
    Refusal::NotRetained,
    Refusal::RecordCorrupt,
    Refusal::RecordNewer,
    Refusal::StoreUnavailable,
    Refusal::Draining,
    Refusal::Maintenance,
    Refusal::Overloaded,
    Refusal::UploadOverload,
    Refusal::NoSuchOperation,
    Refusal::Unfinished,
    Refusal::MethodNotAllowed,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The rows of the guide's table under this head.
    fn rows(head: &str) -> Vec<(&'static str, &'static str)> {
        let (_, table) = include_str!("../guide/problems.md").split_once(head).unwrap();
        let rows = table.lines().skip(1).map_while(|row| row.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
        rows.collect()
    }

    #[test]
    fn the_guide_names_the_status_of_grpc_of_each_problem() {
        let mut named = BTreeMap::new();
        for (status, problems) in rows("| `grpc-status` | problems |\n") {
            let (number, _) = status.split_once(' ').unwrap();
            named.extend(problems.split(", ").map(|name| (name.trim_matches('`'), number.parse::<u16>().unwrap())));
        }
        assert_eq!(named, ALL.map(|refusal| (refusal.name(), refusal.grpc_status())).into());
        // All that there are.
        let all: Vec<_> = rows("| name | status | retry? | what it means |\n").into_iter().map(|row| row.0).collect();
        assert_eq!(all.len(), ALL.len(), "{all:?}");
        assert!(ALL.iter().all(|refusal| all.contains(&format!("`{}`", refusal.name()).as_str())));
    }

    /// What a client may retry is what its retry policy can name.
    #[test]
    fn the_statuses_of_grpc_say_what_may_be_retried() {
        for refusal in ALL {
            assert_eq!([10, 14].contains(&refusal.grpc_status()), refusal.text().retryable, "{refusal:?}");
        }
    }
}
