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
    /// draft §1. Requests of other methods pass as if there were no layer. The first
    /// one of them that carries a key raises
    /// [`EventKind::KeyIgnored`](crate::EventKind::KeyIgnored).
    ///
    /// `GET`, `HEAD`, `OPTIONS` and `TRACE` are safe (RFC 9110 §9.2.1): they need no
    /// protection. The layer ignores them and `CONNECT` in `methods`, and raises no event for
    /// them; if `methods` has no other method, the layer covers the same methods as before.
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

    /// Lets those covered requests pass for which `skip` returns `true`, as if there were no
    /// layer, with or without a key, even where one is [required](Self::required). By
    /// default the layer skips none.
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
    /// A skipped request runs each time the client sends it. The layer calls `skip` for every
    /// covered request. It must return the same for a retry as for the first request, so it
    /// must not look at what may differ between them.
    pub fn skip(self, skip: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.set(|policy| policy.coverage.skip = Some(Arc::new(skip)))
    }

    /// Refuses covered requests without a key: 400 `missing-key` (IETF draft §2.7). By
    /// default they pass, as if there were no layer.
    pub fn required(self) -> Self {
        self.set(|policy| policy.coverage.required = Required::Always)
    }

    /// The same, for those requests for which `required` returns `true`. If you call both this
    /// and [`required`](Self::required), the last call counts.
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

    /// The header fields that carry the key, by default `Idempotency-Key`. If you name others,
    /// the layer ignores `Idempotency-Key` unless you name it, too. An empty list changes nothing.
    ///
    /// The layer refuses a request with two such lines, of one name or of different names,
    /// with 400 `invalid-key`: it does not say which key counts. The stored request
    /// does not have these fields.
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
    /// The same key in another of these fields is the same key. A field that a
    /// proxy sets anew for each try, as it may do with `X-Request-Id`, protects nothing.
    pub fn key_headers(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.set(|policy| policy.coverage.set_names(names))
    }

    /// The header fields in which this layer looks for a key, and for
    /// [when a request was first sent](Self::first_sent): what a proxy takes off that keeps keys
    /// to itself.
    ///
    /// ```
    /// use tower_idempotency::{IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>()).paypal();
    /// assert_eq!(layer.key_header_names(), ["paypal-request-id"]);
    /// ```
    pub fn key_header_names(&self) -> Vec<HeaderName> {
        let coverage = &self.shared.policy.coverage;
        coverage.names().iter().cloned().chain(coverage.first_sent.clone()).collect()
    }

    /// The key may also be a member of a JSON body, as in the APIs of Square, Amazon and
    /// Google: see [`KeyMember`]. By default it is in a [header](Self::key_headers) only.
    ///
    /// A body that is not JSON, or does not have the member, has no key. The layer refuses a
    /// member that is not a string with 400 `invalid-key`, and also a request whose header
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
    /// The layer has to read every covered request to its end to find out whether it has a key,
    /// within [`request_limit`](Self::request_limit),
    /// [`upload_budget`](Self::upload_budget) and
    /// [`upload_timeout`](Self::upload_timeout), and each needs a [`Scope`](crate::Scope).
    /// [`skip`](Self::skip) requests that may be longer, or that talk both ways. The layer does
    /// not look for a key in the body of a gRPC call. A compressed body has no key: put the layer
    /// inside the one that decompresses requests. In resumable mode the key is stored with
    /// the body.
    pub fn key_member(self, member: KeyMember) -> Self {
        self.set(|policy| policy.coverage.member = Some(member))
    }

    /// Which header values are keys: see [`KeyRules`]. The layer refuses any other with
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
    /// Stricter rules also refuse retries of requests whose keys the layer accepted before.
    pub fn key_rules(self, rules: KeyRules) -> Self {
        self.set(|policy| policy.coverage.rules = Some(rules))
    }
}
