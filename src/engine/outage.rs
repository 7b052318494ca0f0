//! Whether the store is lost, so that the log says so once and says when it is back.

use std::sync::atomic::{AtomicU8, Ordering};

use super::Engine;
use crate::core::Key;
use crate::store::StoreError;
use crate::telemetry::event::EventKind;

/// What the store was asked to do. A store may scan and take no writes, so that the one says
/// nothing of the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Calls {
    Writes = 1,
    Scans = 2,
}

/// The kinds of calls that failed and have not succeeded since.
#[derive(Debug, Default)]
pub(crate) struct Outage(AtomicU8);

impl Outage {
    /// Whether any had failed before.
    fn failed(&self, calls: Calls) -> bool {
        self.0.fetch_or(calls as u8, Ordering::AcqRel) != 0
    }

    /// Whether all succeed again, by this.
    #[inline]
    fn succeeded(&self, calls: Calls) -> bool {
        self.0.load(Ordering::Relaxed) & calls as u8 != 0 && self.clear(calls) == calls as u8
    }

    /// What had failed before.
    fn clear(&self, calls: Calls) -> u8 {
        self.0.fetch_and(!(calls as u8), Ordering::AcqRel)
    }
}

impl Engine {
    /// A call failed. The first of an outage says that the store is lost.
    pub(crate) fn store_failed(&self, key: Option<&Key>, calls: Calls, error: &StoreError) {
        let repeated = error.is_outage() && self.outage().failed(calls);
        let kind = || EventKind::StoreFailed { error: error.clone(), repeated };
        match key {
            Some(key) => self.emit(key, kind),
            None => self.emit_unkeyed(kind),
        }
    }

    /// A call succeeded.
    #[inline]
    pub(crate) fn store_succeeded(&self, calls: Calls) {
        if self.outage().succeeded(calls) {
            self.emit_unkeyed(|| EventKind::StoreBack);
        }
    }

    /// For as long as scans go on: what ends can't say that they succeed again.
    pub(crate) fn scanning(&self) -> Scanning {
        Scanning(self.clone())
    }

    fn outage(&self) -> &Outage {
        &self.shared.process.outage
    }
}

pub(crate) struct Scanning(Engine);

impl Drop for Scanning {
    fn drop(&mut self) {
        self.0.outage().clear(Calls::Scans);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_once_and_ends_once_all_that_failed_succeeds() {
        let outage = Outage::default();
        assert!(!outage.succeeded(Calls::Writes) && !outage.succeeded(Calls::Scans), "it was never lost");
        assert_eq!([Calls::Writes, Calls::Scans, Calls::Writes].map(|calls| outage.failed(calls)), [false, true, true]);
        // A store that takes no writes may well scan.
        assert!(!outage.succeeded(Calls::Scans) && !outage.succeeded(Calls::Scans));
        assert!(outage.failed(Calls::Scans) && !outage.succeeded(Calls::Writes));
        assert!(outage.succeeded(Calls::Scans) && !outage.succeeded(Calls::Scans) && !outage.succeeded(Calls::Writes));
        assert!(!outage.failed(Calls::Scans), "the next outage");
    }
}
