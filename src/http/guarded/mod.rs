//! A request from its claim to its answer.
//!
//! Here is what it needs for that. `admit` decides
//! whether it is guarded, `run` runs it, `record` sees to how its answer counts, and stores it, `answer` has
//! what is answered in the handler's place.

pub(crate) mod admit;
pub(crate) mod answer;
mod record;
pub(crate) mod run;
mod wait;

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::core::{Key, NotRetained, StoredRequest, StoredResponse};
use crate::engine::Engine;
use crate::engine::content::Content;
use crate::engine::handoff::Handoff;
use crate::http::extract::original_uri;
use crate::http::policy::Policy;

/// What all clones of a service share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) policy: Policy,
    /// Where a completer of this process takes work that is accepted.
    pub(crate) handoff: Arc<Handoff>,
}

/// What a guarded request needs from its claim to its answer.
pub(crate) struct RequestContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: Key,
    /// Where to ask for its answer, if it is to be run in the background.
    pub(crate) later: Option<HeaderValue>,
    /// A completer runs it, and not its client.
    pub(crate) is_driven: bool,
}

impl Shared {
    /// The request, for an attempt that has to run it again.
    pub(crate) fn stored_request(&self, parts: &Parts, body: &Content) -> StoredRequest {
        let (bytes, none) = (body.bytes.clone(), HeaderMap::new());
        let trailers = body.trailers.as_deref().unwrap_or(&none);
        let (uri, coverage) = (original_uri(parts), &self.policy.coverage);
        let may = |name: &HeaderName| !coverage.is_key(name);
        StoredRequest::keep(&parts.method, uri, &parts.headers, bytes, trailers, may, |name| self.tell_dropped(name))
    }

    /// The answer, for the retries.
    fn stored_response(&self, parts: &http::response::Parts, content: Result<Content, NotRetained>) -> StoredResponse {
        let (body, trailers) = match content {
            Ok(Content { bytes, trailers }) => (Ok(bytes), trailers),
            Err(why) => (Err(why), None),
        };
        let none = HeaderMap::new();
        let trailers = trailers.as_deref().unwrap_or(&none);
        let filter = self.policy.words.kept.as_ref();
        let may = |name: &HeaderName| filter.is_none_or(|filter| filter.lets_through(name));
        StoredResponse::keep(parts.status, &parts.headers, body, trailers, may, |name| self.tell_dropped(name))
    }

    fn tell_dropped(&self, name: &HeaderName) {
        // The client's key is no news.
        if !self.policy.coverage.is_key(name) {
            self.policy.dropped.tell(&self.engine, name);
        }
    }
}
