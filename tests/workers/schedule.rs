//! Once per period, over any number of processes.

mod doubts;
mod ends;
mod forget;
mod waits;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tower_idempotency::core::{Key, Record, Resolution, Status, StoredResponse, Timestamp, Version};
use tower_idempotency::maintenance::Window;
use tower_idempotency::schedule::{End, Missed, Period, Schedule, Scheduler, Timing, send};
use tower_idempotency::store::{Loaded, MemoryStore, Page, Query, Store, StoreError, StoreErrorKind, Swap};
use tower_idempotency::testing::{Crash, TestBed};
use tower_idempotency::{Backoff, Engine, EventKind, Operation, Operator, ScheduleTurn};

use crate::support::Count;
use crate::support::bodies::TestBody;
use crate::support::lab::{Lab, numbered, post, post_body, reply, secs, send as send_request, serve};
use crate::support::store::{Call, Fault, memory};

/// When the periods began that ran, and how often they did.
#[derive(Clone, Debug, Default)]
struct Runs(Arc<Mutex<BTreeMap<u64, u32>>>);

impl Runs {
    fn add(&self, period: &Period) -> u32 {
        let mut runs = self.0.lock().unwrap();
        let count = runs.entry(period.begin().as_millis()).or_default();
        *count += 1;
        *count
    }

    fn all(&self) -> BTreeMap<u64, u32> {
        self.0.lock().unwrap().clone()
    }

    fn counts(&self) -> Vec<u32> {
        self.all().into_values().collect()
    }
}

fn every(seconds: u64) -> Schedule {
    Schedule::new("export", Timing::every(secs(seconds)).unwrap())
        .backoff(Backoff::new(Duration::from_millis(1), Duration::from_millis(1)))
}

/// A process that runs this schedule until the task is aborted.
fn start<F, Fut, E>(engine: impl Into<Engine>, schedule: Schedule, work: F) -> JoinHandle<()>
where
    F: Fn(Period, Operation) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: 'static,
{
    let scheduler = Scheduler::new(engine).schedule(schedule, work).unwrap();
    tokio::spawn(async move { scheduler.run(std::future::pending()).await })
}

fn count(engine: impl Into<Engine>, schedule: Schedule, runs: &Runs) -> JoinHandle<()> {
    let runs = runs.clone();
    start(engine, schedule, move |period, _| {
        runs.add(&period);
        async { Ok::<_, String>(()) }
    })
}

/// What became of runs, in order.
fn turns(lab: &Lab) -> Vec<ScheduleTurn> {
    let turn = |event: tower_idempotency::Event| match event.kind {
        EventKind::Schedule { schedule, turn, .. } if schedule == "export" => Some(turn),
        _ => None,
    };
    lab.events.all().into_iter().filter_map(turn).collect()
}

async fn until_the_first_run(runs: &Runs) {
    while runs.counts().is_empty() {
        tokio::time::sleep(secs(1)).await;
    }
}

/// A store as a process sees it whose clock is behind or ahead of the others', where that clock
/// is what the process goes by. It counts what is read.
#[derive(Clone, Debug)]
struct Skewed {
    store: Arc<MemoryStore>,
    ahead: i64,
    reads: Arc<Mutex<BTreeMap<Key, u32>>>,
}

impl Skewed {
    fn new(store: &Arc<MemoryStore>, ahead: i64) -> Self {
        Self { store: Arc::clone(store), ahead, reads: Arc::default() }
    }

    fn skew(&self, loaded: Loaded) -> Loaded {
        let now = loaded.now.as_millis().saturating_add_signed(self.ahead * 1000);
        Loaded { now: Timestamp::from_millis(now), ..loaded }
    }
}

#[async_trait]
impl Store for Skewed {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        *self.reads.lock().unwrap().entry(*key).or_default() += 1;
        self.store.load(key).await.map(|loaded| self.skew(loaded))
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        match self.store.swap(key, expected, next).await? {
            Swap::Conflict(loaded) => Ok(Swap::Conflict(self.skew(loaded))),
            swap => Ok(swap),
        }
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.store.remove(key, expected).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.store.scan(query).await
    }
}

#[tokio::test(start_paused = true)]
async fn each_period_runs_once_whatever_the_clocks_of_three_processes_show() {
    let store = Arc::new(memory());
    let runs = Runs::default();
    let mut processes = JoinSet::new();
    for ahead in [-30, 0, 30] {
        // Results of a second: a record that expired would let a period run again.
        let engine = Engine::new(Skewed::new(&store, ahead)).retention(secs(1));
        let process = count(engine, every(10).missed(Missed::Newest(100)), &runs);
        processes.spawn(process);
    }
    tokio::time::sleep(secs(10_200)).await;
    let counts = runs.counts();
    assert!(counts.len() > 1_000, "{} periods", counts.len());
    assert!(counts.iter().all(|count| *count == 1), "{:?}", runs.all());
    let begins: Vec<_> = runs.all().into_keys().collect();
    assert!(begins.windows(2).all(|two| two[1] - two[0] == 10_000), "none is left out");
    assert!(store.len() < 64, "{} records: what is listed no longer is removed", store.len());
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_process_dies_is_gone_on_with_by_another_one() {
    let bed = TestBed::new();
    let (first, second) = (bed.process(), bed.process());
    let runs = Runs::default();
    let run = |runs: &Runs| {
        let runs = runs.clone();
        move |period: Period, op: Operation| {
            let runs = runs.clone();
            async move {
                op.step("rows", |_| async { Ok::<_, String>(17) }).await?;
                op.pay("mail", |_| async move { Ok::<_, String>(runs.add(&period)) }).await.map(drop)
            }
        }
    };
    first.crash_at(Crash::after_step("rows"));
    let dying = start(first.clone(), every(60), run(&runs));
    let pass = async || {
        bed.advance(secs(5));
        tokio::time::sleep(secs(5)).await;
    };
    while !first.is_dead() {
        pass().await;
    }
    let taking_over = start(second, every(60), run(&runs));
    while runs.counts().len() < 2 {
        pass().await;
    }
    assert!(runs.counts().iter().all(|count| *count == 1), "{:?}", runs.all());
    let begins: Vec<_> = runs.all().into_keys().collect();
    let shown = Operator::new(bed.process()).schedule("export").await.unwrap();
    assert_eq!(shown.ended[0].period.begin().as_millis(), begins[0], "the one whose process died is the first");
    dying.abort();
    taking_over.abort();
}

#[tokio::test(start_paused = true)]
async fn between_periods_a_process_asks_nothing() {
    let store = Arc::new(memory());
    let (one, runs) = (Skewed::new(&store, 0), Runs::default());
    let reads = Arc::clone(&one.reads);
    let process = count(one, every(7200), &runs);
    // Two hours have one period's begin in them.
    tokio::time::sleep(secs(7200)).await;
    // The windows' record is read every few seconds, whatever is scheduled.
    let reads: Vec<_> = reads.lock().unwrap().values().copied().filter(|reads| *reads < 100).collect();
    assert!(reads.len() <= 2, "the cursor, and a run's record: {reads:?}");
    assert!(reads.iter().sum::<u32>() <= 12, "{reads:?}");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_process_starts_while_the_store_is_away() {
    let lab = Lab::new();
    lab.store.down();
    let runs = Runs::default();
    let process = count(lab.engine(), every(10), &runs);
    tokio::time::sleep(secs(100)).await;
    assert!(runs.all().is_empty());
    lab.store.heal();
    tokio::time::sleep(secs(100)).await;
    assert!(runs.counts().len() >= 5, "{:?}", runs.all());
    lab.store.down();
    tokio::time::sleep(secs(50)).await;
    lab.store.heal();
    let before = runs.counts().len();
    tokio::time::sleep(secs(100)).await;
    assert!(runs.counts().len() > before);
    assert!(runs.counts().iter().all(|count| *count == 1), "{:?}", runs.all());
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_is_tried_again_as_often_as_it_may_be() {
    let lab = Lab::new();
    let runs = Runs::default();
    let tries = runs.clone();
    let process = start(lab.engine(), every(60).max_tries(3), move |period, _| {
        let first = tries.all().into_keys().next().unwrap_or(u64::MAX);
        let tries = tries.add(&period);
        let fails = period.begin().as_millis() <= first || tries < 2;
        async move { if fails { Err("not yet") } else { Ok(()) } }
    });
    tokio::time::sleep(secs(200)).await;
    assert_eq!(runs.counts()[..3], [3, 2, 2], "the first one is given up, and the others go on");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_run_in_doubt_waits_for_an_operator_and_later_periods_do_not_wait_for_it() {
    let lab = Lab::new();
    let runs = Runs::default();
    let sent = runs.clone();
    let process = start(lab.engine(), every(60), move |period, op| {
        let sent = sent.clone();
        async move {
            let is_first = sent.all().is_empty();
            let mail = op.once("mail", || async move {
                sent.add(&period);
                if is_first { Err("no reply") } else { Ok(1) }
            });
            mail.await.map(drop)
        }
    });
    tokio::time::sleep(secs(200)).await;
    assert_eq!(runs.counts()[..3], [1, 1, 1], "a step in doubt is not begun a second time");
    let operator = Operator::new(lab.store.clone());
    let first = Timestamp::from_millis(*runs.all().first_key_value().unwrap().0 - 1);
    let first = Timing::every(secs(60)).unwrap().next(first).unwrap();
    let in_doubt = operator.find_of_runner("schedule/export", first.name()).await.unwrap();
    operator.resolve(&in_doubt, Resolution::DidNotHappen { step: "mail".into() }).await.unwrap();
    tokio::time::sleep(secs(40)).await;
    assert_eq!(runs.counts()[0], 2, "it did not happen: the mail is sent");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn while_the_process_was_down_periods_are_missed() {
    let lab = Lab::new();
    let (before, after) = (Runs::default(), Runs::default());
    let process = count(lab.engine(), every(60), &before);
    tokio::time::sleep(secs(130)).await;
    process.abort();
    tokio::time::sleep(secs(600)).await;
    let process = count(lab.engine(), every(60).missed(Missed::Newest(4)), &after);
    tokio::time::sleep(secs(10)).await;
    let (before, after) = (before.all(), after.all());
    // One more may have begun since.
    assert!((4..=5).contains(&after.len()), "{after:?}");
    let last = before.into_keys().last().unwrap();
    assert!(after.keys().all(|begin| *begin > last + 300_000), "the newest of them: {after:?}");
    process.abort();
}

#[test]
fn names_are_told_apart() {
    let done = |_, _| async { Ok::<_, String>(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _guard = runtime.enter();
    let scheduler = || Scheduler::new(MemoryStore::new()).schedule(every(60), done).unwrap();
    assert!(scheduler().schedule(every(30), done).unwrap_err().to_string().contains("already"));
    for name in ["", "two words", "ünlaut", &"x".repeat(65)] {
        let schedule = Schedule::new(name, Timing::every(secs(60)).unwrap());
        assert!(scheduler().schedule(schedule, done).unwrap_err().to_string().contains("is no name"));
    }
}

/// The name of what runs by hand, and that of its period.
fn by_hand(period: &Period) -> &str {
    assert!(period.is_by_hand(), "{period}");
    period.name().split('/').next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_operator_pauses_a_schedule_and_goes_on_with_it() {
    let lab = Lab::new();
    let runs = Runs::default();
    let process = count(lab.engine(), every(60), &runs);
    tokio::time::sleep(secs(130)).await;
    let operator = Operator::new(lab.store.clone()).by("eve");
    operator.pause_schedule("export").await.unwrap();
    let paused = runs.counts().len();
    tokio::time::sleep(secs(600)).await;
    assert_eq!(runs.counts().len(), paused);
    let shown = operator.schedule("export").await.unwrap();
    assert_eq!(shown.paused.and_then(|paused| paused.by).as_deref(), Some("eve"));
    operator.go_on_with_schedule("export").await.unwrap();
    tokio::time::sleep(secs(70)).await;
    let after = runs.counts().len() - paused;
    assert!((1..=3).contains(&after), "what was missed is passed over: {after}");
    let missing = operator.schedule("exports").await.unwrap_err();
    assert!(missing.to_string().contains("no process has run"), "{missing}");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn an_operator_finds_each_schedule_that_a_process_has_run() {
    let lab = Lab::new();
    let runs = Runs::default();
    let operator = Operator::new(lab.store.clone()).by("eve").because("the mail was lost");
    assert!(operator.schedules().await.unwrap().is_empty());
    let first = count(lab.engine(), every(60).missed(Missed::Newest(7)), &runs);
    let other = Schedule::new("audit", Timing::daily("UTC", "02:00").unwrap());
    let others = (0..4).map(|_| count(lab.engine(), other.clone(), &runs)).collect::<Vec<_>>();
    tokio::time::sleep(secs(30)).await;
    assert_eq!(operator.schedules().await.unwrap(), ["audit", "export"]);
    let shown = operator.schedule("export").await.unwrap();
    assert_eq!((shown.missed, &*shown.scope()), (Missed::Newest(7), "schedule/export"));

    // A process that comes with another timing is what counts, before its first period.
    first.abort();
    let later = count(lab.engine(), every(90), &runs);
    let before = lab.store.len();
    tokio::time::sleep(secs(1)).await;
    let shown = operator.schedule("export").await.unwrap();
    assert_eq!((shown.timing.to_string(), shown.missed), ("every 90s".into(), Missed::Newest(1)));
    assert_eq!(lab.store.len(), before, "it is the same schedule");

    let asked = operator.trigger("export").await.unwrap();
    tokio::time::sleep(secs(30)).await;
    let shown = operator.schedule("export").await.unwrap();
    let order = shown.order(&asked).unwrap();
    assert_eq!((order.by.as_deref(), order.why.as_deref()), (Some("eve"), Some("the mail was lost")));
    let run = operator.find_of_runner(&shown.scope(), asked.name()).await.unwrap();
    assert_eq!(run.record.status(), Status::Complete);
    // With the runs that are listed no longer, what was said of them goes.
    tokio::time::sleep(secs(90 * 40)).await;
    assert_eq!(operator.schedule("export").await.unwrap().order(&asked), None);
    others.into_iter().chain([later]).for_each(|process| process.abort());
}

#[tokio::test(start_paused = true)]
async fn an_operator_runs_it_by_hand_and_periods_once_more() {
    let lab = Lab::new();
    let runs = Runs::default();
    let process = count(lab.engine(), every(3600), &runs);
    while runs.counts().len() < 3 {
        tokio::time::sleep(secs(60)).await;
    }
    let operator = Operator::new(lab.store.clone());
    let now = operator.schedule("export").await.unwrap().now;
    let from = Timestamp::from_millis(*runs.all().keys().nth(1).unwrap());
    let filled = operator.back_fill("export", from, now).await.unwrap();
    assert_eq!(filled.iter().map(by_hand).count(), 2);
    let triggered = operator.trigger("export").await.unwrap();
    assert!(triggered.begin() >= now);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(runs.counts()[..3], [1, 2, 2]);
    assert_eq!(runs.all().get(&triggered.begin().as_millis()), Some(&1));
    assert!(operator.back_fill("export", now, from).await.unwrap().is_empty(), "no period lies there");
    let shown = operator.schedule("export").await.unwrap();
    assert_eq!((shown.ended.len(), shown.asked.len(), shown.running), (6, 0, None));
    assert_eq!(shown.ended[3].period.name(), filled[0].name());
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn more_than_it_keeps_is_not_asked_of_it() {
    let lab = Lab::new();
    let runs = Runs::default();
    let process = count(lab.engine(), every(1), &runs);
    tokio::time::sleep(secs(10)).await;
    let operator = Operator::new(lab.store.clone());
    let now = operator.schedule("export").await.unwrap().now;
    let ago = |seconds: u64| Timestamp::from_millis(now.as_millis() - seconds * 1000);
    let error = operator.back_fill("export", ago(2000), now).await.unwrap_err();
    assert!(error.to_string().contains("more than 1,000 runs would wait"), "{error}");
    assert!(operator.schedule("export").await.unwrap().asked.is_empty(), "none of them");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_run_may_be_a_request_whose_key_stays_the_same() {
    let lab = Lab::new();
    let keys = Arc::new(Mutex::new(Vec::new()));
    let layer = lab.layer().required();
    let runs = Count::default();
    let handled = runs.clone();
    let app = serve(&layer, move |_| {
        handled.up();
        async { Ok(reply(201, "done")) }
    });
    let seen = Arc::clone(&keys);
    // The first response is lost on its way.
    let lossy = tower::service_fn(move |request: http::Request<TestBody>| {
        let (app, seen) = (app.clone(), Arc::clone(&seen));
        async move {
            let key = request.headers()["idempotency-key"].to_str().unwrap().to_owned();
            let response = tower::ServiceExt::oneshot(app, request).await.map_err(|error| error.to_string())?;
            let sent = {
                let mut seen = seen.lock().unwrap();
                seen.push(key);
                seen.len()
            };
            if sent == 1 { Err("reset".to_owned()) } else { Ok(response) }
        }
    });
    let request = |period: &Period| post_body("", period.name().to_owned());
    let process = start(&layer, every(60), send(lossy, request));
    tokio::time::sleep(secs(130)).await;
    let keys = keys.lock().unwrap().clone();
    assert_eq!(keys[0], keys[1], "of one period");
    assert_ne!(keys[1], keys[2], "of two");
    assert_eq!(runs.get(), keys.len() - 1, "the handler ran once for each key");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn no_run_begins_in_a_maintenance_window() {
    let lab = Lab::new();
    let runs = Runs::default();
    let process = count(lab.engine(), every(60), &runs);
    tokio::time::sleep(secs(70)).await;
    let operator = Operator::new(lab.store.clone());
    let (_, now) = operator.windows().await.unwrap();
    let from = now.after(secs(10));
    operator.plan(Window::new(from, from.after(secs(600)), "the database moves")).await.unwrap();
    tokio::time::sleep(secs(15)).await;
    let (before, calls) = (runs.counts().len(), lab.store.calls());
    tokio::time::sleep(secs(580)).await;
    assert_eq!(runs.counts().len(), before);
    assert_eq!(lab.store.calls(), calls, "it does not touch the store");
    tokio::time::sleep(secs(30)).await;
    assert!(runs.counts().len() > before, "what was due meanwhile begins at its end");
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_slow_keeps_the_next_one_waiting() {
    let lab = Lab::new();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let runs = Runs::default();
    let mut processes = JoinSet::new();
    for _ in 0..2 {
        let (running, most, runs) = (Arc::clone(&running), Arc::clone(&most), runs.clone());
        processes.spawn(start(lab.engine(), every(60), move |period, _| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            runs.add(&period);
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(secs(150)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, String>(())
            }
        }));
    }
    tokio::time::sleep(secs(1500)).await;
    assert_eq!(most.load(Ordering::SeqCst), 1, "one at a time");
    assert!(runs.counts().len() >= 8, "{:?}", runs.all());
    assert!(runs.counts().iter().all(|count| *count == 1), "{:?}", runs.all());
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_the_run_end_and_another_process_takes_note() {
    let lab = Lab::new();
    let runs = Runs::default();
    let engine = lab.engine();
    let ran = runs.clone();
    let draining = start(engine.clone(), every(3600), move |period, _| {
        let ran = ran.clone();
        async move {
            tokio::time::sleep(secs(30)).await;
            ran.add(&period);
            Ok::<_, String>(())
        }
    });
    while lab.store.swaps() < 3 {
        tokio::time::sleep(secs(1)).await;
    }
    assert!(engine.drain(secs(60)).await.is_empty());
    draining.await.unwrap();
    assert_eq!(runs.counts(), [1]);
    let next = count(lab.engine(), every(3600), &runs);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(runs.counts(), [1], "it replays the run, and closes the period");
    let shown = Operator::new(lab.store.clone()).schedule("export").await.unwrap();
    assert_eq!((shown.ended.len(), shown.running), (1, None));
    next.abort();
}

/// A store as a process sees it that dies, or is held up, around the writes of its runs.
#[derive(Clone, Debug)]
struct Held {
    store: Arc<MemoryStore>,
    /// Its first write of a run waits for this one.
    before_first: Arc<Semaphore>,
    /// A run that is complete is the last that this process writes.
    dies_when_complete: bool,
}

#[async_trait]
impl Store for Held {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        self.store.load(key).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        if key.is_control() {
            return self.store.swap(key, expected, next).await;
        }
        let _turn = self.before_first.acquire().await.unwrap();
        let swapped = self.store.swap(key, expected, next).await;
        if self.dies_when_complete && next.status() == Status::Complete {
            std::future::pending::<()>().await;
        }
        swapped
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        self.store.remove(key, expected).await
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        self.store.scan(query).await
    }

    fn patience(&self) -> Duration {
        Duration::MAX
    }
}

#[tokio::test(start_paused = true)]
async fn a_period_whose_process_died_before_it_said_so_does_not_run_again_whatever_the_retention() {
    let store = Arc::new(memory());
    let runs = Runs::default();
    let before_first = Arc::new(Semaphore::new(1));
    let dies = Held { store: Arc::clone(&store), before_first, dies_when_complete: true };
    let dying = count(Engine::new(dies).retention(secs(1)), every(3600), &runs);
    while runs.counts().is_empty() {
        tokio::time::sleep(secs(1)).await;
    }
    tokio::time::sleep(secs(300)).await;
    let next = count(Engine::new(Arc::clone(&store)).retention(secs(1)), every(3600), &runs);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(runs.counts(), [1]);
    dying.abort();
    next.abort();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_held_up_since_it_looked_begins_no_period_anew() {
    let store = Arc::new(memory());
    let runs = Runs::default();
    let before_first = Arc::new(Semaphore::new(0));
    let late = Held { store: Arc::clone(&store), before_first: Arc::clone(&before_first), dies_when_complete: false };
    let held_up = count(late, every(10), &runs);
    tokio::time::sleep(secs(15)).await;
    assert!(runs.counts().is_empty(), "it opened a period, and could not begin it");
    let other = count(Arc::clone(&store), every(10).missed(Missed::Newest(100)), &runs);
    tokio::time::sleep(secs(600)).await;
    assert!(runs.counts().len() > 40, "the record of the first run is removed");
    before_first.add_permits(1);
    tokio::time::sleep(secs(60)).await;
    assert!(runs.counts().iter().all(|count| *count == 1), "{:?}", runs.all());
    held_up.abort();
    other.abort();
}

/// A `once` step whose mail has no reply, and what ran.
fn in_doubt(runs: &Runs) -> impl Fn(Period, Operation) -> BoxFuture + Send + Sync + 'static {
    let runs = runs.clone();
    move |period, op| {
        let runs = runs.clone();
        Box::pin(async move {
            let mail = op.once("mail", || async move { if runs.add(&period) == 1 { Err("no reply") } else { Ok(1) } });
            mail.await.map(drop).map_err(|error| error.to_string())
        })
    }
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

async fn decide_about_the_first(lab: &Lab, runs: &Runs, resolution: Resolution) {
    let operator = Operator::new(lab.store.clone());
    let first = Timestamp::from_millis(*runs.all().first_key_value().unwrap().0 - 1);
    let first = Timing::every(secs(3600)).unwrap().next(first).unwrap();
    let shown = operator.find_of_runner("schedule/export", first.name()).await.unwrap();
    operator.resolve(&shown, resolution).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_last_try_of_what_is_in_doubt_waits_for_an_operator_too() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let process = start(lab.engine(), every(3600).max_tries(1), in_doubt(&runs));
    while runs.counts().is_empty() {
        tokio::time::sleep(secs(10)).await;
    }
    tokio::time::sleep(secs(60)).await;
    let shown = Operator::new(lab.store.clone()).schedule("export").await.unwrap();
    assert_eq!((shown.in_doubt.len(), shown.ended.len()), (1, 0));
    decide_about_the_first(&lab, &runs, Resolution::DidNotHappen { step: "mail".into() }).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(runs.counts()[0], 2);
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_response_of_an_operator_ends_the_run() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let process = start(lab.engine(), every(3600), in_doubt(&runs));
    while runs.counts().is_empty() {
        tokio::time::sleep(secs(10)).await;
    }
    tokio::time::sleep(secs(60)).await;
    let response = StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), Some("sent by hand".into()));
    let respond = Resolution::Respond { response: Arc::new(response), retention: secs(3600) };
    decide_about_the_first(&lab, &runs, respond).await;
    tokio::time::sleep(secs(60)).await;
    let shown = Operator::new(lab.store.clone()).schedule("export").await.unwrap();
    assert_eq!((shown.in_doubt.len(), shown.ended.len()), (0, 1));
    assert_eq!((runs.counts()[0], shown.ended[0].end), (1, End::Complete));
    process.abort();
}

#[tokio::test(start_paused = true)]
async fn a_paused_schedule_asks_nothing() {
    let store = Arc::new(memory());
    let (one, runs) = (Skewed::new(&store, 0), Runs::default());
    let reads = Arc::clone(&one.reads);
    let process = count(one, every(60), &runs);
    tokio::time::sleep(secs(70)).await;
    let operator = Operator::new(Arc::clone(&store));
    operator.pause_schedule("export").await.unwrap();
    tokio::time::sleep(secs(200)).await;
    let before: u32 = reads.lock().unwrap().values().sum();
    tokio::time::sleep(secs(3600)).await;
    let asked = reads.lock().unwrap().values().sum::<u32>() - before;
    assert!(asked <= 1800, "the windows are looked at each 2 to 5 seconds, and nothing else: {asked}");
    process.abort();
}

/// What has ended can't say that its calls succeed again: the next outage would go unsaid.
#[tokio::test(start_paused = true)]
async fn a_scheduler_that_ends_in_an_outage_leaves_none_behind() {
    let (lab, runs) = (Lab::new(), Runs::default());
    let layer = lab.layer().resumable();
    let (app, _) = numbered(&layer);
    let first = || {
        let events = lab.events.all();
        events.iter().filter(|event| matches!(event.kind, EventKind::StoreFailed { repeated: false, .. })).count()
    };
    let running = count(&layer, every(60), &runs);
    lab.store.down();
    tokio::time::sleep(secs(120)).await;
    assert_eq!(first(), 1, "it says so once");
    running.abort();
    let _ = running.await;
    lab.store.heal();
    for outage in 1..=2 {
        lab.store.fail(|call| match call {
            Call::Swap(_) => Fault::Before(StoreErrorKind::Unavailable),
            _ => Fault::None,
        });
        send_request(&app, post("k")).await.assert_problem("store-unavailable", 503);
        lab.store.heal();
        send_request(&app, post(&format!("{outage}"))).await;
        assert_eq!((first(), lab.events.count("StoreBack")), (1 + outage, outage));
    }
}
