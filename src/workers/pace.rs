//! How often a worker looks.

use std::time::Duration;

use tokio::time::sleep;

use crate::engine::Engine;
use crate::engine::outage::Calls;
use crate::store::StoreError;
use crate::util::backoff::{Backoff, jittered};

/// A worker that looked more often would do nothing else.
const SHORTEST: Duration = Duration::from_millis(10);

pub(crate) fn at_least(every: Duration) -> Duration {
    every.max(SHORTEST)
}

/// While the store is away it is asked less and less often.
const OUTAGE: Backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(60));

/// How many scans of a worker have failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Outages(u32);

impl Outages {
    /// A scan has ended. If it failed, that is told once for an outage, however long it lasts.
    pub(crate) fn note<T>(&mut self, engine: &Engine, scanned: &Result<T, StoreError>) {
        match scanned {
            Ok(_) => {
                self.0 = 0;
                engine.store_succeeded(Calls::Scans);
            }
            Err(error) => {
                self.0 += 1;
                if self.0 == 1 {
                    engine.store_failed(None, Calls::Scans, error);
                }
            }
        }
    }

    /// Whether the last scan failed: the store is away.
    pub(crate) const fn is_away(&self) -> bool {
        self.0 > 0
    }

    /// How long until the next scan, of a worker that polls so often.
    pub(crate) fn pause(&self, poll: Duration) -> Duration {
        match self.0 {
            0 => jittered(poll, 2.0 / 3.0, 4.0 / 3.0),
            outages => jittered(poll.max(OUTAGE.longest(outages)), 0.5, 1.0),
        }
    }
}

/// Give or take half: what was started together does not look together.
pub(super) async fn pause(every: Duration) {
    sleep(jittered(every, 0.5, 1.5)).await;
}
