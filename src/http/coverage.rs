//! Which requests are guarded, and where their key is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use crate::core::{IdempotencyKey, InvalidKey, Timestamp, quoted};
use crate::engine::operation::Operation;
use crate::http::first_sent::first_sent;
use crate::http::grpc::{GrpcMethods, is_call};
use crate::http::header::IDEMPOTENCY_KEY;
use crate::http::key_member::KeyMember;
use crate::http::key_rules::KeyRules;
use crate::telemetry::refusal::Refusal;

type Predicate = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// Which requests are guarded.
#[derive(Clone, Default)]
pub(crate) struct Coverage {
    /// `POST` and `PATCH`, unless others were named.
    methods: Option<Arc<[Method]>>,
    /// `Idempotency-Key`, unless others were named.
    names: Option<Arc<[HeaderName]>>,
    pub(crate) rules: Option<KeyRules>,
    /// Where a request says when it was first sent.
    pub(crate) first_sent: Option<HeaderName>,
    /// Whether a key that is not looked at is refused.
    pub(crate) refuses_unguarded: bool,
    /// Where the key may be in the body.
    pub(crate) member: Option<KeyMember>,
    pub(crate) skip: Option<Predicate>,
    pub(crate) required: Required,
    /// The methods of gRPC that are guarded: none, unless they were named.
    pub(crate) grpc: Option<GrpcMethods>,
    /// Whether a key was seen with a method that is not covered.
    has_ignored: Arc<AtomicBool>,
    /// Whether a call with a key was seen whose method is not named.
    has_let_pass: Arc<AtomicBool>,
}

/// Which covered requests must have a key.
#[derive(Clone, Default)]
pub(crate) enum Required {
    #[default]
    Never,
    Always,
    If(Predicate),
}

impl Coverage {
    /// Those with nothing to protect are left out; what is empty then changes nothing.
    pub(crate) fn set_methods(&mut self, methods: impl IntoIterator<Item = Method>) {
        let methods: Arc<[Method]> = methods.into_iter().filter(may_be_covered).collect();
        self.methods = Some(methods).filter(|methods| !methods.is_empty()).or_else(|| self.methods.take());
    }

    pub(crate) fn set_names(&mut self, names: impl IntoIterator<Item = HeaderName>) {
        let names: Arc<[HeaderName]> = names.into_iter().collect();
        self.names = Some(names).filter(|names| !names.is_empty()).or_else(|| self.names.take());
    }

    #[inline]
    pub(crate) fn covers(&self, method: &Method) -> bool {
        match &self.methods {
            None => *method == Method::POST || *method == Method::PATCH,
            Some(methods) => methods.contains(method),
        }
    }

    /// Whether a request whose method is not covered has a key, for the first time.
    #[inline]
    pub(crate) fn ignores_first_key(&self, method: &Method, headers: &HeaderMap) -> bool {
        may_be_covered(method)
            && !self.has_ignored.load(Ordering::Relaxed)
            && self.names().iter().any(|name| headers.contains_key(name))
            && !self.has_ignored.swap(true, Ordering::Relaxed)
    }

    /// Whether a request with a key is refused if it is not guarded. What a handler sends on is
    /// part of what is guarded already.
    #[inline]
    pub(crate) fn refuses<B>(&self, request: &Request<B>) -> bool {
        self.refuses_unguarded
            && may_be_covered(request.method())
            && self.names().iter().any(|name| request.headers().contains_key(name))
            && request.extensions().get::<Operation>().is_none()
    }

    /// When a request with a key was first sent, if it has to say so.
    #[inline]
    pub(crate) fn first_sent(&self, headers: &HeaderMap) -> Result<Option<Timestamp>, Refusal> {
        self.first_sent.as_ref().map(|name| first_sent(headers, name)).transpose()
    }

    /// Whether a request says when it was first sent.
    #[inline]
    pub(crate) fn says_first_sent(&self, headers: &HeaderMap) -> bool {
        self.first_sent.as_ref().is_some_and(|name| headers.contains_key(name))
    }

    /// A key of the client's as it counts.
    pub(crate) fn folded(&self, key: IdempotencyKey) -> IdempotencyKey {
        match &self.rules {
            None => key,
            Some(rules) => rules.folded(key),
        }
    }

    /// Whether it is a call of gRPC whose method is not named: its body may not be read.
    #[inline]
    pub(crate) fn is_unnamed_call<B>(&self, request: &Request<B>) -> bool {
        is_call(request.version(), request.headers()) && !self.names_call(request.uri().path())
    }

    fn names_call(&self, path: &str) -> bool {
        self.grpc.as_ref().is_some_and(|methods| methods.has(path))
    }

    /// Whether no such call with a key was seen before.
    pub(crate) fn is_first_unnamed_call(&self) -> bool {
        !self.has_let_pass.swap(true, Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn skips<B>(&self, request: &mut Request<B>) -> bool {
        self.skip.as_ref().is_some_and(|skip| ask(skip, request))
    }

    #[inline]
    pub(crate) fn requires_key<B>(&self, request: &mut Request<B>) -> bool {
        match &self.required {
            Required::Never => false,
            Required::Always => true,
            Required::If(required) => ask(required, request),
        }
    }

    pub(crate) fn names(&self) -> &[HeaderName] {
        self.names.as_deref().unwrap_or_else(|| std::slice::from_ref(&IDEMPOTENCY_KEY))
    }

    /// Whether the client's key is in this field.
    pub(crate) fn is_key(&self, name: &HeaderName) -> bool {
        *name == IDEMPOTENCY_KEY || self.names().contains(name)
    }

    /// The line that has the key, where there is one that is valid.
    pub(crate) fn line_of(&self, headers: &HeaderMap) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = headers.iter().find(|(name, _)| self.names().contains(name))?;
        Some((name.clone(), value.clone()))
    }

    /// The key in these headers.
    #[inline]
    pub(crate) fn key_of(&self, headers: &HeaderMap) -> Option<Result<IdempotencyKey, InvalidKey>> {
        let line = match &self.names {
            None => only_line(headers.get_all(&IDEMPOTENCY_KEY).iter()),
            Some(names) => only_line(headers.iter().filter(|(name, _)| names.contains(name)).map(|(_, line)| line)),
        }?;
        Some(line.and_then(|line| self.parse(line.as_bytes())))
    }

    #[inline]
    fn parse(&self, text: &[u8]) -> Result<IdempotencyKey, InvalidKey> {
        match &self.rules {
            None => IdempotencyKey::parse(text),
            Some(rules) => rules.parse(text),
        }
    }

    /// Whether it has to be read to know its key. A call of gRPC is no JSON, and may talk
    /// both ways.
    #[inline]
    pub(crate) fn may_have_key_in_body<B>(&self, request: &mut Request<B>) -> bool {
        self.member.is_some() && !self.skips(request) && !is_call(request.version(), request.headers())
    }

    /// The key in this body, or in a header, or in both.
    pub(crate) fn key_in(
        &self,
        in_header: Option<IdempotencyKey>,
        body: &[u8],
    ) -> Result<Option<IdempotencyKey>, InvalidKey> {
        let found = self.member.as_ref().and_then(|member| member.find(body)).transpose()?;
        // As a quoted string, in which every key can be written.
        let in_body = found.map(|text| self.parse(quoted(&text).as_bytes())).transpose()?;
        match (in_header, in_body) {
            (Some(one), Some(other)) if one != other => Err(InvalidKey::Differs),
            (one, other) => Ok(one.or(other)),
        }
    }
}

/// What the predicate says of a request. A predicate sees parts, and a request has none
/// without being taken apart: so it lends them, and only where there is a predicate.
#[cold]
fn ask<B>(predicate: &Predicate, request: &mut Request<B>) -> bool {
    let (mut parts, ()) = Request::new(()).into_parts();
    swap(&mut parts, request);
    let said = predicate(&parts);
    swap(&mut parts, request);
    said
}

fn swap<B>(parts: &mut Parts, request: &mut Request<B>) {
    std::mem::swap(&mut parts.method, request.method_mut());
    std::mem::swap(&mut parts.uri, request.uri_mut());
    std::mem::swap(&mut parts.version, request.version_mut());
    std::mem::swap(&mut parts.headers, request.headers_mut());
    std::mem::swap(&mut parts.extensions, request.extensions_mut());
}

/// Whether there may be something to protect. Not by [`Method::is_safe`]: a `QUERY` is
/// safe, and may still be worth its stored response.
#[inline]
fn may_be_covered(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::CONNECT)
}

/// The layer refuses two lines, whatever they say: joining them could make a third key.
#[inline]
fn only_line<'a>(mut lines: impl Iterator<Item = &'a HeaderValue>) -> Option<Result<&'a HeaderValue, InvalidKey>> {
    let line = lines.next()?;
    if lines.next().is_some() {
        return Some(Err(InvalidKey::Twice));
    }
    Some(Ok(line))
}

impl fmt::Debug for Required {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "Never",
            Self::Always => "Always",
            Self::If(_) => "If",
        })
    }
}
