//! A request whose key may be in its body: that is read first.

use std::sync::Arc;

use http::Request;
use http::request::Parts;

use super::Shared;
use super::run::GuardedRequest;
use crate::core::IdempotencyKey;
use crate::engine::content::Content;
use crate::http::upload::Upload;
use crate::http::words::Exit;
use crate::telemetry::event::EventKind;
use crate::telemetry::refusal::Refusal;

/// It waits for its body.
pub(crate) struct Unread<S> {
    service: S,
    parts: Parts,
    shared: Arc<Shared>,
    head: Head,
}

/// What its head says.
pub(crate) struct Head {
    scope: String,
    in_header: Option<IdempotencyKey>,
}

/// What becomes of a request once its body is there.
pub(crate) enum Decision<S> {
    /// It has no key, or is part of an operation that runs.
    Pass(S, Request<Content>),
    Guard(Box<GuardedRequest<S>>, Content, Option<Box<Exit>>),
    Refuse(Arc<Shared>, Refusal, Option<Box<Exit>>),
}

impl Shared {
    /// What can be refused by the head is refused before the body comes.
    pub(crate) fn head(&self, parts: &Parts) -> Result<(Head, Upload), Refusal> {
        let in_header = self.policy.coverage.key_of(&parts.headers).transpose().map_err(Refusal::InvalidKey)?;
        let scope = self.scope_of(parts)?;
        let upload = self.upload(parts, scope.clone())?;
        Ok((Head { scope, in_header }, upload))
    }
}

impl<S> Unread<S> {
    pub(crate) fn new(service: S, parts: Parts, shared: &Arc<Shared>, head: Head) -> Box<Self> {
        Box::new(Self { service, parts, shared: Arc::clone(shared), head })
    }

    /// With what was read.
    pub(crate) fn decide(self, read: Result<Content, Refusal>) -> Decision<S> {
        let Self { service, mut parts, shared, head: Head { scope, in_header } } = self;
        let policy = &shared.policy;
        let key = read.and_then(|content| {
            let key = policy.coverage.key_in(in_header, &content.bytes).map_err(Refusal::InvalidKey)?;
            Ok((key, content))
        });
        let (key, content) = match key {
            Ok(found) => found,
            Err(refusal) => return Self::refuse(&shared, refusal, policy.exit_of(None, &parts)),
        };
        let Some(key) = key else {
            let mut request = Request::from_parts(parts, content);
            return match shared.without_key(&mut request) {
                Ok(()) => Decision::Pass(service, request),
                Err(refusal) => Self::refuse(&shared, refusal, policy.exit_unkeyed(&request)),
            };
        };
        let context = match shared.context(&scope, &key, &mut parts) {
            Ok(Some(context)) => context,
            Ok(None) => return Decision::Pass(service, Request::from_parts(parts, content)),
            Err(refusal) => return Self::refuse(&shared, refusal, policy.exit_of(Some(&key), &parts)),
        };
        let exit = policy.exit_of(Some(&key), &parts);
        Decision::Guard(GuardedRequest::new(service, parts, context, Some(key)), content, exit)
    }

    fn refuse(shared: &Arc<Shared>, refusal: Refusal, exit: Option<Box<Exit>>) -> Decision<S> {
        shared.engine.emit_unkeyed(|| EventKind::Refused { refusal });
        Decision::Refuse(Arc::clone(shared), refusal, exit)
    }
}
