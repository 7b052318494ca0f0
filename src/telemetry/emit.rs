//! Where every event goes out: to the observer, to `metrics` and to `tracing`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::core::Key;
use crate::telemetry::event::{Event, EventKind};

/// Listens to events.
pub(crate) type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// Hands an event to the observer, if there is one, and to `tracing`.
pub(crate) fn emit(
    observer: Option<&Observer>,
    key: Option<Key>,
    attempt: Option<u32>,
    kind: impl FnOnce() -> EventKind,
) {
    if observer.is_none() && !others_listen() {
        return;
    }
    let event = Event { key, attempt, kind: kind() };
    #[cfg(feature = "metrics")]
    crate::telemetry::metrics::count(&event.kind);
    #[cfg(feature = "tracing")]
    trace(&event);
    if let Some(observer) = observer {
        // One that panics must not take a claim or a write along. The panic
        // hook has reported it.
        let _ = catch_unwind(AssertUnwindSafe(|| observer(&event)));
    }
}

/// Whether `tracing` or `metrics` may want it. Whether a recorder of metrics is
/// installed can't be known.
fn others_listen() -> bool {
    #[cfg(feature = "tracing")]
    if tracing::enabled!(target: "tower_idempotency", tracing::Level::WARN) {
        return true;
    }
    cfg!(feature = "metrics")
}

/// A sentence at the level of the table in `guide/operations.md`, with the reference of its
/// attempt, or else with the key, where there is one.
#[cfg(feature = "tracing")]
fn trace(event: &Event) {
    let Event { key, kind, .. } = event;
    let reference = event.reference().map(tracing::field::display);
    // The reference begins with it.
    let key = key.filter(|_| reference.is_none()).map(tracing::field::display);
    if kind.needs_attention() {
        tracing::warn!(target: "tower_idempotency", key, reference, "{kind}");
    } else if kind.is_news() {
        tracing::info!(target: "tower_idempotency", key, reference, "{kind}");
    } else {
        tracing::debug!(target: "tower_idempotency", key, reference, "{kind}");
    }
}
