//! One schedule, turn by turn: what stands open runs, and what has begun is opened.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::cursor::{Cursor, End, Missed};
use super::state::{Seen, State};
use super::timing::{Period, Timing};
use crate::core::Timestamp;
use crate::engine::Engine;
use crate::engine::operation::Operation;
use crate::runner::{RunError, Runner};
use crate::store::StoreError;
use crate::util::backoff::Backoff;

/// How long until a process looks again at what another one runs, or at what is in doubt.
const LOOK: Duration = Duration::from_secs(5);

type Work = Arc<dyn Fn(Period, Operation) -> Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>> + Send + Sync>;

/// Why a run gave up: the work failed, or there was nothing to do.
#[derive(Debug)]
pub(super) enum Failed {
    Work,
    /// The period stands open no longer: another process ended it meanwhile.
    Ended,
    Store(StoreError),
}

#[derive(Clone)]
pub(super) struct Job {
    pub(super) name: Arc<str>,
    pub(super) timing: Timing,
    pub(super) missed: Missed,
    pub(super) max_tries: u32,
    pub(super) backoff: Backoff,
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
    /// A period begins at this time of the store.
    Until(Timestamp),
}

impl Job {
    fn state<'a>(&'a self, engine: &'a Engine) -> State<'a> {
        State { engine, name: &self.name }
    }

    /// Does what is due now, one run at most.
    pub(super) async fn turn(&self, engine: &Engine) -> Result<Pause, StoreError> {
        let Seen { cursor, version, now } = self.state(engine).look().await?;
        let Some(mut cursor) = cursor else {
            self.state(engine).write(&Cursor::new(&self.timing, now), version).await?;
            return Ok(Pause::No);
        };
        // Others may have decided or ended it long before it is tried again.
        if let Some(open) = cursor.running().filter(|open| now < open.rests_until) {
            return Ok(Pause::For(open.rests_until.since(now).min(LOOK)));
        }
        if let Some(open) = cursor.open.iter().find(|open| now >= open.rests_until) {
            return self.run(engine, open.period.clone()).await;
        }
        if cursor.advance(&self.timing, self.missed, now) {
            cursor.timing = self.timing.to_string();
            let is_ours = self.state(engine).write(&cursor, version).await?;
            let opened = cursor.running().filter(|_| is_ours).map(|open| open.period.clone());
            return match opened {
                Some(period) => self.run(engine, period).await,
                None => Ok(Pause::No),
            };
        }
        let next = self.timing.following(&cursor.passed).map(|period| period.begin);
        let in_doubt = cursor.open.iter().map(|open| open.rests_until);
        Ok(in_doubt.chain(next).min().map_or(Pause::For(LOOK), Pause::Until))
    }

    async fn run(&self, engine: &Engine, period: Period) -> Result<Pause, StoreError> {
        let runner = Runner::new(engine.clone());
        let (job, at, of) = (self.clone(), engine.clone(), period.clone());
        let work = move |operation| async move { job.work(&at, of, operation).await };
        let ran = runner.run(&self.state(engine).scope(), period.name(), &(), work);
        let backoff = match ran.await {
            Ok(()) => return self.ended(engine, &period, End::Complete).await,
            Err(RunError::Busy(left)) => return Ok(Pause::For(left.clamp(Duration::from_millis(10), LOOK))),
            Err(RunError::Work(Failed::Ended)) => return Ok(Pause::No),
            Err(RunError::Work(Failed::Store(error)) | RunError::Store(error)) => return Err(error),
            Err(RunError::Maintenance { .. } | RunError::Draining) => return Ok(Pause::For(LOOK)),
            Err(RunError::OutcomeUnknown) => return self.doubted(engine, &period).await,
            Err(RunError::Work(Failed::Work) | RunError::Panicked) => self.backoff,
            // Its key, its input and its result are ours.
            Err(RunError::InputChanged | RunError::Key(_) | RunError::Json(_)) => self.backoff,
        };
        self.failed(engine, &period, backoff).await
    }

    /// The work, if its period still stands open. The record of a run is removed only after
    /// the period was ended: what would begin it anew sees that here.
    async fn work(&self, engine: &Engine, period: Period, operation: Operation) -> Result<(), Failed> {
        let found = self
            .state(engine)
            .look()
            .await
            .map(|seen| seen.cursor.and_then(|mut cursor| cursor.find(&period).cloned()));
        match found {
            Ok(Some(_)) => (self.work)(period, operation).await,
            Ok(None) => {
                operation.nothing_happened();
                Err(Failed::Ended)
            }
            Err(error) => Err(Failed::Store(error)),
        }
    }

    async fn ended(&self, engine: &Engine, period: &Period, end: End) -> Result<Pause, StoreError> {
        self.change(engine, |cursor, now| {
            if cursor.find(period).is_some() {
                cursor.end(period.clone(), now, end);
            }
        })
        .await
    }

    async fn doubted(&self, engine: &Engine, period: &Period) -> Result<Pause, StoreError> {
        self.change(engine, |cursor, now| {
            if let Some(open) = cursor.find(period) {
                (open.in_doubt, open.rests_until) = (true, now.after(LOOK));
            }
        })
        .await
    }

    async fn failed(&self, engine: &Engine, period: &Period, backoff: Backoff) -> Result<Pause, StoreError> {
        self.change(engine, |cursor, now| {
            let Some(open) = cursor.find(period) else { return };
            open.failures += 1;
            open.rests_until = now.after(backoff.pause(open.failures));
            if open.failures >= self.max_tries {
                cursor.end(period.clone(), now, End::Failed);
            }
        })
        .await
    }

    async fn change(
        &self,
        engine: &Engine,
        change: impl FnMut(&mut Cursor, Timestamp) + Send,
    ) -> Result<Pause, StoreError> {
        self.state(engine).change(change).await?;
        Ok(Pause::No)
    }
}
