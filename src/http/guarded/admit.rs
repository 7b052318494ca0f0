//! Whether a request is guarded, and under which key.

use std::sync::Arc;

use http::request::Parts;
use http::{Extensions, Method, Request, Uri};

use super::{RequestContext, Shared};
use crate::core::{IdempotencyKey, Key};
use crate::engine::operation::Operation;
use crate::http::grpc::is_call;
use crate::http::scope::{Scope, ScopeDecision};
use crate::http::upload::Upload;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;

impl Shared {
    /// The key of a request, if it has one and is to be guarded by it.
    #[inline]
    pub(crate) fn key_of<B>(&self, request: &mut Request<B>) -> Result<Option<IdempotencyKey>, Refusal> {
        if self.policy.coverage.skips(request) {
            return if self.policy.coverage.refuses(request) { Err(Refusal::NotGuarded) } else { Ok(None) };
        }
        match self.policy.coverage.key_of(request.headers()) {
            None => self.without_key(request).map(|()| None),
            Some(_) if self.policy.coverage.is_unnamed_call(request) => self.unnamed_call(request).map(|()| None),
            Some(key) => key.map(Some).map_err(Refusal::InvalidKey),
        }
    }

    /// Tells, once, that a request has a key and is not guarded by it.
    #[inline]
    pub(crate) fn tell_ignored_key<B>(&self, request: &Request<B>) {
        if self.policy.coverage.ignores_first_key(request.method(), request.headers()) {
            self.engine.emit_unkeyed(|| EventKind::KeyIgnored { method: request.method().to_string() });
        }
    }

    /// Whether a request without a key may pass.
    pub(super) fn without_key<B>(&self, request: &mut Request<B>) -> Result<(), Refusal> {
        match Driven::of(request.extensions()).map(|driven| driven.scope.is_same(&self.policy.scope)) {
            // What a completer runs has no key to show: it is not stored.
            Some(true) => Ok(()),
            // From its client it would be guarded here, as a record of its own.
            Some(false) => Err(Refusal::Interrupted),
            None if self.policy.coverage.requires_key(request) => {
                let is_unnamed = self.policy.coverage.is_unnamed_call(request);
                Err(if is_unnamed { Refusal::GrpcMethodNotNamed } else { Refusal::MissingKey })
            }
            None if self.policy.coverage.says_first_sent(request.headers()) => Err(Refusal::FirstSentInvalid),
            None => Ok(()),
        }
    }

    /// Whether a call of gRPC with a key, whose method is not named, may pass.
    #[cold]
    fn unnamed_call<B>(&self, request: &mut Request<B>) -> Result<(), Refusal> {
        if self.policy.coverage.refuses(request) {
            return Err(Refusal::NotGuarded);
        }
        if self.policy.coverage.requires_key(request) {
            return Err(Refusal::GrpcMethodNotNamed);
        }
        if self.policy.coverage.is_first_unnamed_call() {
            self.engine.emit_unkeyed(|| EventKind::KeyIgnored { method: request.uri().path().to_owned() });
        }
        Ok(())
    }

    /// Decides whether a request with a key is guarded by this layer.
    pub(crate) fn admit(
        self: &Arc<Self>,
        idempotency_key: &IdempotencyKey,
        parts: &mut Parts,
    ) -> Result<Option<(RequestContext, Upload)>, Refusal> {
        let scope = self.scope_of(parts)?;
        let Some(context) = self.context(&scope, idempotency_key, parts)? else { return Ok(None) };
        Ok(Some((context, self.upload(parts, scope)?)))
    }

    /// What a request in this scope needs; `None` if it is part of what runs.
    #[inline]
    pub(super) fn context(
        self: &Arc<Self>,
        scope: &str,
        idempotency_key: &IdempotencyKey,
        parts: &mut Parts,
    ) -> Result<Option<RequestContext>, Refusal> {
        let route = self.policy.scope.route_of(parts);
        let key = match &route {
            None => Key::new(scope, idempotency_key),
            Some(route) => route.key(scope, idempotency_key),
        };
        // Under another layer of this kind, the operation is claimed already. It
        // would wait for itself.
        if parts.extensions.get::<Operation>().is_some_and(|operation| *operation.key() == key) {
            return Ok(None);
        }
        let seldom = self.policy.seldom(idempotency_key, parts)?;
        // A 202 is no response of gRPC.
        let background = self.policy.background.as_ref().filter(|_| !is_call(parts.version, &parts.headers));
        let later =
            background.and_then(|background| background.place_for(&parts.headers, idempotency_key, route.as_ref()));
        if let Some(route) = route {
            parts.extensions.insert(route);
        }
        Ok(Some(RequestContext { shared: Arc::clone(self), key, later, seldom, rest: None, is_driven: false }))
    }

    /// Room for its body, if what it announces is not too much.
    #[inline]
    pub(super) fn upload(&self, parts: &Parts, scope: String) -> Result<Upload, Refusal> {
        let length = parts.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        if length > self.policy.request_limit {
            return Err(Refusal::BodyTooLarge);
        }
        Ok(Upload::new(&self.policy.uploads, self.policy.upload_limits, self.policy.request_limit, scope))
    }

    /// Whose request it is.
    pub(crate) fn scope_of(&self, parts: &Parts) -> Result<String, Refusal> {
        loop {
            match self.policy.scope.decide(parts) {
                ScopeDecision::Scope(scope) => return Ok(scope),
                ScopeDecision::Warn => self.engine.emit_unkeyed(|| EventKind::SharedScope),
                ScopeDecision::Unknown => return Err(Refusal::ScopeUnknown),
            }
        }
    }
}

/// In the extensions of what a completer runs.
#[derive(Clone)]
pub(crate) struct Driven {
    pub(crate) key: Key,
    /// Of the layer that runs it.
    pub(crate) scope: Scope,
    /// What it asks for.
    pub(crate) method: Method,
    pub(crate) uri: Uri,
}

impl Driven {
    /// If these extensions are of a completer's attempt at the operation that they
    /// show.
    #[inline]
    fn of(extensions: &Extensions) -> Option<&Self> {
        let driven = extensions.get::<Self>()?;
        extensions.get::<Operation>().filter(|running| *running.key() == driven.key).map(|_| driven)
    }

    /// Whether this is what a completer runs, at a clone of the layer that runs it: from its
    /// client it would pass there, and whose it is can't be told without its credentials.
    /// What its handler sends on to another target does not pass: it may be an operation of
    /// its own.
    #[cold]
    pub(crate) fn passes(parts: &Parts, scope: &Scope) -> bool {
        Self::of(&parts.extensions).is_some_and(|driven| {
            (&driven.method, &driven.uri) == (&parts.method, &parts.uri) && driven.scope.is_same(scope)
        })
    }
}
