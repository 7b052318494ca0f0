//! What a completer knows of the way through its service.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use tokio::sync::SetOnce;

use crate::store::StoreError;

/// Why a completer stopped, or did nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CompleterError {
    /// The store failed when asked what is due.
    Store(StoreError),
    /// The service does not lead to the layer: what the completer drives would run
    /// unprotected, so it has stopped.
    NotWired {
        /// The status that the service returned in the layer's place.
        status: StatusCode,
    },
}

impl fmt::Display for CompleterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::NotWired { status } => write!(
                f,
                "the completer's service responded {status} and the request did not reach the layer: the service is without the \
                 layer, or with a layer of another store or an instance of its own; give Completer::new the service \
                 that has the same layer, or a clone of it, around its routes"
            ),
        }
    }
}

impl std::error::Error for CompleterError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::NotWired { .. } => None,
        }
    }
}

impl From<StoreError> for CompleterError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a completer knows of its service. Shared by its clones.
#[derive(Debug, Default)]
pub(super) struct Wiring {
    proven: AtomicBool,
    refused: OnceLock<StatusCode>,
    on_refusal: SetOnce<()>,
}

/// Where the way through the service leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the layer, as far as is known.
    Layer,
    /// To something before it, which may let the next request pass.
    Unknown,
    /// Nowhere, in this process.
    NoRoute(StatusCode),
    /// Past the layer.
    Astray,
}

impl Wiring {
    pub(super) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed) && !self.on_refusal.initialized()
    }

    pub(super) fn refusal(&self) -> Option<CompleterError> {
        self.refused.get().map(|status| CompleterError::NotWired { status: *status })
    }

    /// Nothing is to be driven any more. `true` the first time.
    pub(super) fn refuse(&self, status: StatusCode) -> bool {
        let _ = self.refused.set(status);
        self.on_refusal.set(()).is_ok()
    }

    pub(super) fn is_refused(&self) -> bool {
        self.on_refusal.initialized()
    }

    /// Resolves once nothing is to be driven any more.
    pub(super) async fn refused(&self) {
        self.on_refusal.wait().await;
    }
}
