//! All schedules of a process.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cursor::Missed;
use super::job::{Failed, Job, Pause};
use super::timing::{Period, Timing};
use crate::core::{Intake, NEVER};
use crate::engine::Engine;
use crate::engine::operation::Operation;
use crate::engine::outage::{Calls, Scanning};
use crate::util::backoff::{Backoff, after, jittered};
use crate::util::name::{LONGEST, is_name};

/// How often a process looks at the store while that is away, at least.
const OUTAGE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// How long a process waits at most after a period has begun: what waits for the same moment
/// in many processes does not ask all at once.
const JITTER: Duration = Duration::from_secs(2);

/// How often the store's clock, as this process knows it, is looked at meanwhile: it may be set.
const GLANCE: Duration = Duration::from_secs(5);

/// What is to run once a period: its name, its [`Timing`], and what to do about a failure.
#[derive(Clone, Debug)]
#[must_use]
pub struct Schedule {
    name: Arc<str>,
    timing: Timing,
    missed: Missed,
    max_tries: u32,
    backoff: Backoff,
    deadline: Duration,
}

impl Schedule {
    /// A schedule of this name, which all processes share over one store. By default a period
    /// that was missed is passed over if a later one has begun ([`Missed::Newest`] of one); a
    /// run that fails is tried six times, with pauses of up to one minute at first and up to an
    /// hour later on.
    pub fn new(name: &str, timing: Timing) -> Self {
        let backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));
        Self { name: name.into(), timing, missed: Missed::Newest(1), max_tries: 6, backoff, deadline: NEVER }
    }

    /// What becomes of periods that began while no process ran.
    pub const fn missed(mut self, missed: Missed) -> Self {
        self.missed = match missed {
            Missed::Newest(0) => Missed::PassOver,
            missed => missed,
        };
        self
    }

    /// How often a run is tried before it has failed, at least once; six times by default. A
    /// run that goes on after its process died is no further try. If a step is in doubt after the
    /// last one, the run is parked; its tries are counted anew when an operator has decided.
    pub fn max_tries(mut self, tries: u32) -> Self {
        self.max_tries = tries.max(1);
        self
    }

    /// For how long a run is tried, from when its period was opened; for ever by default. A try
    /// that runs then is cut off, at its next `await`, and no other one begins: the run has
    /// [failed](super::End::Failed), and the next period may begin. If a step of it is in doubt, the run is
    /// parked instead, and the deadline counts no longer: an operator decides.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_idempotency::schedule::{Schedule, Timing};
    ///
    /// let hourly = Schedule::new("report", Timing::cron("UTC", "0 * * * *")?).deadline(Duration::from_secs(50 * 60));
    /// # drop(hourly);
    /// # Ok::<_, tower_idempotency::schedule::InvalidTiming>(())
    /// ```
    ///
    /// # Caveats
    ///
    /// - The run of a process that dies, or is cut off from the store, holds its lease until that
    ///   has expired, and is given up only then.
    /// - Time in a maintenance window counts, if the period was opened before.
    /// - Without a deadline, work that never returns keeps all later periods waiting.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long a run rests after it failed.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }
}

/// Runs schedules: each of their periods once, over all processes that have this schedule and
/// share the store. There is no leader: the process that is first runs the period, and
/// another one goes on with it from its last recovery point if that process dies.
///
/// ```
/// use tower_idempotency::schedule::{Period, Schedule, Scheduler, Timing};
/// use tower_idempotency::{Operation, store::MemoryStore};
///
/// async fn export(period: Period, op: Operation) -> Result<(), String> {
///     let rows = op.step("rows", |_| async { Ok::<u32, String>(42) }).await.map_err(|e| e.to_string())?;
///     op.once("mail", || async move { Ok::<_, String>(println!("{rows} rows of {period}")) })
///         .await
///         .map_err(|e| e.to_string())
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let nightly = Schedule::new("daily-export", Timing::daily("Europe/Zurich", "02:00")?);
/// let scheduler = Scheduler::new(MemoryStore::new()).schedule(nightly, export)?;
/// # let shutdown = async {};
/// scheduler.run(shutdown).await;
/// # Ok(()) }
/// ```
///
/// The guide has [the whole story](crate::guide::schedules).
///
/// # Its runs
///
/// A run is an [`Operation`] like any other: it has steps, an operator sees it, and one that is
/// in doubt is parked. It is that of a [`Runner`](crate::Runner) in the scope `schedule/NAME`,
/// and its key is the period's [name](Period::name). A run that fails is tried again; later
/// periods wait for it. They do not wait for one that is in doubt: it goes on when an operator
/// has decided.
///
/// A period runs only once whatever the engine's retention is, and whatever the clocks of the
/// processes show: the store's clock counts. A run holds its lease for as long as it takes, up to its
/// [deadline](Schedule::deadline): the engine's [`max_execution`](Engine::max_execution) does not count.
///
/// # Caveats
///
/// - On a store that forgets, a period may run again: Redis without persistence, the memory
///   store after a restart.
/// - A new schedule begins with the first period after a process first ran it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Scheduler {
    engine: Engine,
    jobs: Vec<Arc<Job>>,
}

impl Scheduler {
    /// A scheduler over this engine, or over a store, or over the engine of a layer.
    pub fn new(engine: impl Into<Engine>) -> Self {
        // A run's record is removed when no process can begin it again, and not before. Its lease
        // lasts as long as it runs: what it takes is bounded by its deadline alone.
        Self { engine: engine.into().retention(NEVER).max_execution(NEVER), jobs: Vec::new() }
    }

    /// Runs this work once in each period of the schedule. An error of the work is not kept: have it
    /// log what it was.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] if its name is empty, longer than 64 bytes, not printable ASCII, or
    /// that of another schedule here.
    pub fn schedule<F, Fut, E>(mut self, schedule: Schedule, work: F) -> Result<Self, ScheduleError>
    where
        F: Fn(Period, Operation) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: 'static,
    {
        let Schedule { name, timing, missed, max_tries, backoff, deadline } = schedule;
        if !is_name(&name) {
            return Err(ScheduleError(format!("`{name}` is no name; take 1 to {LONGEST} letters, digits and signs")));
        }
        if self.jobs.iter().any(|job| job.name == name) {
            return Err(ScheduleError(format!("there is a schedule `{name}` already; give this one another name")));
        }
        let work = move |period, operation| {
            let run = work(period, operation);
            Box::pin(async move { run.await.map_err(|_error: E| Failed::Work) }) as _
        };
        self.jobs.push(Arc::new(Job { name, timing, missed, max_tries, backoff, deadline, work: Arc::new(work) }));
        Ok(self)
    }

    /// Runs what is due until `shutdown` resolves or the engine is
    /// [drained](crate::Engine::drain). It waits for a store that is unreachable, at its start
    /// too.
    ///
    /// # Cancellation
    ///
    /// You may drop the future at any time. A run that has begun goes on in a task of its own.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) {
        let mut tasks = tokio::task::JoinSet::new();
        for job in &self.jobs {
            tasks.spawn(keep(Arc::clone(job), self.engine.clone()));
        }
        self.engine.draining().begun_or(shutdown).await;
    }
}

/// Turn after turn.
async fn keep(job: Arc<Job>, engine: Engine) {
    let (mut outages, mut is_entered, _scanning) = (0, false, Scanning::new(engine.outage()));
    loop {
        let intake = job.intake(&engine).await;
        if intake == Intake::Closed {
            tokio::time::sleep(GLANCE).await;
            continue;
        }
        let calls = engine.calls_of_schedule(&job.name);
        let turn = async {
            if !is_entered {
                job.enter(&engine).await?;
                is_entered = true;
            }
            job.turn(&engine, intake).await
        };
        match turn.await {
            Ok(pause) => {
                engine.store_succeeded(Calls::Scans);
                outages = 0;
                rest(pause, &engine, || engine.calls_of_schedule(&job.name) != calls).await;
            }
            Err(error) => {
                outages += 1;
                if outages == 1 {
                    engine.store_failed(None, Calls::Scans, &error);
                }
                tokio::time::sleep(jittered(OUTAGE.longest(outages), 0.5, 1.0)).await;
            }
        }
    }
}

/// Until there may be more to do, or an operator calls.
async fn rest(pause: Pause, engine: &Engine, is_called: impl Fn() -> bool) {
    match pause {
        Pause::No => {}
        Pause::For(pause) => tokio::time::sleep(jittered(pause, 0.5, 1.0)).await,
        Pause::Call => {
            while !is_called() {
                engine.next_look(GLANCE).await;
            }
        }
        Pause::Until(time, left) => {
            let by_own_clock = after(left);
            let is_due = || engine.store_time().map_or_else(|| Instant::now() >= by_own_clock, |now| now >= time);
            while !is_called() && !is_due() {
                let left = engine.store_time().map_or(left, |now| time.since(now));
                engine.next_look(left.min(GLANCE)).await;
            }
            if !is_called() {
                tokio::time::sleep(jittered(JITTER, 0.0, 1.0)).await;
            }
        }
    }
}

/// Why a schedule can't be had: what is wrong with it, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError(String);

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScheduleError {}
