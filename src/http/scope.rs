//! Whose key it is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::request::Parts;

/// Says whose key a request carries. Keys of different scopes never meet.
///
/// Every layer needs one: where scopes were optional, one user's answer was
/// replayed to another. A request whose scope can't be told, or is empty, is
/// refused.
///
/// ```
/// use http::HeaderName;
/// use tower_idempotency::Scope;
///
/// #[derive(Clone)]
/// struct UserId(u64);
///
/// // What an outer layer found out when it authenticated the request:
/// let by_user = Scope::by(|parts| parts.extensions.get::<UserId>().map(|user| user.0.to_string()));
/// // A header that a trusted proxy sets:
/// let by_tenant = Scope::header(HeaderName::from_static("x-tenant"));
/// ```
///
/// # Caveats
///
/// Authenticate *outside* this layer, so that a caller whose rights were taken
/// away gets no replay. Whatever names the scope must come from there, or from
/// a proxy that you trust, not from the caller.
#[derive(Clone)]
pub struct Scope(Kind);

type By = dyn Fn(&Parts) -> Option<String> + Send + Sync;

#[derive(Clone)]
enum Kind {
    By(Arc<By>),
    /// Whether credentials were seen.
    Shared(Arc<AtomicBool>),
}

/// What a scope says of a request.
pub(crate) enum Told {
    Scope(String),
    /// Credentials under a shared scope, for the first time.
    Warn,
    Unknown,
}

impl Scope {
    /// The scope is what `by` says of a request; `None` refuses it, and so
    /// does a name that is empty or blank: it is no caller's.
    ///
    /// # Caveats
    ///
    /// Use an identity (a user's id), not a credential (a token): after a
    /// rotation the token is another one, the retry is in another scope, and
    /// the charge is made a second time.
    pub fn by<S: Into<String>>(by: impl Fn(&Parts) -> Option<S> + Send + Sync + 'static) -> Self {
        Self(Kind::By(Arc::new(move |parts| by(parts).map(Into::into))))
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

    /// The scope is the one line of the header `name`, which a trusted proxy
    /// sets.
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
    /// stored answer, whichever client made it first. Right for a service with one
    /// caller, or whose answers every caller may see. Credentials seen under it
    /// raise [`EventKind::SharedScope`](crate::EventKind::SharedScope), once.
    pub fn shared() -> Self {
        Self(Kind::Shared(Arc::default()))
    }

    /// Whether both tell the same of every request, as clones do.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::By(one), Kind::By(other)) => Arc::ptr_eq(one, other),
            (Kind::Shared(_), Kind::Shared(_)) => true,
            _ => false,
        }
    }

    pub(crate) fn tell(&self, parts: &Parts) -> Told {
        match &self.0 {
            Kind::By(by) => {
                let scope = by(parts).filter(|scope| !scope.trim().is_empty());
                scope.map_or(Told::Unknown, Told::Scope)
            }
            Kind::Shared(seen) => {
                let credentials = [AUTHORIZATION, COOKIE].iter().any(|name| parts.headers.contains_key(name));
                if credentials && !seen.swap(true, Ordering::Relaxed) {
                    return Told::Warn;
                }
                Told::Scope(String::new())
            }
        }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::By(_) => "Scope::by",
            Kind::Shared(_) => "Scope::shared",
        })
    }
}
