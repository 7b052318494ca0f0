//! Whether what a completer drives through its service gets to its layer.
//!
//! Before it drives anything, the completer sends a request to which the layer responds in
//! the service's place, and that no handler serves.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use tokio::time::timeout;

use super::Completer;
use super::wiring::{CompleterError, Way};
use crate::core::{Outlook, Record};
use crate::engine::handoff::ClaimHandoff;
use crate::http::policy::says_no_route;
use crate::telemetry::event::EventKind;
use crate::util::detached::CatchPanic;

/// The method of the question. No handler serves it, unless it serves every one.
const METHOD: &[u8] = b"IDEMPOTENCY-PROBE";
/// How long to wait for a response. Whatever is around the layer may hang.
const PATIENCE: Duration = Duration::from_secs(5);

impl Completer {
    /// The completer drives nothing any more.
    pub(super) fn refuse(&self, status: StatusCode) {
        if self.wiring.refuse(status) {
            let why = CompleterError::NotWired { status }.to_string();
            self.shared.engine.emit_unkeyed(|| EventKind::NotWired { why });
        }
    }

    /// Finds out where this operation would go.
    pub(super) async fn way_for(&self, record: Option<&Record>) -> Way {
        match record.filter(|record| is_driven(record)).and_then(Record::request) {
            Some(request) => self.way_to(request.uri()).await,
            None => Way::Layer,
        }
    }

    async fn way_to(&self, target: &Uri) -> Way {
        if self.wiring.is_refused() {
            return Way::Astray;
        }
        match self.probe(target).await {
            Ok(()) => {
                self.wiring.prove();
                Way::Layer
            }
            Err(None) => Way::Unknown,
            // It does not know the method, and there is a route.
            Err(Some(status)) if status.as_u16() == 405 => self.astray(status),
            Err(Some(status)) if status.is_server_error() => Way::Unknown,
            Err(Some(status)) if says_no_route(status) => Way::NoRoute(status),
            Err(Some(status)) if matches!(status.as_u16(), 401 | 403 | 407 | 429) => Way::Unknown,
            Err(Some(status)) => self.astray(status),
        }
    }

    fn astray(&self, status: StatusCode) -> Way {
        self.refuse(status);
        Way::Astray
    }

    /// Asks at the root, where any layer around a whole router responds. If none
    /// does, that says nothing of other paths.
    pub(super) async fn probe_root(&self) {
        if !self.wiring.is_proven() && self.probe(&Uri::from_static("/")).await.is_ok() {
            self.wiring.prove();
        }
    }

    /// `Ok` if the request reached this very layer; else the response of something else, if
    /// there was one.
    async fn probe(&self, target: &Uri) -> Result<(), Option<StatusCode>> {
        let (handoff, met) = ClaimHandoff::probe(&self.shared.engine);
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::from_bytes(METHOD).unwrap_or(Method::TRACE);
        *request.uri_mut() = target.clone();
        request.extensions_mut().insert(handoff);
        let answer = timeout(PATIENCE, CatchPanic::new((self.drive)(request)));
        tokio::select! {
            biased;
            _ = met.wait() => Ok(()),
            answer = answer => match answer {
                _ if met.initialized() => Ok(()),
                Ok(Ok(status)) => Err(status),
                Ok(Err(_)) | Err(_) => Err(None),
            },
        }
    }
}

/// Whether a completer would drive it, and not only look after it.
fn is_driven(record: &Record) -> bool {
    matches!(record.outlook(), Outlook::Decided | Outlook::Resumable)
}
