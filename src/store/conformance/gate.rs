//! A point that calls wait at until a test lets them pass.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Holds calls up until it is opened, and says when they came and went.
/// Clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Counts>);

struct Counts {
    open: watch::Sender<bool>,
    arrived: watch::Sender<usize>,
    passed: watch::Sender<usize>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        let counts =
            Counts { open: watch::Sender::new(false), arrived: watch::Sender::new(0), passed: watch::Sender::new(0) };
        Self(Arc::new(counts))
    }

    /// Lets everyone pass, from now on.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Waits until `calls` calls have come to the gate.
    pub async fn arrived(&self, calls: usize) {
        reach(&self.0.arrived, calls).await;
    }

    /// Waits until `calls` calls have passed the gate and done what they had
    /// to do.
    pub async fn passed(&self, calls: usize) {
        reach(&self.0.passed, calls).await;
    }

    /// Comes to the gate, and goes on once it is open.
    pub(super) async fn wait(&self) {
        self.0.arrived.send_modify(|arrived| *arrived += 1);
        // The sender lives as long as `self`.
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
    }

    pub(super) fn pass(&self) {
        self.0.passed.send_modify(|passed| *passed += 1);
    }
}

async fn reach(count: &watch::Sender<usize>, calls: usize) {
    let _ = count.subscribe().wait_for(|count| *count >= calls).await;
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("open", &*self.0.open.borrow()).finish_non_exhaustive()
    }
}
