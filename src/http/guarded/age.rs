//! Requests that were first sent longer ago than responses are remembered.

use http::Response;
use http_body::Body;

use super::RequestContext;
use super::respond::unavailable;
use crate::core::Fingerprint;
use crate::http::body::ResponseBody;
use crate::telemetry::refusal::Refusal;

impl RequestContext {
    /// What such a request gets; `None` if it is not as old, or is to go on.
    pub(super) async fn too_old<B: Body>(&self, fingerprint: &Fingerprint) -> Option<Response<ResponseBody<B>>> {
        let first_sent = self.seldom.as_ref()?.first_sent?;
        let engine = &self.shared.engine;
        let loaded = match engine.look(&self.key).await {
            Ok(loaded) => loaded,
            Err(error) => return Some(self.refuse(unavailable(&error))),
        };
        if loaded.now <= first_sent.after(engine.limits().retention) {
            return None;
        }
        let Some(record) = loaded.record.as_ref().filter(|record| !record.is_expired(loaded.now)) else {
            return Some(self.refuse(Refusal::TooOld));
        };
        // It may be forgotten by the time of a claim, which would run it anew.
        record.response()?;
        let attempt = record.attempts();
        Some(self.respond_as_hooked(self.would_get(&loaded, fingerprint), attempt).await)
    }
}
