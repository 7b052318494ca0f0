//! The layer's header fields that a browser must be allowed, across origins.

use http::HeaderName;
use http::header::{ALLOW, ETAG, IF_NONE_MATCH, LINK, LOCATION, RETRY_AFTER};

use super::IdempotencyLayer;
use crate::http::header::{EXPIRES_IN, REPLAY_UNAVAILABLE};
use crate::http::prefer::PREFER;
use crate::http::problem::PREFERENCE_APPLIED;

impl IdempotencyLayer {
    /// The header fields of requests that this layer reads, for
    /// `Access-Control-Allow-Headers` (CORS, [Fetch §3.2.3]): those that have the key,
    /// and [when a request was first sent](Self::first_sent),
    /// `Prefer` where a client may ask to wait or for a 202, and `If-None-Match` of
    /// [`StatusService`](crate::StatusService). A browser sends none of them to another
    /// origin that does not allow it.
    ///
    /// Call this after all other settings. Put the CORS layer *outside* this one:
    /// see [the order of layers](crate::guide::order).
    ///
    /// ```
    /// use http::{Method, header::{AUTHORIZATION, CONTENT_TYPE}};
    /// use tower_http::cors::{AllowOrigin, CorsLayer};
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let idempotency = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).echo_key();
    /// // Add what your handlers and other layers read and send.
    /// let mut allowed = idempotency.cors_allow_headers();
    /// allowed.extend([AUTHORIZATION, CONTENT_TYPE]);
    /// let cors = CorsLayer::new()
    ///     .allow_origin(AllowOrigin::exact("https://shop.example".parse()?))
    ///     .allow_methods([Method::POST])
    ///     .allow_headers(allowed)
    ///     .expose_headers(idempotency.cors_expose_headers());
    /// # Ok::<_, http::header::InvalidHeaderValue>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// `*` allows any field, but not together with credentials. The list leaves out the header
    /// of [`Scope::header`](crate::Scope::header): a trusted proxy sets it, and no browser may.
    ///
    /// [Fetch §3.2.3]: https://fetch.spec.whatwg.org/#http-responses
    pub fn cors_allow_headers(&self) -> Vec<HeaderName> {
        let policy = &self.shared.policy;
        let is_accepted_later = policy.background.is_some();
        let mut names = self.key_header_names();
        names.extend((is_accepted_later || policy.wait.is_some()).then_some(PREFER));
        names.extend(is_accepted_later.then_some(IF_NONE_MATCH));
        names
    }

    /// The header fields of responses that this layer sets, for
    /// `Access-Control-Expose-Headers`: the marks of a replay and of a response that is not
    /// retained; `Retry-After` and `Link` of problems; `Idempotency-Expires-In` with
    /// [`tell_expiry`](Self::tell_expiry); the fields of [`retry_advice`](Self::retry_advice),
    /// [`acceptance_mark`](Self::acceptance_mark) and
    /// [`first_request`](Self::first_request); the key's field with [`echo_key`](Self::echo_key);
    /// and with [`background`](Self::background) the fields of its 202 and of the status
    /// resource. A script of another origin sees only exposed fields, and a few others such as
    /// `Content-Type`.
    ///
    /// An example is at [`cors_allow_headers`](Self::cors_allow_headers).
    ///
    /// # Caveats
    ///
    /// `*` exposes any field, but not together with credentials. Add the fields that your
    /// handlers send: `Location`, say.
    pub fn cors_expose_headers(&self) -> Vec<HeaderName> {
        let policy = &self.shared.policy;
        let mut names = vec![policy.words.replayed.name.clone(), REPLAY_UNAVAILABLE, RETRY_AFTER, LINK];
        names.extend(policy.words.expiry.then_some(EXPIRES_IN));
        names.extend(policy.problems.advice.as_ref().map(|advice| advice.name.clone()));
        names.extend(policy.words.acceptance.as_ref().map(|mark| mark.name.clone()));
        names.extend(policy.words.first_request.as_ref().map(|first| first.name.clone()));
        if policy.words.echo {
            names.extend_from_slice(policy.coverage.names());
        }
        if policy.background.is_some() {
            names.extend([LOCATION, PREFERENCE_APPLIED, ETAG, ALLOW]);
        }
        names
    }
}
