//! The settings.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use http::request::Parts;

use super::pointer::{InvalidPointer, Pointer};
use crate::core::Fingerprint;

type Custom = dyn Fn(&Parts, &Bytes) -> Vec<u8> + Send + Sync;

/// What makes two requests the same request: a different request with the same key
/// gets 422 `key-reused`, and runs nothing (IETF draft §2.4 and §2.7).
///
/// By default these count:
///
/// - the method, the path, the query, and the authority (`:authority`, or `Host`);
/// - the `Content-Type` by its media type (RFC 9110 §8.3.1): its case, and a `charset`,
///   do not count;
/// - the body's bytes, and its `Content-Encoding`. In a multipart body its parts and the text
///   before and after them count, but not the boundary, which clients draw anew for each
///   try (RFC 7578 §4.1). A body with a second type, or with a coding, counts byte by byte:
///   its receiver may find other parts in it;
/// - for gRPC, the trailers.
///
/// [`same`](Self::same) is for your own tests.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tower_idempotency::{FingerprintRules, IdempotencyLayer, Scope, store::MemoryStore};
///
/// let sent = |boundary: &str| {
///     let body = format!("--{boundary}\r\n\r\nfile\r\n--{boundary}--\r\n");
///     let request = Request::post("/upload").header("content-type", format!("multipart/form-data; boundary={boundary}"));
///     request.body(Bytes::from(body)).unwrap()
/// };
/// let rules = FingerprintRules::new();
/// assert!(rules.same(&sent("one"), &sent("another")));
///
/// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
///     .fingerprint(FingerprintRules::new().canonical_json().headers([http::header::IF_MATCH]));
/// ```
///
/// # Rollouts
///
/// A record names the rules of its fingerprint. A process with the same rules compares a
/// retry by them. If the rules differ, as they do while you roll a change of them
/// out or back, the process compares method, path, query, the first `Content-Type` line and
/// the body byte by byte: only a retry of the same bytes gets the stored response. It compares
/// the authority and the trailers if both sides have them
/// ([`ignore_authority`](Self::ignore_authority), [`trailers`](Self::trailers)).
#[derive(Clone)]
#[must_use]
pub struct FingerprintRules {
    pub(crate) authority: bool,
    pub(crate) query: bool,
    pub(crate) trailers: bool,
    pub(crate) exact_type: bool,
    pub(crate) headers: Vec<HeaderName>,
    pub(crate) body: BodyRule,
    /// Of those rules that make a digest of their own; 0 of the default.
    pub(crate) number: u32,
}

/// How the body counts.
#[derive(Clone)]
pub(crate) enum BodyRule {
    Bytes,
    Json { without: Vec<Pointer>, only: Vec<Pointer> },
    Ignored,
    Custom(String, Arc<Custom>),
}

impl FingerprintRules {
    /// The default.
    pub const fn new() -> Self {
        Self {
            authority: true,
            query: true,
            trailers: false,
            exact_type: false,
            headers: Vec::new(),
            body: BodyRule::Bytes,
            number: 0,
        }
    }

    /// Leaves the authority (`Host`, `:authority`) out. By default the same key at another
    /// authority is 422, as it is with another path (RFC 9110 §7.1).
    ///
    /// For servers whose clients, proxies or fail-over change the name between
    /// a request and its retry. Names are compared in lower case, and
    /// without the ports 80 and 443, in any case.
    ///
    /// ```
    /// # use {bytes::Bytes, http::Request, tower_idempotency::FingerprintRules};
    /// let sent = |host: &str| Request::post("/pay").header("host", host).body(Bytes::new()).unwrap();
    /// let same = |rules: FingerprintRules| rules.same(&sent("a.example"), &sent("b.example"));
    /// assert!(!same(FingerprintRules::new()) && same(FingerprintRules::new().ignore_authority()));
    /// ```
    ///
    /// # Caveats
    ///
    /// Under one scope, a retry at one name then gets the response that was made
    /// for another: use this only if the names stand for the same service.
    pub const fn ignore_authority(mut self) -> Self {
        self.authority = false;
        self
    }

    /// Leaves the query out. By default it counts byte by byte, in its order.
    ///
    /// For a query that does not change what the request does, such as a cache buster.
    ///
    /// ```
    /// # use {bytes::Bytes, http::Request, tower_idempotency::FingerprintRules};
    /// let sent = |target: &str| Request::post(target).body(Bytes::new()).unwrap();
    /// let same = |rules: FingerprintRules| rules.same(&sent("/pay?t=1"), &sent("/pay?t=2"));
    /// assert!(!same(FingerprintRules::new()) && same(FingerprintRules::new().ignore_query()));
    /// ```
    pub fn ignore_query(self) -> Self {
        self.set(|rules| rules.query = false)
    }

    /// Makes the trailers of every request count. By default only those of
    /// gRPC do (a `Content-Type` that begins with `application/grpc`).
    ///
    /// For clients that say something in trailers that is not in the body. Fields that may
    /// differ in a retry do not count: credentials, fields of the connection, dates,
    /// and the ids of requests and traces.
    ///
    /// ```
    /// use tower_idempotency::{FingerprintRules, IdempotencyLayer, Scope, store::MemoryStore};
    ///
    /// let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::extension::<u64>())
    ///     .fingerprint(FingerprintRules::new().trailers());
    /// ```
    ///
    /// # Caveats
    ///
    /// Intermediaries may drop trailers (RFC 9110 §6.5.1), so the layer compares them
    /// only if both the record and the retry have some: a retry without any gets
    /// the stored response.
    pub const fn trailers(mut self) -> Self {
        self.trailers = true;
        self
    }

    /// Makes every byte of the `Content-Type` count. By default its case and a `charset`
    /// do not. The boundary is part of the type, so multipart bodies then count byte by byte,
    /// too.
    ///
    /// ```
    /// # use {bytes::Bytes, http::Request, tower_idempotency::FingerprintRules};
    /// let sent = |kind: &str| Request::post("/pay").header("content-type", kind).body(Bytes::new()).unwrap();
    /// let same = |rules: FingerprintRules| {
    ///     rules.same(&sent("application/json"), &sent("application/json; charset=utf-8"))
    /// };
    /// assert!(same(FingerprintRules::new()) && !same(FingerprintRules::new().exact_content_type()));
    /// ```
    pub fn exact_content_type(self) -> Self {
        self.set(|rules| rules.exact_type = true)
    }

    /// Makes these header fields count, besides those of earlier calls: by default only
    /// `Content-Type` and `Content-Encoding` do. All lines of a field count, in their
    /// order, byte by byte; a missing field is not the same as an empty one.
    ///
    /// For fields that change what the request does: `If-Match`, `Stripe-Account`.
    ///
    /// ```
    /// # use {bytes::Bytes, http::Request, tower_idempotency::FingerprintRules};
    /// let sent = |account: &str| Request::post("/pay").header("stripe-account", account).body(Bytes::new()).unwrap();
    /// let same = |rules: FingerprintRules| rules.same(&sent("acct_1"), &sent("acct_2"));
    /// let name = http::HeaderName::from_static("stripe-account");
    /// assert!(same(FingerprintRules::new()) && !same(FingerprintRules::new().headers([name])));
    /// ```
    ///
    /// # Caveats
    ///
    /// With a field that differs in each try (`Date`, `traceparent`, a token that is renewed)
    /// every retry gets a 422.
    pub fn headers(self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.set(|rules| {
            rules.headers.extend(names);
            rules.headers.sort_by(|one, other| one.as_str().cmp(other.as_str()));
            rules.headers.dedup();
        })
    }

    /// Compares JSON by its meaning (RFC 8785): the order of members, white space and
    /// the escapes of strings do not count. By default each byte does. This applies if the
    /// `Content-Type` is `application/json` or ends with `+json`.
    ///
    /// It compares numbers by their exact value, which is stricter than RFC 8785: there,
    /// two amounts are the same if a double can't tell them apart. A body that is not JSON,
    /// is nested deeper than 128, or has two members of one name, counts byte by byte, and so
    /// does one with a second `Content-Type`, or with a `Content-Encoding`.
    ///
    /// If you call several of this, [`ignore_body`](Self::ignore_body) and
    /// [`custom`](Self::custom), the last call counts.
    ///
    /// ```
    /// # use {bytes::Bytes, http::Request, tower_idempotency::FingerprintRules};
    /// let sent = |body: &'static str| {
    ///     Request::post("/pay").header("content-type", "application/json").body(Bytes::from(body)).unwrap()
    /// };
    /// let same = |rules: FingerprintRules| {
    ///     rules.same(&sent(r#"{"sum":1,"to":"a"}"#), &sent(r#"{"to": "a", "sum": 1.0}"#))
    /// };
    /// assert!(!same(FingerprintRules::new()) && same(FingerprintRules::new().canonical_json()));
    /// ```
    pub fn canonical_json(self) -> Self {
        self.with_json(|_, _| {})
    }

    /// Compares JSON as [`canonical_json`](Self::canonical_json) does, without the members
    /// at these JSON pointers (RFC 6901). A body that has such a member is the same
    /// as one that does not; an ignored element of a list still counts as a place in the list.
    ///
    /// ```
    /// # use {bytes::Bytes, http::Request, tower_idempotency::{FingerprintRules, InvalidPointer}};
    /// let sent = |body: &'static str| {
    ///     Request::post("/pay").header("content-type", "application/json").body(Bytes::from(body)).unwrap()
    /// };
    /// let rules = FingerprintRules::new().ignore_json(["/sent_at"])?;
    /// let [one, later, other] = [r#"{"sum":1,"sent_at":7}"#, r#"{"sum":1,"sent_at":8}"#, r#"{"sum":2,"sent_at":7}"#];
    /// let [one, later, other] = [one, later, other].map(sent);
    /// assert!(rules.same(&one, &later) && !rules.same(&one, &other));
    /// # Ok::<_, InvalidPointer>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidPointer`], which says how to write it.
    pub fn ignore_json<'a>(self, pointers: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidPointer> {
        let pointers = parse(pointers)?;
        Ok(self.with_json(|without, _| add(without, pointers)))
    }

    /// Compares JSON as [`canonical_json`](Self::canonical_json) does, but only the members at
    /// these JSON pointers (RFC 6901); a missing member differs from a present one.
    /// An empty list changes nothing.
    ///
    /// ```
    /// # use {bytes::Bytes, http::Request, tower_idempotency::{FingerprintRules, InvalidPointer}};
    /// let sent = |body: &'static str| {
    ///     Request::post("/pay").header("content-type", "application/json").body(Bytes::from(body)).unwrap()
    /// };
    /// let rules = FingerprintRules::new().only_json(["/sum"])?;
    /// let [one, note, other] = [r#"{"sum":1}"#, r#"{"sum":1,"note":"!"}"#, r#"{"sum":2}"#];
    /// let [one, note, other] = [one, note, other].map(sent);
    /// assert!(rules.same(&one, &note) && !rules.same(&one, &other));
    /// # Ok::<_, InvalidPointer>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidPointer`], which says how to write it.
    ///
    /// # Caveats
    ///
    /// Two requests that differ in anything else are then the same, and the second one gets
    /// the response to the first.
    pub fn only_json<'a>(self, pointers: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidPointer> {
        let pointers = parse(pointers)?;
        Ok(if pointers.is_empty() { self } else { self.with_json(|_, only| add(only, pointers)) })
    }

    /// Leaves the body out: requests with the same key may have different bodies.
    ///
    /// For senders of webhooks, whose key is the id of an event, and who may make the body
    /// anew for each try.
    ///
    /// ```
    /// # use {bytes::Bytes, http::Request, tower_idempotency::FingerprintRules};
    /// let sent = |body: &'static str| Request::post("/pay").body(Bytes::from(body)).unwrap();
    /// let same = |rules: FingerprintRules| rules.same(&sent("one"), &sent("other"));
    /// assert!(!same(FingerprintRules::new()) && same(FingerprintRules::new().ignore_body()));
    /// ```
    ///
    /// # Caveats
    ///
    /// A client that uses a key for a second payment gets the response to the first one, and
    /// no 422.
    pub fn ignore_body(self) -> Self {
        self.set(|rules| rules.body = BodyRule::Ignored)
    }

    /// Compares the bytes that `custom` returns for a request, in place of its body. Method,
    /// path and everything else count by the other settings. The layer calls `custom` for every
    /// request with a key, before the claim.
    ///
    /// The record has the `name`: choose another one whenever you change what `custom` returns,
    /// so that the layer does not compare old fingerprints with new ones.
    ///
    /// ```
    /// # use {bytes::Bytes, http::Request, tower_idempotency::FingerprintRules};
    /// let sent = |body: &'static str| Request::post("/pay").body(Bytes::from(body)).unwrap();
    /// let rules = FingerprintRules::new().custom("upper-case-1", |_, body| body.to_ascii_uppercase());
    /// assert!(rules.same(&sent("sum=1"), &sent("SUM=1")));
    /// assert!(!rules.same(&sent("sum=1"), &sent("SUM=2")));
    /// ```
    ///
    /// # Caveats
    ///
    /// It must return the same bytes for a retry, and other bytes for another request.
    pub fn custom(
        self,
        name: impl Into<String>,
        custom: impl Fn(&Parts, &Bytes) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.set(|rules| rules.body = BodyRule::Custom(name.into(), Arc::new(custom)))
    }

    fn with_json(self, set: impl FnOnce(&mut Vec<Pointer>, &mut Vec<Pointer>)) -> Self {
        self.set(|rules| {
            if !matches!(rules.body, BodyRule::Json { .. }) {
                rules.body = BodyRule::Json { without: Vec::new(), only: Vec::new() };
            }
            if let BodyRule::Json { without, only } = &mut rules.body {
                set(without, only);
            }
        })
    }

    fn set(mut self, set: impl FnOnce(&mut Self)) -> Self {
        set(&mut self);
        self.number = self.numbered();
        self
    }

    /// Rules that say the same have the same number, in every release. Those that compare
    /// bytes need no digest of their own, and have 0.
    fn numbered(&self) -> u32 {
        if self.query && self.headers.is_empty() && matches!(self.body, BodyRule::Bytes) {
            return 0;
        }
        let flags = [("query", self.query), ("exact", self.exact_type)];
        let mut said: Vec<_> = flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| ("is", *flag)).collect();
        said.extend(self.headers.iter().map(|name| ("header", name.as_str())));
        match &self.body {
            BodyRule::Bytes => said.push(("body", "bytes")),
            BodyRule::Ignored => said.push(("body", "ignored")),
            BodyRule::Custom(name, _) => said.push(("custom", name)),
            BodyRule::Json { without, only } => {
                said.push(("body", "json"));
                said.extend(without.iter().map(|pointer| ("without", pointer.as_str())));
                said.extend(only.iter().map(|pointer| ("only", pointer.as_str())));
            }
        }
        let said = said.iter().flat_map(|(what, which)| [what.as_bytes(), which.as_bytes()]);
        let [a, b, c, d, ..] = *Fingerprint::of(std::iter::once(b"rules 1".as_slice()).chain(said)).as_bytes();
        u32::from_le_bytes([a, b, c, d]).max(1)
    }

    /// Whether a request with this type may need a digest of its own.
    #[inline]
    pub(crate) fn says_more(&self, kind: Option<&[u8]>) -> bool {
        // In lower case and without parameters, it is as plain as can be.
        let is_spelled = |kind: &[u8]| {
            // Most are this one.
            kind != b"application/json" && kind.iter().any(|byte| *byte == b';' || byte.is_ascii_uppercase())
        };
        self.number != 0 || (!self.exact_type && kind.is_some_and(is_spelled))
    }
}

fn parse<'a>(pointers: impl IntoIterator<Item = &'a str>) -> Result<Vec<Pointer>, InvalidPointer> {
    pointers.into_iter().map(Pointer::parse).collect()
}

fn add(pointers: &mut Vec<Pointer>, more: Vec<Pointer>) {
    pointers.extend(more);
    pointers.sort();
    pointers.dedup();
}

impl Default for FingerprintRules {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for FingerprintRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FingerprintRules")
            .field("authority", &self.authority)
            .field("query", &self.query)
            .field("trailers", &self.trailers)
            .field("exact_content_type", &self.exact_type)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
