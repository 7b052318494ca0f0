//! Two instances on one server, each as busy as the one that is beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tower_idempotency::core::{Key, Record, Version};
use tower_idempotency::store::{Durability, Filter, Loaded, Page, Query, Store, StoreError, Swap};
use tower_idempotency::{Engine, IdempotencyLayer};

use crate::Size;
use crate::bed::Bed;
use crate::grow::FRESH;
use crate::load::{Slice, What, forget, layer, plan};
use crate::report::Report;

pub(crate) async fn measure(bed: &Bed, size: Size, report: &mut Report) {
    let Some(other) = bed.another().await else { return };
    let calls = Arc::new(AtomicU64::new(0));
    let counted =
        |store: &Arc<dyn Store>| layer(Engine::new(Counted { inner: Arc::clone(store), calls: Arc::clone(&calls) }));
    let instances = [counted(&bed.few), counted(&other)];
    let (mut cpu, mut trips) = ([Vec::new(), Vec::new()], [0, 0]);
    for round in 0..=size.rounds {
        for (n, layers) in [&instances[..1], &instances[..]].into_iter().enumerate() {
            let before = calls.load(Ordering::Relaxed);
            let seen = mixed(bed, size, layers).await;
            if round > 0 {
                trips[n] += calls.load(Ordering::Relaxed) - before;
                cpu[n].push(seen);
            }
            forget(&bed.few, FRESH..FRESH + plan(bed).0 * layers.len()).await;
        }
    }
    let [one, two] = cpu;
    report.ratio(bed.name, "two instances : one, CPU a request", &two, &one, |cpu| *cpu, Some(1.05));
    // Of twice as many requests.
    let ratio = trips[1] as f64 / trips[0] as f64 / 2.0;
    report.single(bed.name, "two instances : one, store calls a request", ratio, Some(1.05));
}

/// As many first requests as replays, by as many callers of each instance: CPU a request.
async fn mixed(bed: &Bed, size: Size, layers: &[IdempotencyLayer]) -> f64 {
    let (requests, callers) = plan(bed);
    let mut cpu = 0.0;
    for what in [What::First(FRESH), What::Replay(0..size.few)] {
        let slice = Slice { layers: layers.to_vec(), callers, requests: requests * layers.len(), what };
        cpu += slice.run(bed).await.cpu / 2.0;
    }
    cpu
}

/// Counts what is asked of a store.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Store>,
    calls: Arc<AtomicU64>,
}

impl Counted {
    fn counted(&self) -> &dyn Store {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &*self.inner
    }
}

#[async_trait]
impl Store for Counted {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.counted().load(key).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        self.counted().swap(key, expected, next).await
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.counted().remove(key, expected).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.counted().scan(query).await
    }

    async fn count(&self, filter: Filter, most: usize) -> Result<usize, StoreError> {
        self.counted().count(filter, most).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        self.counted().durability().await
    }

    fn patience(&self) -> Duration {
        self.inner.patience()
    }

    fn keeps_parts(&self) -> bool {
        self.inner.keeps_parts()
    }
}
