//! A store that fails when it is told to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tower_idempotency::clock::{Clock, ManualClock};
use tower_idempotency::core::{Key, Record, Status, Timestamp, Version};
use tower_idempotency::store::{
    Durability, DurabilityLevel, Loaded, MemoryStore, Page, Query, Store, StoreError, StoreErrorKind, Swap,
};

/// A call, as a fault plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Load,
    /// A write of a record that is then in this state.
    Swap(Status),
    Remove,
    Scan,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// An error, and nothing was done.
    Before(StoreErrorKind),
    /// It was done, and the reply was lost.
    After,
    /// It was done, and the reply was lost after so long.
    LostAfter(Duration),
    /// The store panics, and nothing was done.
    Panic,
    /// No reply, ever, and nothing was done.
    Hang,
    /// It was done, and there is no reply, ever.
    HangAfter,
    /// An error, and it is done only later.
    Late(Duration),
    /// It takes its time.
    Slow(Duration),
    /// It is done at once, and the reply takes its time.
    SlowReply(Duration),
}

/// tokio's clock from a certain day in 2001 on. Where the system's time is the start, as it is for
/// `MemoryStore::new`, a test's first period may begin at any moment of it.
#[derive(Clone, Copy, Debug)]
struct SameDay(tokio::time::Instant);

impl Clock for SameDay {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000_000_000).after(self.0.elapsed())
    }
}

/// A memory store on tokio's clock, which shows the same time at the start of each test.
pub(crate) fn memory() -> MemoryStore {
    MemoryStore::with_clock(SameDay(tokio::time::Instant::now()))
}

type Plan = Box<dyn FnMut(Call) -> Fault + Send>;

/// A memory store behind a fault plan. Clones are handles to the same store.
#[derive(Clone)]
pub(crate) struct Faulty {
    inner: Arc<MemoryStore>,
    plan: Arc<Mutex<Plan>>,
    counts: Arc<[AtomicU64; 4]>,
    durability: Arc<Mutex<Durability>>,
    asked: Arc<AtomicU64>,
    /// Loads of control records: a process looks at them beside its work, now and then, so that
    /// they are counted apart, and fail only when the store is down, or has what can't be read.
    looks: Arc<AtomicU64>,
    looks_fail: Arc<Mutex<Option<StoreErrorKind>>>,
    indexes_labels: Arc<AtomicBool>,
}

impl Faulty {
    /// On tokio's clock.
    pub(crate) fn new() -> Self {
        Self::over(memory())
    }

    /// On a clock of its own.
    pub(crate) fn on(clock: &ManualClock) -> Self {
        Self::over(MemoryStore::with_clock(clock.clone()))
    }

    pub(crate) fn over(store: MemoryStore) -> Self {
        Self {
            inner: Arc::new(store),
            plan: Arc::new(Mutex::new(Box::new(|_| Fault::None))),
            counts: Arc::default(),
            durability: Arc::new(Mutex::new(Durability::of(DurabilityLevel::Nothing))),
            asked: Arc::default(),
            looks: Arc::default(),
            looks_fail: Arc::default(),
            indexes_labels: Arc::default(),
        }
    }

    /// From now on, this is what becomes of calls.
    pub(crate) fn fail(&self, plan: impl FnMut(Call) -> Fault + Send + 'static) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    /// The next call of this kind meets `fault`, and no other.
    pub(crate) fn fail_once(&self, call: Call, fault: Fault) {
        let mut left = Some(fault);
        self.fail(move |this| if this == call { left.take().unwrap_or(Fault::None) } else { Fault::None });
    }

    /// From now on, this is what it says that it survives.
    pub(crate) fn survives(&self, durability: Durability) {
        *self.durability.lock().unwrap() = durability;
    }

    /// How often it was asked that.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Everything fails.
    pub(crate) fn down(&self) {
        self.fail_looks(Some(StoreErrorKind::Unavailable));
        self.fail(|_| Fault::Before(StoreErrorKind::Unavailable));
    }

    /// All is well again.
    pub(crate) fn heal(&self) {
        self.fail_looks(None);
        self.fail(|_| Fault::None);
    }

    /// From now on, it says that it indexes labels.
    pub(crate) fn index_labels(&self) {
        self.indexes_labels.store(true, Ordering::SeqCst);
    }

    /// From now on, this is what becomes of looks at control records.
    pub(crate) fn fail_looks(&self, kind: Option<StoreErrorKind>) {
        *self.looks_fail.lock().unwrap() = kind;
    }

    /// How often a process looked at a control record.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }

    pub(crate) fn loads(&self) -> u64 {
        self.counts[0].load(Ordering::SeqCst)
    }

    pub(crate) fn swaps(&self) -> u64 {
        self.counts[1].load(Ordering::SeqCst)
    }

    pub(crate) fn removes(&self) -> u64 {
        self.counts[2].load(Ordering::SeqCst)
    }

    pub(crate) fn scans(&self) -> u64 {
        self.counts[3].load(Ordering::SeqCst)
    }

    /// All round trips but scans.
    pub(crate) fn calls(&self) -> u64 {
        self.loads() + self.swaps() + self.removes()
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.len()
    }

    /// What is stored, whatever the plan says.
    pub(crate) async fn peek(&self, key: &Key) -> Option<Record> {
        self.inner.load(key).await.unwrap().record
    }

    fn next(&self, call: Call) -> Fault {
        let kind = match call {
            Call::Load => 0,
            Call::Swap(_) => 1,
            Call::Remove => 2,
            Call::Scan => 3,
        };
        self.counts[kind].fetch_add(1, Ordering::SeqCst);
        (self.plan.lock().unwrap())(call)
    }
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).finish_non_exhaustive()
    }
}

fn error(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, format!("planned: {kind:?}"))
}

impl Faulty {
    /// Meets `call`'s fault around `run`.
    async fn meet<T, F>(&self, call: Call, run: impl FnOnce(Arc<MemoryStore>) -> F + Send) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let run = run(Arc::clone(&self.inner));
        match self.next(call) {
            Fault::None => run.await,
            Fault::Before(kind) => Err(error(kind)),
            Fault::Panic => panic!("planned"),
            Fault::After => {
                run.await?;
                Err(error(StoreErrorKind::Unavailable))
            }
            Fault::LostAfter(delay) => {
                run.await?;
                tokio::time::sleep(delay).await;
                Err(error(StoreErrorKind::Unavailable))
            }
            Fault::Hang => std::future::pending().await,
            Fault::HangAfter => {
                run.await?;
                std::future::pending().await
            }
            Fault::Late(delay) => {
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = run.await;
                });
                Err(error(StoreErrorKind::Unavailable))
            }
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                run.await
            }
            Fault::SlowReply(delay) => {
                let reply = run.await;
                tokio::time::sleep(delay).await;
                reply
            }
        }
    }
}

#[async_trait]
impl Store for Faulty {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let key = *key;
        if key.is_control() {
            self.looks.fetch_add(1, Ordering::SeqCst);
            let failure = *self.looks_fail.lock().unwrap();
            return match failure {
                Some(kind) => Err(error(kind)),
                None => self.inner.load(&key).await,
            };
        }
        self.meet(Call::Load, |store| async move { store.load(&key).await }).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        let (key, next) = (*key, next.clone());
        let call = Call::Swap(next.status());
        self.meet(call, move |store| async move { store.swap(&key, expected, &next).await }).await
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        let key = *key;
        self.meet(Call::Remove, move |store| async move { store.remove(&key, expected).await }).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        let query = query.clone();
        self.meet(Call::Scan, |store| async move { store.scan(&query).await }).await
    }

    async fn durability(&self) -> Result<Durability, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.durability.lock().unwrap().clone())
    }

    fn indexes_labels(&self) -> bool {
        self.indexes_labels.load(Ordering::SeqCst)
    }
}
