//! What the layer does, as data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use tokio::sync::Semaphore;

use crate::core::{IdempotencyKey, Mode};
use crate::engine::dropped::Dropped;
use crate::engine::outcomes::Outcomes;
use crate::http::background::Background;
use crate::http::callback::Callback;
use crate::http::coverage::Coverage;
use crate::http::fingerprint::rules::FingerprintRules;
use crate::http::grpc::is_call;
use crate::http::head::{Head, Seldom};
use crate::http::problem::Problems;
use crate::http::redaction::Redaction;
use crate::http::scope::Scope;
use crate::http::upload::{UploadLimits, Uploads};
use crate::http::whose::Whose;
use crate::http::words::{Exit, Words};
use crate::telemetry::refusal::Refusal;

/// Whether a status says that there is no such route: if a router says so,
/// no handler was started.
pub(crate) const fn says_no_route(status: StatusCode) -> bool {
    matches!(status.as_u16(), 404 | 405 | 421 | 501)
}

/// All settings of the layer.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) scope: Scope,
    pub(crate) mode: Mode,
    pub(crate) coverage: Coverage,
    pub(crate) outcomes: Outcomes,
    pub(crate) fingerprint: FingerprintRules,
    pub(crate) request_limit: usize,
    pub(crate) response_limit: usize,
    pub(crate) stream_after: Duration,
    pub(crate) permits: Arc<Semaphore>,
    /// How long a duplicate waits, if it does.
    pub(crate) wait: Option<Duration>,
    pub(crate) waiting: Arc<Semaphore>,
    pub(crate) upload_limits: UploadLimits,
    pub(crate) uploads: Uploads,
    pub(crate) problems: Problems,
    pub(crate) words: Words,
    pub(crate) redaction: Redaction,
    pub(crate) whose: Whose,
    pub(crate) background: Option<Background>,
    pub(crate) callback: Option<Callback>,
    /// The names of credentials that an event has reported.
    pub(crate) dropped: Dropped,
}

impl Policy {
    pub(crate) fn new(scope: Scope) -> Self {
        Self {
            scope,
            mode: Mode::AtMostOnce,
            coverage: Coverage::default(),
            outcomes: Outcomes::new(),
            fingerprint: FingerprintRules::new(),
            request_limit: 2 << 20,
            response_limit: 2 << 20,
            stream_after: Duration::from_secs(5),
            permits: Arc::new(Semaphore::new(10_000)),
            wait: None,
            waiting: Arc::new(Semaphore::new(10_000)),
            upload_limits: UploadLimits::DEFAULT,
            uploads: Uploads::default(),
            problems: Problems::new(None),
            words: Words::default(),
            redaction: Redaction::default(),
            whose: Whose::default(),
            background: None,
            callback: None,
            dropped: Dropped::default(),
        }
    }
}

impl Policy {
    /// What is done last to the response to this request, if anything is.
    #[inline]
    fn exit(
        &self,
        key: Option<&IdempotencyKey>,
        version: Version,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Box<Exit>> {
        let Words { echo, hook, acceptance, .. } = &self.words;
        let is_grpc = is_call(version, headers);
        if !echo && hook.is_none() && acceptance.is_none() && !is_grpc {
            return None;
        }
        let echo = key.filter(|_| *echo).and_then(|_| self.coverage.line_of(headers));
        let hook = hook.as_ref().filter(|_| !is_grpc);
        let hook = hook.map(|hook| (Arc::clone(hook), Head::of(method, uri, headers, key)));
        Some(Box::new(Exit { echo, hook, acceptance: acceptance.clone(), is_grpc }))
    }

    /// The same for a request that was taken apart.
    #[inline]
    pub(crate) fn exit_of(&self, key: Option<&IdempotencyKey>, parts: &Parts) -> Option<Box<Exit>> {
        self.exit(key, parts.version, &parts.method, &parts.uri, &parts.headers)
    }

    /// The same for a request without a valid key.
    pub(crate) fn exit_unkeyed<B>(&self, request: &Request<B>) -> Option<Box<Exit>> {
        self.exit(None, request.version(), request.method(), request.uri(), request.headers())
    }

    /// What a request's context has only with settings that few layers have.
    #[inline]
    pub(crate) fn seldom(&self, key: &IdempotencyKey, parts: &Parts) -> Result<Option<Box<Seldom>>, Refusal> {
        if self.coverage.first_sent.is_none() && self.words.replay.is_none() && !self.whose.is_noted() {
            return Ok(None);
        }
        let first_sent = self.coverage.first_sent(&parts.headers)?;
        // It belongs to the request, where that is stored.
        let is_stored = self.mode == Mode::Resumable || self.background.is_some();
        let principal = if is_stored { self.whose.principal_of(parts)? } else { None };
        let (head, labels) = (self.head_for_replays(key, parts), self.whose.labels_of(parts));
        Ok(Some(Box::new(Seldom { first_sent, head, principal, labels })))
    }

    /// What the hook for replays sees of this request, if there is a hook.
    fn head_for_replays(&self, key: &IdempotencyKey, parts: &Parts) -> Option<Head> {
        let is_shown = self.words.replay.is_some() && !is_call(parts.version, &parts.headers);
        is_shown.then(|| Head::of(&parts.method, &parts.uri, &parts.headers, Some(key)))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("scope", &self.scope)
            .field("mode", &self.mode)
            .field("required", &self.coverage.required)
            .finish_non_exhaustive()
    }
}
