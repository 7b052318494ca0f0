//! What makes two requests the same request.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::hash::{Hex, digest};

/// A digest of everything that makes two requests the same request.
///
/// SHA-256 over length-prefixed components, so that no two different lists of
/// components share one. Comparing takes the same time whatever the bytes.
///
/// What counts is named by a scheme, and a record carries its number:
///
/// | scheme | what counts |
/// |---|---|
/// | 1 | method, path, query, first `Content-Type` line, body |
/// | 2 | the same, and authority, further `Content-Type` lines, `Content-Encoding`; and of some requests their trailers |
///
/// A later scheme keeps the digest of the first one as it is, and adds its own
/// beside it: a retry that meets another release during a rollout has to
/// match. Rules do the same.
#[derive(Clone, Eq)]
pub struct Fingerprint {
    digest: [u8; 32],
    /// What scheme 1 leaves out; `None` of scheme 1.
    added: Option<Added>,
    /// `None` of most requests: records and claims are moved often, and so are small.
    rare: Option<Arc<Rare>>,
}

/// What few requests have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    /// `None` where there are none, or they do not count.
    trailers: Option<Short>,
    /// `None` where the rules say no more than the first digest.
    by_rules: Option<ByRules>,
}

/// A digest of what counts by rules of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ByRules {
    rules: u32,
    digest: [u8; 32],
}

/// What scheme 2 adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Added {
    /// `None` where the authority does not count.
    authority: Option<Short>,
    content: Short,
}

/// A hash (FNV-1a): enough to tell one client's requests under one key apart. It
/// keeps no secret, and a client that makes two collide gets its own response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Short(NonZeroU32);

impl Fingerprint {
    /// The fingerprint of a list of components, in their order, by scheme 1.
    #[doc(hidden)]
    pub fn of<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self::from_bytes(digest(b"F", components))
    }

    /// The same by scheme 2. An `authority` of `None` does not count, and its case
    /// never does; `content` is what else says how the body is to be read.
    ///
    /// ```
    /// use tower_idempotency::core::Fingerprint;
    ///
    /// let first = Fingerprint::of([b"POST".as_slice(), b"/payments"]);
    /// let (a, b) = (first.clone().scheme_2(Some(b"a.example"), []), first.clone().scheme_2(Some(b"b.example"), []));
    /// assert!(!a.matches(&b));
    /// // What only one of them has is not compared.
    /// assert!(first.matches(&a) && first.scheme_2(None, []).matches(&b));
    /// ```
    #[doc(hidden)]
    #[must_use]
    pub fn scheme_2<'a>(mut self, authority: Option<&[u8]>, content: impl IntoIterator<Item = &'a [u8]>) -> Self {
        // One bit tells lower case from upper, and no two other bytes of a host.
        let authority = authority.map(|authority| Short::NOTHING.and(authority.iter().map(|byte| byte | 0x20)));
        // In UTF-8 and in header lines there is no such byte.
        let content = content
            .into_iter()
            .fold(Short::NOTHING, |content, component| content.and(component.iter().copied().chain([0xff])));
        self.added = Some(Added { authority, content });
        self
    }

    /// The same with the trailers of the request, in an order that is always the
    /// same. Without any it stays as it is: intermediaries may drop trailers, so that
    /// they are compared only where both sides have some.
    ///
    /// ```
    /// use tower_idempotency::core::Fingerprint;
    ///
    /// let call = Fingerprint::of([b"POST".as_slice(), b"/payments"]).scheme_2(None, []);
    /// let [one, other] = [b"1999", b"2999"].map(|sum| call.clone().with_trailers([(b"x-sum".as_slice(), sum.as_slice())]));
    /// assert!(!one.matches(&other) && one.matches(&call) && call.matches(&other));
    /// ```
    #[doc(hidden)]
    #[must_use]
    pub fn with_trailers<'a>(self, lines: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        // Neither byte is in a name, and neither is in a value.
        let line = |trailers: Option<Short>, (name, value): (&[u8], &[u8])| {
            let bytes = name.iter().chain(b"\0").chain(value).chain(b"\n").copied();
            Some(trailers.unwrap_or(Short::NOTHING).and(bytes))
        };
        let trailers = lines.into_iter().fold(None, line);
        self.with_trailer_digest(trailers)
    }

    /// The same with a second digest: of what counts by the rules of this number, as
    /// components in their order. Where two fingerprints are by the same rules, it is
    /// compared in place of the first one.
    ///
    /// The rules of number 0 are those that say the same of most requests as scheme 1,
    /// and then need no second digest: with them, two requests are the same if either
    /// digest says so.
    ///
    /// ```
    /// use tower_idempotency::core::Fingerprint;
    ///
    /// let sent = |body: &str| Fingerprint::of([b"POST".as_slice(), b"/payments", body.as_bytes()]);
    /// let (one, other) = (sent(r#"{"sum": 1}"#), sent(r#"{"sum":1}"#));
    /// let ruled = |sent: &Fingerprint| sent.clone().with_rules(17, [br#"{"sum":1}"#.as_slice()]);
    /// assert!(!one.matches(&other) && ruled(&one).matches(&ruled(&other)));
    /// // Without the same rules on both sides, the first digest counts.
    /// assert!(ruled(&one).matches(&one) && !ruled(&one).matches(&other));
    /// ```
    #[doc(hidden)]
    #[must_use]
    pub fn with_rules<'a>(self, rules: u32, components: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let digest = digest(b"F", components);
        self.with_rare(|rare| rare.by_rules = Some(ByRules { rules, digest }))
    }

    /// A fingerprint of scheme 1 from its 32 bytes.
    #[doc(hidden)]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { digest: bytes, added: None, rare: None }
    }

    /// The 32 bytes of scheme 1, which every later one has too.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The number of its scheme.
    pub const fn scheme(&self) -> u32 {
        if self.added.is_some() { 2 } else { 1 }
    }

    /// Whether two requests are the same, as far as both fingerprints tell: a
    /// record by an older scheme is compared by that one, and so is a request
    /// whose process leaves something out.
    ///
    /// Equality (`==`) is stricter: the same scheme, with the same parts.
    #[doc(hidden)]
    #[inline]
    pub fn matches(&self, other: &Self) -> bool {
        let added = self.added.zip(other.added).is_none_or(|(one, other)| one.matches(other));
        let first = same(&self.digest, &other.digest);
        if self.rare.is_none() & other.rare.is_none() {
            return first & added;
        }
        self.says_the_same(first, other) & added
    }

    /// What few requests have, and the digests. What only one side knows is not compared.
    #[cold]
    fn says_the_same(&self, first: bool, other: &Self) -> bool {
        let trailers = self.trailers().zip(other.trailers()).is_none_or(|(one, other)| one == other);
        let [(rules, one), (others, another)] = [self, other].map(Self::ruled);
        let digests = match rules == others {
            true if rules == 0 => first | same(one, another),
            true => same(one, another),
            false => first,
        };
        digests & trailers
    }

    /// The number of its rules, and the digest by them.
    fn ruled(&self) -> (u32, &[u8; 32]) {
        let by_rules = self.rare.as_ref().and_then(|rare| rare.by_rules.as_ref());
        by_rules.map_or((0, &self.digest), |by_rules| (by_rules.rules, &by_rules.digest))
    }

    fn trailers(&self) -> Option<Short> {
        self.rare.as_ref().and_then(|rare| rare.trailers)
    }

    fn with_trailer_digest(self, trailers: Option<Short>) -> Self {
        match trailers {
            Some(trailers) => self.with_rare(|rare| rare.trailers = Some(trailers)),
            None => self,
        }
    }

    fn with_rare(mut self, set: impl FnOnce(&mut Rare)) -> Self {
        set(Arc::make_mut(self.rare.get_or_insert_default()));
        self
    }
}

/// As a record has it.
impl Fingerprint {
    /// Authority, content and trailers, where there is something to say.
    pub(super) fn added(&self) -> (Option<NonZeroU32>, Option<NonZeroU32>, Option<NonZeroU32>) {
        let authority = self.added.and_then(|added| added.authority);
        let content = self.added.map(|added| added.content).filter(|content| *content != Short::NOTHING);
        let number = |short: Option<Short>| short.map(|Short(number)| number);
        (number(authority), number(content), number(self.trailers()))
    }

    /// Authority and content, if it has no more than most requests have.
    pub(super) fn plain(&self) -> Option<(Option<NonZeroU32>, Option<NonZeroU32>)> {
        let (authority, content, _) = self.added();
        self.rare.is_none().then_some((authority, content))
    }

    /// Of a scheme that is newer than this release, what is known of it. `trailers`
    /// are of a later release than the scheme.
    pub(super) fn read(
        digest: [u8; 32],
        scheme: u32,
        authority: Option<NonZeroU32>,
        content: Option<NonZeroU32>,
        trailers: Option<NonZeroU32>,
    ) -> Self {
        let content = content.map_or(Short::NOTHING, Short);
        let added = (scheme == 2).then_some(Added { authority: authority.map(Short), content });
        Self { digest, added, rare: None }.with_trailer_digest(trailers.map(Short))
    }

    /// The number of the rules, if it is not 0, and the digest by them.
    pub(super) fn by_rules(&self) -> (Option<NonZeroU32>, Option<[u8; 32]>) {
        let by_rules = self.rare.as_ref().and_then(|rare| rare.by_rules.as_ref());
        by_rules.map_or((None, None), |by_rules| (NonZeroU32::new(by_rules.rules), Some(by_rules.digest)))
    }

    pub(super) fn read_rules(self, rules: Option<NonZeroU32>, digest: Option<[u8; 32]>) -> Self {
        let rules = rules.map_or(0, NonZeroU32::get);
        match digest {
            Some(digest) => self.with_rare(|rare| rare.by_rules = Some(ByRules { rules, digest })),
            None => self,
        }
    }
}

impl Added {
    fn matches(self, other: Self) -> bool {
        let authority = self.authority.zip(other.authority).is_none_or(|(one, other)| one == other);
        authority & (self.content == other.content)
    }
}

impl Short {
    /// Of no byte.
    const NOTHING: Self = Self(match NonZeroU32::new(0x811c_9dc5) {
        Some(basis) => basis,
        None => NonZeroU32::MIN,
    });

    fn and(self, bytes: impl Iterator<Item = u8>) -> Self {
        let hash = bytes.fold(self.0.get(), |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        // Zero counts as one.
        Self(NonZeroU32::new(hash).unwrap_or(NonZeroU32::MIN))
    }
}

/// No early exit: how far two digests agree must not show in the time.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        same(&self.digest, &other.digest) & (self.added == other.added) & (self.rare == other.rare)
    }
}

impl std::hash::Hash for Fingerprint {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.digest[..6]))
    }
}
