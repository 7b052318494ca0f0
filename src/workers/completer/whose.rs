//! Whose operation it is, as far as its stored request tells.

use std::time::Duration;

use http::Request;
use http::request::Parts;
use tokio::time::timeout;

use super::Completer;
use crate::core::{Outlook, Record, StoredRequest};
use crate::engine::shares::ScopeTag;
use crate::util::detached::CatchPanic;

/// How long the hook that prepares a request may take to tell whose it is.
const PATIENCE: Duration = Duration::from_secs(5);

impl Completer {
    /// The scope that an operation counts for while it runs; `None` if nothing of it would run
    /// now.
    pub(super) async fn counts_for(&self, record: &Record) -> Option<ScopeTag> {
        // A complete or parked one only owes a callback, which has room of its own.
        let runs = record.response().is_none() && !matches!(record.outlook(), Outlook::Parked(_));
        if !runs {
            return None;
        }
        let scope = match record.request() {
            Some(request) => self.whose(request).await,
            None => None,
        };
        Some(scope.map_or(ScopeTag::UNKNOWN, |scope| ScopeTag::of(&scope)))
    }

    /// The scope of a stored request. The hook is only called if the scope can't be told
    /// without it.
    pub(super) async fn whose(&self, stored: &StoredRequest) -> Option<String> {
        let told = CatchPanic::new(async {
            let parts = self.restored(stored).ok()?;
            if let Ok(scope) = self.shared.scope_of(&parts) {
                return Some(scope);
            }
            self.prepare.as_ref()?;
            let parts = self.prepared(parts).await.ok()?;
            self.shared.scope_of(&parts).ok()
        });
        timeout(PATIENCE, told).await.ok()?.ok()?
    }

    /// The head of the request, as it was stored, with the principal in its extensions.
    pub(super) fn restored(&self, stored: &StoredRequest) -> Result<Parts, String> {
        let mut parts = rebuilt(stored);
        self.shared.policy.whose.restore(stored, &mut parts.extensions)?;
        Ok(parts)
    }

    /// A request, as its hook makes it.
    pub(super) async fn prepared(&self, parts: Parts) -> Result<Parts, String> {
        match &self.prepare {
            Some(prepare) => prepare(parts).await,
            None => Ok(parts),
        }
    }
}

/// The head of the request, as it was stored.
fn rebuilt(stored: &StoredRequest) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = stored.method().clone();
    parts.uri = stored.uri().clone();
    for (name, value) in stored.headers() {
        parts.headers.append(name.clone(), value.clone());
    }
    parts
}
