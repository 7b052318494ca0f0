//! The cursor as the store has it: read, and changed in the place of what was read.

use super::cursor::Cursor;
use super::directory;
use super::timing::Period;
use crate::core::{IdempotencyKey, Key, Timestamp, Version};
use crate::engine::Engine;
use crate::store::{Loaded, StoreError, StoreErrorKind};

/// How often a change is tried again that another process overtook.
const TRIES: usize = 8;

/// The schedule of this name in the store of this engine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) name: &'a str,
}

/// The cursor as it was read.
pub(crate) struct Seen {
    pub(crate) cursor: Option<Cursor>,
    pub(crate) version: Option<Version>,
    pub(crate) now: Timestamp,
}

/// What became of a schedule that was to be removed.
pub(crate) enum Removal {
    Done,
    /// There is none.
    Absent,
    /// A run of it has begun, and has not ended.
    Unfinished,
    /// Others change it all the time.
    Overtaken,
}

/// The scope of the runs of the schedule of this name.
pub(crate) fn scope(name: &str) -> String {
    format!("schedule/{name}")
}

impl State<'_> {
    /// The scope of its runs' keys.
    pub(crate) fn scope(&self) -> String {
        scope(self.name)
    }

    /// The cursor's key.
    pub(crate) fn key(&self) -> Key {
        Key::of_control(&self.scope())
    }

    pub(crate) async fn look(&self) -> Result<Seen, StoreError> {
        let Loaded { record, now } = self.engine.look(&self.key()).await?;
        let version = record.as_ref().map(|record| record.version());
        let cursor = record.as_ref().map(Cursor::of).transpose()?;
        Ok(Seen { cursor, version, now })
    }

    /// Whether it was written: not if another process changed it since it was seen.
    pub(crate) async fn write(&self, cursor: &Cursor, seen: Option<Version>) -> Result<bool, StoreError> {
        self.engine.set_control(&self.key(), seen, cursor.to_content()).await
    }

    /// Changes the cursor, whatever others change meanwhile. Returns whether it did: not if
    /// there is no such schedule, or others change it all the time. What is listed no longer
    /// loses its record first, so that none is left behind.
    pub(crate) async fn change<T: Send>(
        &self,
        mut change: impl FnMut(&mut Cursor, Timestamp) -> T + Send,
    ) -> Result<Option<T>, StoreError> {
        for _ in 0..TRIES {
            let Seen { cursor, version, now } = self.look().await?;
            let Some(mut cursor) = cursor else { break };
            let done = change(&mut cursor, now);
            for ended in cursor.unlisted() {
                self.forget(&ended.period).await?;
            }
            cursor.unlist();
            if self.write(&cursor, version).await? {
                return Ok(Some(done));
            }
        }
        Ok(None)
    }

    /// Removes the cursor, and with it all that is on record of its runs. What has run is
    /// removed only where no process can begin it again: what ended before the cursor is, and
    /// what stands open after it.
    pub(crate) async fn remove(&self) -> Result<Removal, StoreError> {
        for _ in 0..TRIES {
            let Seen { cursor, version, .. } = self.look().await?;
            let Some((cursor, version)) = cursor.zip(version) else {
                // Of an earlier call that was cut off, the name may be left.
                let was_listed = directory::leave(self.engine, self.name).await?;
                return Ok(if was_listed { Removal::Done } else { Removal::Absent });
            };
            for open in &cursor.open {
                if self.record(&open.period).await?.record.is_some_and(|record| record.response().is_none()) {
                    return Ok(Removal::Unfinished);
                }
            }
            for ended in &cursor.ended {
                self.forget(&ended.period).await?;
            }
            if self.engine.forget(&self.key(), version).await? {
                for open in &cursor.open {
                    self.forget(&open.period).await?;
                }
                directory::leave(self.engine, self.name).await?;
                return Ok(Removal::Done);
            }
        }
        Ok(Removal::Overtaken)
    }

    /// The record of the run for this period.
    pub(crate) async fn record(&self, period: &Period) -> Result<Loaded, StoreError> {
        self.engine.look(&self.key_of(period)?).await
    }

    pub(super) fn key_of(&self, period: &Period) -> Result<Key, StoreError> {
        let key = IdempotencyKey::parse(period.name().as_bytes());
        let corrupt = || StoreError::new(StoreErrorKind::Corrupt, "the cursor of a schedule names no period");
        Ok(Key::of_runner(&self.scope(), &key.map_err(|_| corrupt())?))
    }

    /// Removes the record of a run that has ended, if no attempt holds it. What can't be read
    /// stays, and keeps no period waiting.
    async fn forget(&self, period: &Period) -> Result<(), StoreError> {
        let removed = match self.record(period).await {
            Ok(Loaded { record: Some(record), now }) if record.lease_left(now).is_none() => {
                self.engine.forget(&self.key_of(period)?, record.version()).await.map(drop)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        removed.or_else(|error| if error.is_unreadable() { Ok(()) } else { Err(error) })
    }
}
