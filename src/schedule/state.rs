//! The cursor as the store has it: read, and changed in the place of what was read.

use super::cursor::Cursor;
use super::timing::Period;
use crate::core::{IdempotencyKey, Key, SetControl, Timestamp, Version};
use crate::engine::Engine;
use crate::store::{Loaded, StoreError};

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

impl State<'_> {
    /// The scope of its runs' keys.
    pub(crate) fn scope(&self) -> String {
        format!("schedule/{}", self.name)
    }

    fn key(&self) -> Key {
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
        let command = SetControl { seen, content: cursor.to_content() };
        Ok(self.engine.apply(&self.key(), None, command).await?.output.is_ok())
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

    async fn forget(&self, period: &Period) -> Result<(), StoreError> {
        let Ok(key) = IdempotencyKey::parse(period.name().as_bytes()) else { return Ok(()) };
        let key = Key::of_runner(&self.scope(), &key);
        let Some(record) = self.engine.look(&key).await?.record else { return Ok(()) };
        if record.response().is_some() {
            self.engine.forget(&key, record.version()).await?;
        }
        Ok(())
    }
}
