//! Whether the store is lost, so that the log says so once and says when it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

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
    pub(crate) fn failed(&self, calls: Calls) -> bool {
        self.0.fetch_or(calls as u8, Ordering::AcqRel) != 0
    }

    /// Whether all succeed again, by this.
    #[inline]
    pub(crate) fn succeeded(&self, calls: Calls) -> bool {
        self.0.load(Ordering::Relaxed) & calls as u8 != 0 && self.clear(calls) == calls as u8
    }

    /// What had failed before.
    fn clear(&self, calls: Calls) -> u8 {
        self.0.fetch_and(!(calls as u8), Ordering::AcqRel)
    }
}

/// While scans go on: what ends can't say that they succeed again.
pub(crate) struct Scanning(Arc<Outage>);

impl Scanning {
    pub(crate) fn new(outage: &Arc<Outage>) -> Self {
        Self(Arc::clone(outage))
    }
}

impl Drop for Scanning {
    fn drop(&mut self) {
        self.0.clear(Calls::Scans);
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
