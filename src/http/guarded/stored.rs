//! What is kept of a request and a response: what the hooks leave, less credentials.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Uri};

use super::{RequestContext, Shared};
use crate::core::{Labels, NotRetained, StoredRequest, StoredResponse, in_its_own_piece};
use crate::engine::content::Content;
use crate::http::extract::original_uri;
use crate::http::policy::Policy;
use crate::http::redaction::{RequestToStore, ResponseToStore, fits, redacted};
use crate::telemetry::event::EventKind;

impl RequestContext {
    /// The request with its principal, for an attempt that has to run it again.
    pub(crate) fn request_to_store(&self, parts: &Parts, body: &Content) -> Option<Arc<StoredRequest>> {
        let request = self.shared.stored_request(parts, body)?;
        Some(Arc::new(match self.seldom.as_ref().and_then(|seldom| seldom.principal.clone()) {
            Some(principal) => request.with_principal(principal),
            None => request,
        }))
    }

    /// By which an operator finds it.
    pub(crate) fn labels(&self) -> Labels {
        self.seldom.as_ref().map_or_else(Labels::new, |seldom| seldom.labels.clone())
    }
}

impl Shared {
    /// The request, for an attempt that has to run it again. None if its hook failed: then
    /// none of it may be stored.
    fn stored_request(&self, parts: &Parts, body: &Content) -> Option<StoredRequest> {
        let none = HeaderMap::new();
        let trailers = body.trailers.as_deref().unwrap_or(&none);
        let (method, uri) = (&parts.method, original_uri(parts));
        let Some(hook) = &self.policy.redaction.request else {
            return Some(self.kept_request(method, uri, &parts.headers, body.bytes.clone(), trailers));
        };
        let (headers, trailers) = (parts.headers.clone(), trailers.clone());
        let mut request = RequestToStore { method, uri: uri.clone(), headers, body: body.bytes.clone(), trailers };
        if !redacted(&**hook, &mut request) || !fits(&request.body, &request.trailers, self.policy.request_limit) {
            self.engine.emit_unkeyed(|| EventKind::RedactionFailed { request: true });
            return None;
        }
        let kept = own(request.body, &body.bytes);
        Some(self.kept_request(method, &request.uri, &request.headers, kept, &request.trailers))
    }

    fn kept_request(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        trailers: &HeaderMap,
    ) -> StoredRequest {
        let may = |name: &HeaderName| !self.policy.coverage.is_key(name);
        StoredRequest::keep(method, uri, headers, body, trailers, may, |name| self.tell_dropped(name))
    }

    /// The response, for the retries.
    pub(super) fn stored_response(
        &self,
        parts: &http::response::Parts,
        content: Result<Content, NotRetained>,
    ) -> StoredResponse {
        let (body, trailers) = match content {
            Ok(Content { bytes, trailers }) => (Ok(bytes), trailers),
            Err(why) => (Err(why), None),
        };
        let none = HeaderMap::new();
        let trailers = trailers.as_deref().unwrap_or(&none);
        if self.policy.redaction.response.is_some() {
            return self.redacted_response(parts, body, trailers);
        }
        self.kept_response(parts, &parts.headers, body, trailers)
    }

    fn redacted_response(
        &self,
        parts: &http::response::Parts,
        body: Result<Bytes, NotRetained>,
        trailers: &HeaderMap,
    ) -> StoredResponse {
        let (headers, trailers) = (parts.headers.clone(), trailers.clone());
        let (status, extensions, before) = (parts.status, &parts.extensions, body.as_ref().ok().cloned());
        let mut response = ResponseToStore { status, extensions, headers, body: before, trailers };
        let hook = self.policy.redaction.response.as_deref();
        if !hook.is_none_or(|hook| redacted(hook, &mut response)) {
            self.engine.emit_unkeyed(|| EventKind::RedactionFailed { request: false });
            let none = HeaderMap::new();
            return self.kept_response(parts, &none, Err(NotRetained::Redacted), &none);
        }
        let body = body.and_then(|before| match response.body {
            None => Err(NotRetained::Redacted),
            Some(body) if !fits(&body, &response.trailers, self.policy.response_limit) => Err(NotRetained::TooLarge),
            Some(body) => Ok(own(body, &before)),
        });
        if body.is_err() {
            response.trailers.clear();
        }
        self.kept_response(parts, &response.headers, body, &response.trailers)
    }

    fn kept_response(
        &self,
        parts: &http::response::Parts,
        headers: &HeaderMap,
        body: Result<Bytes, NotRetained>,
        trailers: &HeaderMap,
    ) -> StoredResponse {
        let filter = self.policy.words.kept.as_ref();
        let may = |name: &HeaderName| filter.is_none_or(|filter| filter.lets_through(name) || self.is_own(name));
        let first_request = self.policy.words.first_request.as_ref();
        let named = first_request.and_then(|first| first.named_in(headers));
        let headers = named.as_ref().unwrap_or(headers);
        StoredResponse::keep(parts.status, headers, body, trailers, may, |name| self.tell_dropped(name))
    }

    /// Whether the layer says something in this field, that replays say too.
    fn is_own(&self, name: &HeaderName) -> bool {
        let Policy { words, problems, .. } = &self.policy;
        words.first_request.as_ref().is_some_and(|first| first.name == *name)
            || problems.advice.as_ref().is_some_and(|advice| advice.name == *name)
    }

    fn tell_dropped(&self, name: &HeaderName) {
        // The client's key is no news.
        if !self.policy.coverage.is_key(name) {
            self.policy.dropped.report(&self.engine, name);
        }
    }
}

/// A hook's body shares its memory with nothing that is not kept; that one that was read
/// does not already.
fn own(body: Bytes, before: &Bytes) -> Bytes {
    let is_same = body.as_ptr() == before.as_ptr() && body.len() == before.len();
    if is_same { body } else { in_its_own_piece(body) }
}
