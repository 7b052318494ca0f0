//! Who looks at the page, and what they may do.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderValue;
use http::request::Parts;

use crate::operator::shown::Shown;

type Decided = Pin<Box<dyn Future<Output = Result<Who, Denied>> + Send>>;
type Hook = dyn Fn(Parts) -> Decided + Send + Sync;
type Sees = dyn Fn(&Shown) -> bool + Send + Sync;

/// Who may see the [`Inspector`](crate::Inspector), and who may decide there.
///
/// There is no default: what the page shows and does is your choice.
#[derive(Clone)]
#[must_use]
pub struct Authorise(Arc<Hook>);

impl Authorise {
    /// Asks this hook for each request, with its head: its method, target, headers and
    /// extensions, where an authentication outside left what it found.
    ///
    /// ```
    /// use tower_idempotency::{Authorise, Denied, Who};
    ///
    /// # #[derive(Clone)] struct Session { user: String, on_call: bool }
    /// let authorise = Authorise::by(|request| async move {
    ///     // Whatever your own authentication leaves in the request.
    ///     let session = request.extensions.get::<Session>().ok_or_else(Denied::unauthenticated)?;
    ///     let who = Who::named(&session.user);
    ///     Ok(if session.on_call { who.may_decide() } else { who })
    /// });
    /// ```
    pub fn by<F, D>(hook: F) -> Self
    where
        F: Fn(Parts) -> D + Send + Sync + 'static,
        D: Future<Output = Result<Who, Denied>> + Send + 'static,
    {
        Self(Arc::new(move |parts| Box::pin(hook(parts))))
    }

    /// Lets every request see everything and decide everything, under this name. For a page
    /// that only an operator can reach: behind a proxy that authenticates, or on a loopback
    /// address.
    ///
    /// ```
    /// use tower_idempotency::Authorise;
    ///
    /// let authorise = Authorise::allow_all_as("on call");
    /// ```
    ///
    /// # Caveats
    ///
    /// The history then shows this name for each decision, not that of a person.
    pub fn allow_all_as(name: &str) -> Self {
        let who = Who::named(name).may_decide().may_plan_maintenance();
        Self::by(move |_| std::future::ready(Ok(who.clone())))
    }

    pub(super) async fn ask(&self, parts: Parts) -> Result<Who, Denied> {
        (self.0)(parts).await
    }
}

impl fmt::Debug for Authorise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorise").finish_non_exhaustive()
    }
}

/// A person who may see the [`Inspector`](crate::Inspector): only see it, unless more is
/// allowed.
#[derive(Clone)]
#[must_use]
pub struct Who {
    name: Arc<str>,
    decides: bool,
    plans: bool,
    sees: Option<Arc<Sees>>,
}

impl Who {
    /// A person of this name, who may see all operations and change nothing. The name is
    /// what the history of an operation shows beside their decisions. One without a name may
    /// change nothing whatever else is allowed.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), decides: false, plans: false, sees: None }
    }

    /// They may also decide about the operations that they see.
    pub const fn may_decide(mut self) -> Self {
        self.decides = true;
        self
    }

    /// They may also plan, extend and end [maintenance windows](crate::guide::maintenance).
    pub const fn may_plan_maintenance(mut self) -> Self {
        self.plans = true;
        self
    }

    /// They see these operations alone: any other one is to them as if it did not exist. What
    /// is counted or planned for all operations they do not see.
    ///
    /// ```
    /// use tower_idempotency::Who;
    ///
    /// let who = Who::named("eve").sees(|shown| {
    ///     shown.record.request().is_some_and(|request| request.uri().path().starts_with("/orders"))
    /// });
    /// ```
    pub fn sees(mut self, which: impl Fn(&Shown) -> bool + Send + Sync + 'static) -> Self {
        self.sees = Some(Arc::new(which));
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn decides(&self) -> bool {
        self.decides && self.has_name()
    }

    pub(super) fn plans(&self) -> bool {
        self.plans && self.has_name() && self.sees_all()
    }

    pub(super) fn sees_all(&self) -> bool {
        self.sees.is_none()
    }

    pub(super) fn may_see(&self, shown: &Shown) -> bool {
        self.sees.as_ref().is_none_or(|sees| sees(shown))
    }

    fn has_name(&self) -> bool {
        !self.name.trim().is_empty()
    }
}

impl fmt::Debug for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Who").field("name", &self.name).field("decides", &self.decides).finish_non_exhaustive()
    }
}

/// Why a request may not see the [`Inspector`](crate::Inspector). It learns nothing else.
#[derive(Clone)]
#[must_use]
pub struct Denied(pub(super) Denial);

#[derive(Clone)]
pub(super) enum Denial {
    Unauthenticated(Option<HeaderValue>),
    Forbidden,
    LogIn(HeaderValue),
}

impl Denied {
    /// 401: it does not say who sent it.
    pub const fn unauthenticated() -> Self {
        Self(Denial::Unauthenticated(None))
    }

    /// 401 with this `WWW-Authenticate`, by which a browser asks for a name and a password.
    ///
    /// ```
    /// use http::HeaderValue;
    /// use tower_idempotency::Denied;
    ///
    /// let denied = Denied::challenge(HeaderValue::from_static("Basic realm=\"operators\""));
    /// ```
    pub const fn challenge(challenge: HeaderValue) -> Self {
        Self(Denial::Unauthenticated(Some(challenge)))
    }

    /// 403: it is known who sent it, and they may not see this.
    pub const fn forbidden() -> Self {
        Self(Denial::Forbidden)
    }

    /// 303 to the address where they log in.
    pub const fn log_in_at(address: HeaderValue) -> Self {
        Self(Denial::LogIn(address))
    }
}

impl fmt::Debug for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Denial::Unauthenticated(_) => "Denied(unauthenticated)",
            Denial::Forbidden => "Denied(forbidden)",
            Denial::LogIn(_) => "Denied(log in)",
        })
    }
}
