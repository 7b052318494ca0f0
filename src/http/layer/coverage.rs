//! Which requests are guarded, and where their key is.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, Method};

use super::IdempotencyLayer;
use crate::http::coverage::Required;
use crate::http::key_member::KeyMember;
use crate::http::key_rules::KeyRules;

impl IdempotencyLayer {
    /// Covers requests of these methods: `POST` and `PATCH` by default, as in the IETF
    /// draft §1. Requests of other methods pass as if the layer was not there. The first
    /// one of them that carries a key raises
    /// [`EventKind::KeyIgnored`](crate::EventKind::KeyIgnored).
    ///
    /// `GET`, `HEAD`, `OPTIONS` and `TRACE` are safe (RFC 9110 §9.2.1): there is nothing
    /// to protect. They and `CONNECT` raise no event and are left out of what is given
    /// here; without any other method the layer covers what it did before.
    ///
    /// ```
    /// use http::Method;
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let query = Method::from_bytes(b"QUERY")?;
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .methods([Method::POST, Method::PATCH, Method::PUT, Method::DELETE, query]);
    /// # Ok::<_, http::method::InvalidMethod>(())
    /// ```
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.set(|policy| policy.coverage.set_methods(methods))
    }

    /// Lets the covered requests pass of which `skip` says so, as if the layer was not
    /// there: whether they have a key, and whether it is [required](Self::required). By
    /// default none.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .skip(|parts| parts.uri.path().starts_with("/search"));
    /// ```
    ///
    /// # Caveats
    ///
    /// A request that is skipped runs each time it is sent. `skip` is called for every
    /// covered request, and must say the same of a retry: it must not look at what may
    /// differ there.
    pub fn skip(self, skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.set(|policy| policy.coverage.skip = Some(Arc::new(skip)))
    }

    /// Refuses covered requests without a key: 400 `missing-key` (IETF draft §2.7). By
    /// default they pass, as if the layer was not there.
    pub fn required(self) -> Self {
        self.set(|policy| policy.coverage.required = Required::Always)
    }

    /// The same, for the requests of which `required` says so. Of this and
    /// [`required`](Self::required), the last one counts.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .required_if(|parts| parts.uri.path().starts_with("/payments"));
    /// ```
    pub fn required_if(self, required: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.set(|policy| policy.coverage.required = Required::If(Arc::new(required)))
    }

    /// The header fields that carry the key: `Idempotency-Key` by default, which is
    /// then ignored unless it is named. An empty list changes nothing.
    ///
    /// A request with two lines of them, be they alike or of different names, is
    /// refused with 400 `invalid-key`: it does not say which key counts. What is stored
    /// of a request is without these fields.
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let names = ["idempotency-key", "paypal-request-id"].map(HeaderName::from_static);
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).key_headers(names);
    /// ```
    ///
    /// # Caveats
    ///
    /// The same key in another one of these fields is the same key. A field that a
    /// proxy sets anew for each try, as it may do with `X-Request-Id`, protects nothing.
    pub fn key_headers(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.set(|policy| policy.coverage.set_names(names))
    }

    /// The key may also be a member of a JSON body, as of Square's, Amazon's and Google's
    /// APIs: see [`KeyMember`]. By default it is in a [header](Self::key_headers) only.
    ///
    /// A body that is no JSON, or has no such member, has no key. A member that is no
    /// string is refused with 400 `invalid-key`, and so is a request with a header that
    /// has another key. `"K"` in a body and `K` in a header are the same key.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, KeyMember, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .key_member(KeyMember::at("/idempotency_key")?)
    ///     .required();
    /// # Ok::<_, tower_idempotency::InvalidKeyMember>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// Every covered request is read to its end before it is known whether it has a key:
    /// within [`request_limit`](Self::request_limit),
    /// [`upload_budget`](Self::upload_budget) and
    /// [`upload_timeout`](Self::upload_timeout), and its [`Scope`](crate::Scope) must be
    /// known. [`skip`](Self::skip) what may be longer, or talks both ways; a call of gRPC is not read
    /// for its key. A compressed
    /// body has no key: put the layer inside of what decompresses it. In resumable mode the
    /// key is stored with the body.
    pub fn key_member(self, member: KeyMember) -> Self {
        self.set(|policy| policy.coverage.member = Some(member))
    }

    /// Which header values are keys: see [`KeyRules`]. What breaks them is refused with
    /// 400 `invalid-key`. By default quoted strings and bare tokens of 1 to 255
    /// characters are keys.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, KeyRules, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .key_rules(KeyRules::new().uuid());
    /// ```
    ///
    /// # Caveats
    ///
    /// Stricter rules refuse the retries of requests whose keys were accepted before.
    pub fn key_rules(self, rules: KeyRules) -> Self {
        self.set(|policy| policy.coverage.rules = Some(rules))
    }
}
