//! A payment in three steps, killed at every point where it can be killed,
//! and retried until it is done.
//!
//! An attempt runs in a runtime of its own. A crash drops that runtime with
//! everything in it: tasks, timers, writes on their way. Only what is outside
//! of it survives: the store, the gateway and the mailer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::sync::Notify;
use tower::ServiceExt;
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{Key, Record, StepKey, Version};
use tower_idempotency::store::{
    Loaded, MemoryStore, Page, Query, SqliteStore, Store, StoreError, StoreErrorKind, Swap,
};
use tower_idempotency::{CompleterError, IdempotencyLayer, Report, Scope, StepError};

use crate::support::bodies::Failure;
use crate::support::lab::{Answer, App, collect, completer, operation, post, reply, secs, serve};

/// The points of one attempt, numbered as they are reached; at one of them the
/// process dies, or the store fails.
#[derive(Debug, Default)]
pub(super) struct Points {
    reached: Mutex<usize>,
    fatal: Option<usize>,
    pub(super) dead: Notify,
}

impl Points {
    pub(super) fn new(fatal: Option<usize>) -> Self {
        Self { fatal, ..Self::default() }
    }

    pub(super) async fn reach(&self) {
        let here = {
            let mut reached = self.reached.lock().unwrap();
            *reached += 1;
            *reached
        };
        if self.fatal.is_some_and(|fatal| here >= fatal) {
            self.dead.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// The store as one process sees it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) store: Arc<dyn Store>,
    pub(super) points: Arc<Points>,
    /// Of the store's calls, the one that fails, and whether it was done.
    pub(super) failing: Option<(usize, bool)>,
    pub(super) calls: Mutex<usize>,
}

impl Connection {
    async fn meet<T>(&self, call: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        self.points.reach().await;
        let number = {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls
        };
        let lost = || StoreError::new(StoreErrorKind::Unavailable, "planned");
        let reply = match self.failing {
            // For long enough that no retry inside the layer sees it healed.
            Some((first, done)) if number >= first => {
                if done {
                    call.await?;
                }
                Err(lost())
            }
            _ => call.await,
        };
        self.points.reach().await;
        reply
    }
}

#[async_trait]
impl Store for Connection {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.meet(self.store.load(key)).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        self.meet(self.store.swap(key, expected, next)).await
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.meet(self.store.remove(key, expected)).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.store.scan(query).await
    }
}

/// A SQLite store in a runtime whose time stands still. Time must not leap while a
/// thread of the store works, and it does not while a blocking task runs.
#[derive(Debug)]
struct Unhurried(Arc<SqliteStore>);

impl Unhurried {
    async fn call<T, F>(&self, call: impl FnOnce(Arc<SqliteStore>) -> F + Send + 'static) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>>,
    {
        let (store, runtime) = (self.0.clone(), tokio::runtime::Handle::current());
        tokio::task::spawn_blocking(move || runtime.block_on(call(store))).await.unwrap()
    }
}

#[async_trait]
impl Store for Unhurried {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let key = *key;
        self.call(async move |store| store.load(&key).await).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        let (key, next) = (*key, next.clone());
        self.call(async move |store| store.swap(&key, expected, &next).await).await
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        let key = *key;
        self.call(async move |store| store.remove(&key, expected).await).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        let query = query.clone();
        self.call(async move |store| store.scan(&query).await).await
    }
}

/// Where the operations are kept.
#[derive(Clone)]
enum Kept {
    Memory(Arc<MemoryStore>),
    /// Opened anew by each process.
    File(Arc<Path>),
}

/// What is outside of the process.
#[derive(Clone)]
struct World {
    store: Kept,
    clock: ManualClock,
    outside: Arc<Mutex<Outside>>,
}

#[derive(Default)]
struct Outside {
    orders: usize,
    /// Charges by the key they came with, as a gateway keeps them.
    charges: HashMap<StepKey, usize>,
    calls_to_the_gateway: usize,
    receipts: usize,
}

/// How an attempt ended for its client.
#[derive(Debug)]
enum Seen {
    Crash,
    Answer(Answer),
    Report(Result<Report, CompleterError>),
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new();
        let store = Kept::Memory(Arc::new(MemoryStore::with_clock(clock.clone())));
        Self { store, clock, outside: Arc::default() }
    }

    fn on_file(path: &Path) -> Self {
        Self { store: Kept::File(path.into()), ..Self::new() }
    }

    /// The store, as a process has it that starts.
    fn store(&self) -> Arc<dyn Store> {
        match &self.store {
            Kept::Memory(store) => store.clone(),
            Kept::File(path) => {
                let store = SqliteStore::options().with_clock(self.clock.clone()).open(path).unwrap();
                Arc::new(Unhurried(Arc::new(store)))
            }
        }
    }

    /// One attempt in a process that dies at point `fatal`, over a store that
    /// fails from call `failing` on.
    fn attempt(&self, fatal: Option<usize>, failing: Option<(usize, bool)>) -> Seen {
        self.process(fatal, failing, |_, app| async move {
            Seen::Answer(collect(app.oneshot(post("order-17")).await.unwrap()).await.unwrap())
        })
    }

    /// The same of a completer, which finds what there is.
    fn complete(&self, fatal: Option<usize>, failing: Option<(usize, bool)>) -> Seen {
        self.process(fatal, failing, |layer, app| async move { Seen::Report(completer(&layer, &app).run_once().await) })
    }

    fn process<F, Fut>(&self, fatal: Option<usize>, failing: Option<(usize, bool)>, run: F) -> Seen
    where
        F: FnOnce(IdempotencyLayer, App) -> Fut,
        Fut: Future<Output = Seen>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let points = Arc::new(Points::new(fatal));
        let store = Connection { store: self.store(), points: points.clone(), failing, calls: Mutex::default() };
        let layer = IdempotencyLayer::new(store, Scope::shared()).resumable();
        let (world, handler_points) = (self.clone(), points.clone());
        let app = serve(&layer, move |request| {
            let (op, world, points) = (operation(&request), world.clone(), handler_points.clone());
            async move { Ok(world.pay(&op, &points).await) }
        });
        let mut running = Box::pin(run(layer, app));
        let seen = runtime.block_on(async {
            tokio::select! {
                biased;
                () = points.dead.notified() => Seen::Crash,
                seen = &mut running => seen,
            }
        });
        // The runtime first: without one, nothing can detach itself.
        drop(runtime);
        drop(running);
        seen
    }

    async fn pay(
        &self,
        op: &tower_idempotency::Operation,
        points: &Points,
    ) -> http::Response<crate::support::bodies::TestBody> {
        let (outside, later) = (&self.outside, |_| reply(503, "later"));
        points.reach().await;
        let order = op.step("order", |_| async {
            points.reach().await;
            outside.lock().unwrap().orders += 1;
            points.reach().await;
            Ok::<_, Failure>(17)
        });
        let order = match order.await {
            Ok(order) => order,
            Err(error) => return later(error),
        };
        let charge = op.pay("charge", |key| async move {
            points.reach().await;
            let charge = {
                let mut outside = outside.lock().unwrap();
                outside.calls_to_the_gateway += 1;
                let next = outside.charges.len() + 1;
                *outside.charges.entry(key).or_insert(next)
            };
            points.reach().await;
            Ok::<_, Failure>(charge)
        });
        let charge = match charge.await {
            Ok(charge) => charge,
            Err(error) => return later(error),
        };
        let receipt = op.once("receipt", || async {
            points.reach().await;
            outside.lock().unwrap().receipts += 1;
            points.reach().await;
            Ok::<_, Failure>(())
        });
        let response = match receipt.await {
            Ok(()) => reply(201, format!("order {order} charge {charge}")),
            Err(StepError::InDoubt { .. }) => reply(202, "receipt in doubt"),
            Err(error) => later(error),
        };
        points.reach().await;
        response
    }

    /// After a crash: what it held runs out.
    fn lapse(&self) {
        self.clock.advance(secs(61));
    }

    /// Retries, without faults, until the answer is final.
    fn finish(&self) -> Answer {
        for _ in 0..4 {
            self.lapse();
            match self.attempt(None, None) {
                Seen::Crash | Seen::Report(_) => unreachable!("no fault was planned"),
                Seen::Answer(answer) if answer.status == 503 => {}
                Seen::Answer(answer) => return answer,
            }
        }
        panic!("it does not end");
    }

    /// What must be true whatever happened.
    fn assert_promises(&self, last: &Answer, case: &str) -> Ending {
        let outside = self.outside.lock().unwrap();
        assert_eq!(outside.charges.len(), 1, "{case}: one charge");
        assert!(outside.receipts <= 1, "{case}: at most one receipt");
        if last.status == 201 {
            assert_eq!(last.text(), "order 17 charge 1", "{case}");
            assert_eq!(outside.receipts, 1, "{case}: a receipt behind every success");
            return Ending::Done;
        }
        // In doubt: a human decides, and until then nobody is told a story.
        assert!(last.status == 202 || last.status == 500, "{case}: {last:?}");
        Ending::InDoubt
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Done,
    InDoubt,
}

/// All that a further retry sees is the same again.
fn assert_settled(world: &World, last: &Answer, case: &str) {
    let Seen::Answer(again) = world.attempt(None, None) else { unreachable!() };
    if last.status == 201 {
        assert_eq!((again.status, again.text()), (last.status, last.text()), "{case}");
        assert!(again.is_replay(), "{case}");
    } else {
        assert_eq!(again.status, 500, "{case}: {again:?}");
    }
}

/// Crashes in the first attempt at every point, and in the second at every
/// point of what is left. (Peer bugs 24, 61, 62 and 71; faults A1 to A14.)
#[test]
fn a_payment_that_crashes_at_any_two_points_charges_once_and_ends() {
    let (mut crashes, mut done, mut in_doubt, mut repeated) = (0, 0, 0, 0);
    for first in 1.. {
        let mut first_crashed = false;
        for second in 1.. {
            let case = format!("crashes at points {first} and {second}");
            let world = World::new();
            first_crashed = matches!(world.attempt(Some(first), None), Seen::Crash);
            world.lapse();
            let second_crashed = matches!(world.attempt(Some(second), None), Seen::Crash);
            crashes += usize::from(first_crashed) + usize::from(second_crashed);
            let last = world.finish();
            match world.assert_promises(&last, &case) {
                Ending::Done => done += 1,
                Ending::InDoubt => in_doubt += 1,
            }
            repeated += usize::from(world.outside.lock().unwrap().calls_to_the_gateway > 1);
            assert_settled(&world, &last, &case);
            if !second_crashed {
                break;
            }
        }
        if !first_crashed {
            break;
        }
    }
    // Each kind of ending was there: none of this was vacuous.
    assert!(crashes > 200 && done > 50 && in_doubt > 10 && repeated > 10, "{crashes} {done} {in_doubt} {repeated}");
}

/// The same on a file, which each process opens anew: what a dead one held is free
/// at once.
#[test]
fn a_payment_on_sqlite_that_crashes_at_any_point_charges_once_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (mut done, mut in_doubt, mut repeated) = (0, 0, 0);
    for fatal in 1.. {
        let case = format!("a crash at point {fatal}, on SQLite");
        let world = World::on_file(&directory.path().join(format!("{fatal}.db")));
        let crashed = matches!(world.attempt(Some(fatal), None), Seen::Crash);
        let Seen::Answer(last) = world.attempt(None, None) else { unreachable!("no fault was planned") };
        match world.assert_promises(&last, &case) {
            Ending::Done => done += 1,
            Ending::InDoubt => in_doubt += 1,
        }
        repeated += usize::from(world.outside.lock().unwrap().calls_to_the_gateway > 1);
        assert_settled(&world, &last, &case);
        if !crashed {
            break;
        }
    }
    assert!(done > 10 && in_doubt > 1 && repeated > 1, "{done} {in_doubt} {repeated}");
}

/// The same with a store that fails from its n-th call on, done or not, and is
/// well again for the retry.
#[test]
fn a_payment_whose_store_fails_at_any_call_charges_once_and_ends() {
    let mut endings = Vec::new();
    for done in [false, true] {
        for first in 1..20 {
            let case = format!("the store fails from call {first} on, done: {done}");
            let world = World::new();
            let seen = world.attempt(None, Some((first, done)));
            let Seen::Answer(answer) = seen else { panic!("{case}: a crash") };
            let last = world.finish();
            let ending = world.assert_promises(&last, &case);
            if answer.status == 201 && ending == Ending::Done {
                assert_eq!(answer.text(), last.text(), "{case}: one answer, whoever was told it");
            }
            assert_settled(&world, &last, &case);
            endings.push(answer.status.as_u16());
        }
    }
    assert!(endings.contains(&201) && endings.contains(&503));
}

/// The harness itself: without a fault, all is done once.
#[test]
fn without_a_fault_everything_is_done_once() {
    let world = World::new();
    let last = world.finish();
    last.assert_first(201, "order 17 charge 1");
    assert!(world.assert_promises(&last, "no fault") == Ending::Done);
    let outside = world.outside.lock().unwrap();
    assert_eq!((outside.orders, outside.calls_to_the_gateway), (1, 1));
}

/// The client is gone for good: completers finish it, though one crashes at
/// any point, and another after it. (Faults A12 and A14, N9, N10.)
#[test]
fn a_payment_that_crashes_is_finished_by_completers_that_crash() {
    let (mut crashes, mut done, mut in_doubt) = (0, 0, 0);
    for first in 1.. {
        let mut first_crashed = false;
        for second in 1.. {
            let case = format!("crashes at points {first} and {second}, of a completer");
            let world = World::new();
            first_crashed = matches!(world.attempt(Some(first), None), Seen::Crash);
            world.lapse();
            let second_crashed = matches!(world.complete(Some(second), None), Seen::Crash);
            crashes += usize::from(second_crashed);
            for _ in 0..4 {
                world.lapse();
                let Seen::Report(report) = world.complete(None, None) else { panic!("{case}: a crash") };
                assert_eq!(report.unwrap().failed, 0, "{case}");
            }
            // Who comes late finds it settled, or the first to come. And never again.
            let last = world.finish();
            match world.assert_promises(&last, &case) {
                Ending::Done => done += 1,
                Ending::InDoubt => in_doubt += 1,
            }
            // Before its claim the process looks at the maintenance windows.
            let claimed = first >= 4;
            assert!(!claimed || last.status == 500 || last.is_replay(), "{case}: the completers left it: {last:?}");
            assert_settled(&world, &last, &case);
            if !second_crashed {
                break;
            }
        }
        if !first_crashed {
            break;
        }
    }
    assert!(crashes > 100 && done > 50 && in_doubt > 10, "{crashes} {done} {in_doubt}");
}

/// The same with a store that fails the completer from its n-th call on.
#[test]
fn a_completer_whose_store_fails_at_any_call_leaves_it_to_the_next() {
    for (done, first, fatal) in (1..16)
        .flat_map(|first| [(false, first), (true, first)])
        .flat_map(|(done, first)| [(done, first, 6), (done, first, 14)])
    {
        let case =
            format!("the completer's store fails from call {first} on, done: {done}; before that a crash at {fatal}");
        let world = World::new();
        assert!(matches!(world.attempt(Some(fatal), None), Seen::Crash), "{case}");
        world.lapse();
        assert!(matches!(world.complete(None, Some((first, done))), Seen::Report(_)), "{case}");
        for _ in 0..3 {
            world.lapse();
            assert!(matches!(world.complete(None, None), Seen::Report(Ok(_))), "{case}");
        }
        let last = world.finish();
        world.assert_promises(&last, &case);
        assert!(last.status == 500 || last.is_replay(), "{case}: {last:?}");
        assert_settled(&world, &last, &case);
    }
}
