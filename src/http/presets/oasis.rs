//! As OASIS Repeatable Requests 1.0 has it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::engine::outcome::Outcome;
use crate::engine::outcomes::{HandlerResponse, Outcomes};
use crate::http::acceptance::AcceptanceMark;
use crate::http::key_rules::KeyRules;
use crate::http::layer::IdempotencyLayer;
use crate::http::words::{InProgressStatus, KeyReusedStatus, Problem};
use crate::telemetry::refusal::Refusal;

const REQUEST_ID: HeaderName = HeaderName::from_static("repeatability-request-id");
const FIRST_SENT: HeaderName = HeaderName::from_static("repeatability-first-sent");
const RESULT: HeaderName = HeaderName::from_static("repeatability-result");

impl IdempotencyLayer {
    /// As [OASIS Repeatable Requests 1.0] has it, and Microsoft's guidelines for Azure. It is
    /// short for
    ///
    /// - the key in `Repeatability-Request-ID`: a [UUID](KeyRules::uuid) whose
    ///   [case](KeyRules::ignore_case) does not count (§3.1.1);
    /// - the time of the first try in `Repeatability-First-Sent`
    ///   ([`first_sent`](Self::first_sent)): one of the two alone is 400, and so is another
    ///   form; 412 for what is older than the [retention](crate::Engine::retention) and
    ///   unknown (§5);
    /// - `Repeatability-Result: accepted` or `rejected` on each response to a request with a
    ///   key ([`acceptance_mark`](Self::acceptance_mark), §3.2.1);
    /// - 501 for a request with a key that the layer does not guard
    ///   ([`refuse_unguarded`](Self::refuse_unguarded), §3.1.1);
    /// - 400 for a key that was used for a different request (§5), and 409 while the first
    ///   request runs;
    /// - a 4xx of the handler's frees the key, so that the request may run again (§5); a
    ///   5xx is as by default: stored, or in resumable mode resumed;
    /// - a [`StatusService`](crate::StatusService) of the layer may be asked to forget a
    ///   request: `DELETE` gets 204, also where there is no such request (§7).
    ///
    /// Each of these can be set otherwise after it.
    /// [The guide](crate::guide::presets) has the presets side by side.
    ///
    /// ```
    /// use axum::{Router, routing::{any_service, post}};
    /// use tower_idempotency::{IdempotencyLayer, Scope, StatusService, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).oasis_repeatable_requests();
    /// let app: Router = Router::new()
    ///     .route("/orders", post(|| async { "ordered" }))
    ///     .layer(layer.clone())
    ///     .route("/$RepeatableRequestWithRequestID/{id}", any_service(StatusService::new(&layer)));
    /// ```
    ///
    /// # Caveats
    ///
    /// - A handler that responds with a 4xx has to mean it: what it did before is done again.
    /// - The specification lets a server compare all header fields: what is compared is what
    ///   the [`FingerprintRules`](crate::FingerprintRules) say, and by default few do.
    /// - `Repeatability-Client-ID` is not looked at: whose id it is, the
    ///   [`Scope`](crate::Scope) says.
    /// - A key that is looked up by an [`Operator`](crate::Operator) is in lower case.
    ///
    /// [OASIS Repeatable Requests 1.0]: https://docs.oasis-open.org/odata/repeatable-requests/v1.0/repeatable-requests-v1.0.html
    pub fn oasis_repeatable_requests(self) -> Self {
        let [accepted, rejected] = ["accepted", "rejected"].map(HeaderValue::from_static);
        self.key_headers([REQUEST_ID])
            .key_rules(KeyRules::new().uuid().ignore_case())
            .first_sent(FIRST_SENT)
            .acceptance_mark(AcceptanceMark::known(RESULT, accepted, rejected))
            .refuse_unguarded()
            .key_reused_status(KeyReusedStatus::BadRequest)
            .in_progress_status(InProgressStatus::Conflict)
            .outcomes(Outcomes::by(outcome))
            .problems(forgotten)
    }
}

fn outcome(response: &HandlerResponse<'_>) -> Outcome {
    let is_free = response.status().is_client_error() && response.can_free_key();
    if is_free { Outcome::NothingHappened } else { response.by_default() }
}

/// What is not known any more need not be forgotten.
fn forgotten(problem: &Problem<'_>, mut response: Response<Bytes>) -> Response<Bytes> {
    if problem.refusal() != Refusal::NoSuchOperation || problem.method() != Method::DELETE {
        return response;
    }
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().clear();
    response.map(|_| Bytes::new())
}
