//! What a retry gets where a hook has its say.

use http::Response;
use http::header::CONTENT_LENGTH;
use http_body::Body;

use super::RequestContext;
use crate::core::{Claimed, StoredResponse};
use crate::engine::content::Content;
use crate::http::body::ResponseBody;
use crate::http::head::Head;
use crate::http::problem::restore;
use crate::http::replay_hook::Replay;
use crate::http::replay_mark::ReplayMark;
use crate::telemetry::event::EventKind;
use crate::util::detached::CatchPanic;

impl RequestContext {
    /// What the client gets in the handler's place, after the hook has had its say.
    pub(crate) async fn respond_as_hooked<B: Body>(&self, claimed: Claimed, attempt: u32) -> Response<ResponseBody<B>> {
        let head = self.seldom.as_ref().and_then(|seldom| seldom.head.as_ref());
        match (head, &claimed) {
            (Some(head), Claimed::Replay(stored, left)) if stored.not_retained().is_none() => {
                self.shared.engine.emit(&self.key, || EventKind::Replayed);
                let left = *left;
                let response = self.hooked(head.clone(), stored).await;
                self.telling(left, response)
            }
            _ => self.respond(claimed, attempt),
        }
    }

    async fn hooked<B: Body>(&self, head: Head, stored: &StoredResponse) -> Response<ResponseBody<B>> {
        let words = &self.shared.policy.words;
        let Some(hook) = &words.replay else { return restore(stored, &words.replayed, true) };
        let response = restore::<String>(stored, &words.replayed, false).map(ResponseBody::own);
        let response = CatchPanic::new(async move { hook(Replay { head, response }).await }).await;
        // A hook that fails changes nothing; and nothing follows on a 1xx.
        let Some(mut response) = response.ok().filter(|response| !response.status().is_informational()) else {
            return restore(stored, &words.replayed, true);
        };
        let ReplayMark { name, value } = &words.replayed;
        // It is framed anew.
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().insert(name.clone(), value.clone());
        response.map(|body| ResponseBody::full(Content::of(body, stored.trailers())))
    }
}
