//! One schedule, turn by turn: what stands open runs, and what has begun is opened.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::cursor::{Cursor, End, Missed};
use super::timing::{Period, Timing};
use crate::core::{IdempotencyKey, Key, SetControl, Timestamp, Version};
use crate::engine::Engine;
use crate::engine::operation::Operation;
use crate::runner::{RunError, Runner};
use crate::store::{Loaded, StoreError};
use crate::util::backoff::Backoff;

/// How long until a process looks again at what another one runs, or at what is in doubt.
const LOOK: Duration = Duration::from_secs(5);

/// How often a cursor that others change meanwhile is read again.
const TRIES: usize = 8;

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

/// The cursor as it was read.
struct Seen {
    cursor: Option<Cursor>,
    version: Option<Version>,
    now: Timestamp,
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
    /// No period comes.
    Ever,
}

impl Job {
    /// The scope of its runs' keys.
    fn scope(&self) -> String {
        format!("schedule/{}", self.name)
    }

    fn key(&self) -> Key {
        Key::of_control(&self.scope())
    }

    /// Does what is due now, one run at most.
    pub(super) async fn turn(&self, engine: &Engine) -> Result<Pause, StoreError> {
        let Seen { cursor, version, now } = self.look(engine).await?;
        let Some(mut cursor) = cursor else {
            self.write(engine, &Cursor::new(now), version).await?;
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
            let is_ours = self.write(engine, &cursor, version).await?;
            let opened = cursor.running().filter(|_| is_ours).map(|open| open.period.clone());
            return match opened {
                Some(period) => self.run(engine, period).await,
                None => Ok(Pause::No),
            };
        }
        let next = self.timing.following(&cursor.passed).map(|period| period.begin);
        let in_doubt = cursor.open.iter().map(|open| open.rests_until);
        Ok(in_doubt.chain(next).min().map_or(Pause::Ever, Pause::Until))
    }

    async fn run(&self, engine: &Engine, period: Period) -> Result<Pause, StoreError> {
        let runner = Runner::new(engine.clone());
        let (job, at, of) = (self.clone(), engine.clone(), period.clone());
        let work = move |operation| async move { job.work(&at, of, operation).await };
        let ran = runner.run(&self.scope(), period.name(), &(), work);
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
        let found = self.look(engine).await.map(|seen| seen.cursor.and_then(|mut cursor| cursor.find(&period).cloned()));
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

    /// Changes the cursor, whatever others change meanwhile. What is listed no longer loses its
    /// record first, so that none is left behind.
    async fn change(
        &self,
        engine: &Engine,
        mut change: impl FnMut(&mut Cursor, Timestamp),
    ) -> Result<Pause, StoreError> {
        for _ in 0..TRIES {
            let Seen { cursor, version, now } = self.look(engine).await?;
            let Some(mut cursor) = cursor else { break };
            change(&mut cursor, now);
            for ended in cursor.unlisted() {
                self.forget(engine, &ended.period).await?;
            }
            cursor.unlist();
            if self.write(engine, &cursor, version).await? {
                break;
            }
        }
        Ok(Pause::No)
    }

    async fn forget(&self, engine: &Engine, period: &Period) -> Result<(), StoreError> {
        let Ok(key) = IdempotencyKey::parse(period.name().as_bytes()) else { return Ok(()) };
        let key = Key::of_runner(&self.scope(), &key);
        let Some(record) = engine.look(&key).await?.record else { return Ok(()) };
        if record.response().is_some() {
            engine.forget(&key, record.version()).await?;
        }
        Ok(())
    }

    async fn look(&self, engine: &Engine) -> Result<Seen, StoreError> {
        let Loaded { record, now } = engine.look(&self.key()).await?;
        let version = record.as_ref().map(|record| record.version());
        let cursor = record.as_ref().map(|record| Cursor::of(record)).transpose()?;
        Ok(Seen { cursor, version, now })
    }

    /// Whether it was written: not if another process changed it since it was seen.
    async fn write(&self, engine: &Engine, cursor: &Cursor, seen: Option<Version>) -> Result<bool, StoreError> {
        let command = SetControl { seen, content: cursor.to_content() };
        Ok(engine.apply(&self.key(), None, command).await?.output.is_ok())
    }
}
