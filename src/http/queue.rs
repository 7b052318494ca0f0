//! How many requests that were accepted wait to be run.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::core::Status;
use crate::engine::Engine;
use crate::store::{Filter, Query};
use crate::util::signal::lock;

/// How long what the store said of its backlog is believed.
const BELIEVED: Duration = Duration::from_millis(500);
/// How many times the length of the queue is looked at to count what waits.
const LOOKED_AT: usize = 4;

/// How many wait to be run, as far as this process knows. Shared by clones.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    most: usize,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug)]
struct Known {
    waiting: usize,
    /// When the store was asked.
    looked: Option<Instant>,
}

impl Queue {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, known: Arc::new(Mutex::new(Known { waiting: 0, looked: None })) }
    }

    /// Whether there is room for one more.
    pub(crate) async fn has_room(&self, engine: &Engine) -> bool {
        {
            let mut known = lock(&self.known);
            if known.waiting < self.most {
                return true;
            }
            if known.looked.is_some_and(|looked| looked.elapsed() < BELIEVED) {
                return false;
            }
            // One asks; the others believe what was known so far.
            known.looked = Some(Instant::now());
        }
        // A store that fails is found out by what follows.
        let (mut query, mut waiting, mut seen) = (Query::new(Filter::Lapsed, self.most), 0, 0);
        while waiting < self.most && seen < LOOKED_AT.saturating_mul(self.most) {
            let Ok(page) = engine.scan(&query).await else { return true };
            seen += page.found.len() + page.unreadable.keys.len();
            // The others are on their way, or only owe a callback.
            waiting += page.found.iter().filter(|found| found.status == Status::Pending).count();
            // A store may hand out fewer at a time than it was asked for.
            let Some(next) = page.next else { break };
            query = query.after(next);
        }
        let mut known = lock(&self.known);
        known.waiting = waiting;
        known.waiting < self.most
    }

    pub(crate) fn add(&self) {
        lock(&self.known).waiting += 1;
    }
}
