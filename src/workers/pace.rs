//! How often a worker looks.

use std::time::Duration;

use tokio::time::sleep;

use crate::util::backoff::jittered;

/// A worker that looked more often would do nothing else.
const SHORTEST: Duration = Duration::from_millis(10);

pub(crate) fn at_least(every: Duration) -> Duration {
    every.max(SHORTEST)
}

/// Give or take half: what was started together does not look together.
pub(super) async fn pause(every: Duration) {
    sleep(jittered(every, 0.5, 1.5)).await;
}
