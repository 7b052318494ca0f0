//! One schedule, turn by turn: what stands open runs, and what has begun is opened.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::cursor::{Cursor, End, Ended, Missed, Open};
use super::directory;
use super::state::{Seen, State};
use super::timing::{Period, Timing};
use crate::core::{Intake, NEVER, Record, Resolution, Resolve, Timestamp, Work as Covered};
use crate::engine::Engine;
use crate::engine::operation::Operation;
use crate::runner::{RunError, Runner};
use crate::store::{Loaded, StoreError};
use crate::telemetry::event::EventKind;
use crate::telemetry::scheduled::ScheduleTurn;
use crate::util::backoff::Backoff;

/// How long until a process looks again at what it could not do.
const LOOK: Duration = Duration::from_secs(5);

/// The same for what another process runs, and for what waits for its next try or for an
/// operator: the process may die, and the operator decide.
const WATCH: Duration = Duration::from_secs(30);

/// How many may be in doubt: then later periods wait, too.
const DOUBTS: usize = 32;

type Work = Arc<dyn Fn(Period, Operation) -> Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>> + Send + Sync>;

/// Why a run gave up: the work failed, or there was nothing to do.
#[derive(Debug)]
pub(super) enum Failed {
    Work,
    /// The period stands open no longer, or not as it was seen: another process was there.
    Overtaken,
    Store(StoreError),
}

#[derive(Clone)]
pub(super) struct Job {
    pub(super) name: Arc<str>,
    pub(super) timing: Timing,
    pub(super) missed: Missed,
    pub(super) max_tries: u32,
    pub(super) backoff: Backoff,
    pub(super) deadline: Duration,
    pub(super) work: Work,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("name", &self.name).finish_non_exhaustive()
    }
}

/// When to look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// There may be more to do.
    No,
    /// What another process does may have ended by then.
    For(Duration),
    /// Something falls due after this time: a period begins, or it is time to see whether an
    /// operator has decided.
    Until(Timestamp, Duration),
    /// Nothing, until an operator calls.
    Call,
}

impl Job {
    fn state<'a>(&'a self, engine: &'a Engine) -> State<'a> {
        State { engine, name: &self.name }
    }

    /// Has operators find it, as it is here. It writes nothing if they do.
    pub(super) async fn enter(&self, engine: &Engine) -> Result<(), StoreError> {
        let Seen { cursor, version, now } = self.state(engine).look().await?;
        let is_new = cursor.is_none();
        let mut cursor = cursor.unwrap_or_else(|| Cursor::new(&self.timing, self.missed, now));
        if cursor.go_by(&self.timing, self.missed) || is_new {
            // If another process was faster, what it wrote holds.
            self.state(engine).write(&cursor, version).await?;
        }
        directory::enter(engine, &self.name).await.or_else(|error| {
            // No period waits for a list that can't be read.
            if error.is_unreadable() { Ok(()) } else { Err(error) }
        })
    }

    /// What may begin now, as far as maintenance goes.
    pub(super) async fn intake(&self, engine: &Engine) -> Intake {
        if engine.is_closed().await {
            return Intake::Closed;
        }
        let scope = self.state(engine).scope();
        let rest = engine.rest_of(Covered::Operation { route: None, scope: Some(&scope) }).await;
        rest.map_or(Intake::Open, |rest| rest.intake)
    }

    /// Does what is due now, one run at most.
    pub(super) async fn turn(&self, engine: &Engine, intake: Intake) -> Result<Pause, StoreError> {
        let Seen { cursor, version, now } = self.state(engine).look().await?;
        let Some(mut cursor) = cursor else {
            self.enter(engine).await?;
            return Ok(Pause::No);
        };
        let (ended, may_open) = (cursor.ended.len(), intake == Intake::Open && cursor.open.len() < DOUBTS);
        if may_open && cursor.advance(&self.timing, self.missed, now) {
            cursor.go_by(&self.timing, self.missed);
            let is_ours = self.state(engine).write(&cursor, version).await?;
            for Ended { period, end, .. } in cursor.ended.iter().skip(ended).filter(|_| is_ours) {
                if let End::PassedOver(periods) = end {
                    self.emit(engine, period, ScheduleTurn::PassedOver { periods: *periods });
                }
            }
            return match cursor.running().filter(|_| is_ours) {
                Some(open) => self.run(engine, open).await,
                None => Ok(Pause::No),
            };
        }
        // What has begun and is not open waits for what runs, or for an operator.
        let next = self.timing.following(&cursor.passed).map(|period| period.begin);
        let mut due: Vec<_> = next.into_iter().filter(|begin| *begin > now).collect();
        due.extend((intake != Intake::Open).then(|| now.after(LOOK)));
        for open in cursor.running().into_iter().chain(cursor.open.iter().filter(|open| open.in_doubt)) {
            match self.rests(engine, open).await? {
                Some(left) => due.push(now.after(left)),
                None => return self.run(engine, open).await,
            }
        }
        Ok(due.into_iter().min().map_or(Pause::Call, |due| Pause::Until(due, due.since(now))))
    }

    /// How long it is until a run that stands open may go on here; `None` if it may now.
    async fn rests(&self, engine: &Engine, open: &Open) -> Result<Option<Duration>, StoreError> {
        let Loaded { record, now } = self.state(engine).record(&open.period).await?;
        if let Some(left) = record.as_ref().and_then(|record| record.lease_left(now)) {
            return Ok(Some(left.min(WATCH)));
        }
        if record.as_ref().is_some_and(|record| record.response().is_some()) {
            return Ok(None);
        }
        // A run that is parked, and not known to be in doubt, is found to be so when it is tried.
        let is_parked = open.in_doubt && record.is_some_and(|record| record.parked_for().is_some());
        let left = if is_parked { WATCH } else { open.rests_until.since(now) };
        Ok(Some(left.min(WATCH)).filter(|left| !left.is_zero()))
    }

    async fn run(&self, engine: &Engine, open: &Open) -> Result<Pause, StoreError> {
        let runner = Runner::new(engine.clone());
        let (job, at, seen) = (self.clone(), engine.clone(), open.clone());
        let work = move |operation| async move { job.work(&at, seen, operation).await };
        match runner.run(&self.state(engine).scope(), open.period.name(), &(), work).await {
            // The result is ours, or an operator's, which may be anything.
            Ok(()) | Err(RunError::Json(_)) => self.ended(engine, &open.period).await,
            Err(RunError::Busy(left)) => Ok(Pause::For(left.clamp(Duration::from_millis(10), LOOK))),
            Err(RunError::Work(Failed::Overtaken)) => Ok(Pause::No),
            Err(RunError::Work(Failed::Store(error)) | RunError::Store(error)) => Err(error),
            Err(RunError::Maintenance { .. } | RunError::Draining) => Ok(Pause::For(LOOK)),
            Err(RunError::OutcomeUnknown) => self.doubted(engine, open).await,
            // Its key and its input are ours.
            Err(RunError::Work(Failed::Work) | RunError::Panicked | RunError::InputChanged | RunError::Key(_)) => {
                self.failed(engine, open).await
            }
        }
    }

    /// The work, if its period still stands open as it was seen. The record of a run is removed
    /// only after the period was ended: what would begin it anew sees that here.
    async fn work(&self, engine: &Engine, seen: Open, operation: Operation) -> Result<(), Failed> {
        let looked = self.state(engine).look().await.map_err(Failed::Store)?;
        let mut open = looked.cursor.into_iter().flat_map(|cursor| cursor.open);
        // A response of an operator's is kept for as long as that operator said.
        let has_ended = seen.in_doubt && operation.attempt() == 1;
        if has_ended || !open.any(|open| open == seen) {
            operation.nothing_happened();
            return if has_ended { Ok(()) } else { Err(Failed::Overtaken) };
        }
        let left = self.end_of(&seen).since(looked.now);
        if left.is_zero() {
            operation.nothing_happened();
            return Err(Failed::Work);
        }
        timeout(left, (self.work)(seen.period, operation)).await.unwrap_or(Err(Failed::Work))
    }

    /// When its deadline is over. An operator who decides about what is in doubt has it go on.
    fn end_of(&self, open: &Open) -> Timestamp {
        open.since.after(if open.in_doubt { NEVER } else { self.deadline })
    }

    async fn ended(&self, engine: &Engine, period: &Period) -> Result<Pause, StoreError> {
        self.change(engine, period, |cursor, now| {
            cursor.find(period)?;
            cursor.end(period.clone(), now, End::Complete);
            Some(ScheduleTurn::Complete)
        })
        .await
    }

    /// It is parked. Once an operator has decided, its tries are counted anew.
    async fn doubted(&self, engine: &Engine, open: &Open) -> Result<Pause, StoreError> {
        if open.in_doubt && open.failures == 0 {
            return Ok(Pause::For(LOOK));
        }
        self.change(engine, &open.period, |cursor, _| {
            let open = cursor.find(&open.period)?;
            open.failures = 0;
            let was_in_doubt = std::mem::replace(&mut open.in_doubt, true);
            (!was_in_doubt).then_some(ScheduleTurn::InDoubt)
        })
        .await
    }

    /// The attempt ended without a result. What became of the run is on its record: another
    /// process may go on with it, or it may be parked.
    async fn failed(&self, engine: &Engine, seen: &Open) -> Result<Pause, StoreError> {
        let Loaded { record, now } = self.state(engine).record(&seen.period).await?;
        let is_held = record.as_ref().is_some_and(|record| record.lease_left(now).is_some());
        if is_held || record.as_ref().is_some_and(|record| record.response().is_some()) {
            return Ok(Pause::For(LOOK));
        }
        let tries = seen.failures + 1;
        let pause = self.backoff.pause(tries);
        let is_last = tries >= self.max_tries || now.after(pause) >= self.end_of(seen);
        if let Some(record) = record {
            if is_last && record.parked_for().is_none() && record.in_doubt().next().is_some() {
                return self.park(engine, seen, &record).await;
            }
            if record.parked_for().is_some() {
                return self.doubted(engine, seen).await;
            }
        }
        self.change(engine, &seen.period, |cursor, now| {
            let open = cursor.find(&seen.period).filter(|open| **open == *seen)?;
            (open.failures, open.rests_until) = (tries, now.after(pause));
            if is_last {
                cursor.end(seen.period.clone(), now, End::Failed);
            }
            Some(if is_last { ScheduleTurn::GivenUp { tries } } else { ScheduleTurn::Failed { tries } })
        })
        .await
    }

    /// A step of it is in doubt, and no other try will find out.
    async fn park(&self, engine: &Engine, seen: &Open, record: &Record) -> Result<Pause, StoreError> {
        let why: Arc<str> = "a step is in doubt after the last try".into();
        let (key, resolution) = (self.state(engine).key_of(&seen.period)?, Resolution::Park { why: Arc::clone(&why) });
        let command = Resolve { resolution, seen: Some(record.version()), why: None };
        if engine.apply(&key, None, command).await?.output.is_err() {
            return Ok(Pause::For(LOOK));
        }
        engine.emit(&key, || EventKind::Parked { why: why.to_string() });
        self.doubted(engine, seen).await
    }

    /// Changes the cursor, and says what that made of the run, if it made anything of it.
    async fn change(
        &self,
        engine: &Engine,
        period: &Period,
        change: impl FnMut(&mut Cursor, Timestamp) -> Option<ScheduleTurn> + Send,
    ) -> Result<Pause, StoreError> {
        if let Some(turn) = self.state(engine).change(change).await?.flatten() {
            self.emit(engine, period, turn);
        }
        Ok(Pause::No)
    }

    fn emit(&self, engine: &Engine, period: &Period, turn: ScheduleTurn) {
        let (schedule, name) = (&self.name, period.name());
        let kind = || EventKind::Schedule { schedule: schedule.to_string(), period: name.to_owned(), turn };
        match self.state(engine).key_of(period) {
            Ok(key) if !matches!(turn, ScheduleTurn::PassedOver { .. }) => engine.emit(&key, kind),
            _ => engine.emit_unkeyed(kind),
        }
    }
}
