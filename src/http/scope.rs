//! Whose key it is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::request::Parts;

use crate::http::route::Route;

/// Says whose key a request carries. Keys of different scopes never meet.
///
/// Every layer needs one: in libraries where scopes are optional, one user got the replay of
/// another user's response. The layer refuses a request whose scope is unknown or empty.
///
/// ```
/// use http::HeaderName;
/// use tower_idempotency::Scope;
///
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// // The user that an outer layer found when it authenticated the request:
/// let by_user = Scope::by(|parts| parts.extensions.get::<UserId>().map(|user| user.0.to_string()));
/// // A header that a trusted proxy sets:
/// let by_tenant = Scope::header(HeaderName::from_static("x-tenant"));
/// ```
///
/// # Caveats
///
/// Authenticate *outside* this layer, so that a caller who has lost its rights gets no
/// replay. Take the scope from that authentication, or from a proxy that you trust, not
/// from what the caller sends.
#[derive(Clone)]
#[must_use]
pub struct Scope {
    kind: Kind,
    is_per_route: bool,
}

type By = dyn Fn(&Parts) -> Option<String> + Send + Sync;

#[derive(Clone)]
enum Kind {
    By(Arc<By>),
    /// Whether credentials were seen.
    Shared(Arc<AtomicBool>),
}

/// What a scope says of a request.
pub(crate) enum ScopeDecision {
    Scope(String),
    /// Credentials under a shared scope, for the first time.
    Warn,
    Unknown,
}

impl Scope {
    /// The scope is what `by` returns for a request. The layer refuses the request if that is
    /// `None`, or a name that is empty or blank, because no caller has such a name.
    ///
    /// # Caveats
    ///
    /// Use an identity (a user's id), not a credential (a token): after a
    /// rotation the token differs, the retry is in another scope, and the handler
    /// charges a second time.
    pub fn by<S: Into<String>>(by: impl Fn(&Parts) -> Option<S> + Send + Sync + 'static) -> Self {
        Self::new(Kind::By(Arc::new(move |parts| by(parts).map(Into::into))))
    }

    /// The scope is the request extension `T`, which an outer layer has set.
    ///
    /// ```
    /// use tower_idempotency::Scope;
    ///
    /// let by_user_id = Scope::extension::<u64>();
    /// ```
    pub fn extension<T: fmt::Display + Send + Sync + 'static>() -> Self {
        Self::by(|parts| parts.extensions.get::<T>().map(ToString::to_string))
    }

    /// The scope is the value of the header `name`, which a trusted proxy sets, in
    /// exactly one line.
    pub fn header(name: HeaderName) -> Self {
        Self::by(move |parts| {
            let mut lines = parts.headers.get_all(&name).iter();
            let line = lines.next()?.to_str().ok()?;
            lines.next().is_none().then(|| line.to_owned())
        })
    }

    /// All callers share one scope.
    ///
    /// # Caveats
    ///
    /// A client that knows, or guesses, a key and sends the same request gets the
    /// stored response, whichever client made it first. Use this for a service with one
    /// caller, or whose responses every caller may see. The first request with credentials
    /// raises [`EventKind::SharedScope`](crate::EventKind::SharedScope).
    pub fn shared() -> Self {
        Self::new(Kind::Shared(Arc::default()))
    }

    const fn new(kind: Kind) -> Self {
        Self { kind, is_per_route: false }
    }

    /// A key counts for one endpoint: the same key with another method or route is another
    /// operation, as in Stripe's API v2 and PayPal's. By default a key counts for all
    /// endpoints, and the layer refuses it at another one: 422 `key-reused`.
    ///
    /// With the feature `axum` the route is what axum matched
    /// ([`MatchedPath`](https://docs.rs/axum/latest/axum/extract/struct.MatchedPath.html)),
    /// such as `/users/{id}/pay`: the same key for another user gets a 422. If axum has not
    /// matched a route yet, as around a whole `Router`, and without the feature, the route is
    /// the path as the client sent it.
    ///
    /// The `Location` of a [background](crate::Background) request names the
    /// endpoint, and so must a client that asks a [`StatusService`](crate::StatusService):
    /// `/operations/KEY?method=POST&route=%2Forders`. An
    /// [`Operator`](crate::Operator) shows a key by
    /// [`Key::of_route`](crate::Key::of_route).
    ///
    /// ```
    /// use axum::{Router, body::Body, http::Request, routing::post};
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let scope = Scope::header("x-user".parse()?).per_route();
    /// let app: Router = Router::new()
    ///     .route("/payments", post(|| async { "paid" }))
    ///     .route("/refunds", post(|| async { "refunded" }))
    ///     .layer(IdempotencyLayer::new(MemoryStore::new(), scope));
    ///
    /// # use tower::ServiceExt;
    /// for (path, text) in [("/payments", "paid"), ("/refunds", "refunded")] {
    ///     let request = Request::post(path).header("x-user", "ann").header("idempotency-key", "17");
    ///     let response = app.clone().oneshot(request.body(Body::empty())?).await?;
    ///     assert_eq!(axum::body::to_bytes(response.into_body(), 100).await?, text);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Caveats
    ///
    /// A retry runs anew after you rename the route, or move the layer to where axum matches
    /// it differently. So keep both the same in every release for as long as the store remembers
    /// keys. The same goes for switching the feature or this setting.
    pub const fn per_route(mut self) -> Self {
        self.is_per_route = true;
        self
    }

    /// The endpoint that this request's key counts for; `None` is all of them.
    pub(crate) fn route_of(&self, parts: &Parts) -> Option<Route> {
        self.is_per_route.then(|| Route::of(parts))
    }

    pub(crate) const fn is_per_route(&self) -> bool {
        self.is_per_route
    }

    /// Whether all callers are in one scope.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared(_))
    }

    /// Whether both tell the same of every request, as clones do.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_same = match (&self.kind, &other.kind) {
            (Kind::By(one), Kind::By(other)) => Arc::ptr_eq(one, other),
            (Kind::Shared(_), Kind::Shared(_)) => true,
            _ => false,
        };
        is_same && self.is_per_route == other.is_per_route
    }

    pub(crate) fn decide(&self, parts: &Parts) -> ScopeDecision {
        match &self.kind {
            Kind::By(by) => {
                let scope = by(parts).filter(|scope| !scope.trim().is_empty());
                scope.map_or(ScopeDecision::Unknown, ScopeDecision::Scope)
            }
            Kind::Shared(seen) => {
                let credentials = [AUTHORIZATION, COOKIE].iter().any(|name| parts.headers.contains_key(name));
                if credentials && !seen.swap(true, Ordering::Relaxed) {
                    return ScopeDecision::Warn;
                }
                ScopeDecision::Scope(String::new())
            }
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::By(_) => "Scope::by",
            Kind::Shared(_) => "Scope::shared",
        })?;
        f.write_str(if self.is_per_route { ".per_route" } else { "" })
    }
}
