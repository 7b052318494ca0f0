//! Whether a record that is not there was never there.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::checkpoint::Checkpoints;
use super::error::Fault;
use super::row::{self, MASK, Stored};
use super::schema::Sql;
use crate::core::Key;
use crate::store::contract::{StoreError, StoreErrorKind};

/// As many as fit on one page, which every transaction changes.
pub(super) const BUCKETS: usize = 128;

const UNKNOWN: u8 = 0;
const SOUND: u8 = 1;
const DAMAGED: u8 = 2;
/// Between two buckets.
const PAUSE: Duration = Duration::from_millis(5);

/// Records by the first seven bits of their keys. For each bucket the database has the
/// count of its records and the sums of their keys' hashes and of their own: a page
/// that is gone, or an old one in its place, shows. Looked at once after the store was
/// opened: at the index of keys, which says that one is absent, before the first time
/// that this is believed; at the records themselves, which are spread over the whole
/// file, in the background.
#[derive(Debug)]
pub(super) struct Buckets([AtomicU8; BUCKETS]);

impl Buckets {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU8::new(UNKNOWN) }; BUCKETS])
    }

    fn state(&self, key: &Key) -> &AtomicU8 {
        &self.0[usize::from(key.as_bytes()[0] >> 1)]
    }

    /// Whether it was looked at.
    pub(super) fn is_known(&self, key: &Key) -> bool {
        self.state(key).load(Ordering::Relaxed) != UNKNOWN
    }

    /// An error if records of this key's bucket are missing: this may be one.
    pub(super) fn trust(&self, key: &Key) -> Result<(), StoreError> {
        if self.state(key).load(Ordering::Relaxed) != DAMAGED {
            return Ok(());
        }
        let message =
            "the SQLite store is damaged: records are missing where this key belongs; restore it from a backup";
        Err(StoreError::new(StoreErrorKind::Corrupt, message))
    }

    /// How many buckets are known to be damaged.
    pub(super) fn damaged(&self) -> usize {
        self.0.iter().filter(|state| state.load(Ordering::Relaxed) == DAMAGED).count()
    }

    /// Looks at the keys of the bucket of `key`, unless that was done.
    pub(super) fn verify(&self, connection: &Connection, sql: &Sql, key: &Key) -> Result<(), Fault> {
        self.verify_keys(connection, sql, key.as_bytes()[0] >> 1)
    }

    /// Looks at all of them and at their records, with pauses for others, until the
    /// store is closed.
    pub(super) fn verify_all(&self, connection: &Connection, sql: &Sql, checkpoints: &Checkpoints) {
        for bucket in 0..128 {
            if !checkpoints.pause(PAUSE) {
                return;
            }
            // What can't be read now is tried when a call needs it.
            let _ = self.verify_keys(connection, sql, bucket);
        }
        for bucket in 0..128 {
            if !checkpoints.pause(PAUSE) {
                return;
            }
            if found_unsound(records_are_sound(connection, sql, bucket)).unwrap_or(false) {
                self.0[usize::from(bucket)].store(DAMAGED, Ordering::Relaxed);
            }
        }
    }

    /// The same for the keys that begin with these seven bits.
    fn verify_keys(&self, connection: &Connection, sql: &Sql, bucket: u8) -> Result<(), Fault> {
        let state = &self.0[usize::from(bucket)];
        if state.load(Ordering::Relaxed) != UNKNOWN {
            return Ok(());
        }
        let unsound = found_unsound(keys_are_sound(connection, sql, bucket))?;
        state.store(if unsound { DAMAGED } else { SOUND }, Ordering::Relaxed);
        Ok(())
    }
}

/// What can't be read for damage is not sound.
fn found_unsound(sound: Result<bool, Fault>) -> Result<bool, Fault> {
    match sound {
        Err(fault) if fault.is_damage() => Ok(true),
        other => other.map(|sound| !sound),
    }
}

/// Whether the index has all keys, and each of them where it is looked for. In one
/// read transaction: others write meanwhile.
fn keys_are_sound(connection: &Connection, sql: &Sql, bucket: u8) -> Result<bool, Fault> {
    let transaction = connection.unchecked_transaction()?;
    let expected = transaction.query_row(&sql.bucket, [bucket], |row| Ok((row.get(0)?, row.get(2)?)));
    let expected: Option<(i64, i64)> = expected.optional()?;
    let mut keys = transaction.prepare(&sql.bucket_keys)?;
    let mut is_there = transaction.prepare(&sql.is_there)?;
    let (from, to) = range(bucket);
    let mut keys = keys.query((from, to))?;
    let (mut count, mut sum) = (0, 0_i64);
    while let Some(found) = keys.next()? {
        let Ok(key) = row::key(found, 0) else { return Ok(false) };
        // Beside a damaged page, a search may miss it.
        if !is_there.exists([key.as_bytes().as_slice()])? {
            return Ok(false);
        }
        count += 1;
        sum = sum.wrapping_add(row::key_hash(key.as_bytes())) & MASK;
    }
    Ok(expected == Some((count, sum)))
}

/// The same of the records themselves, and of the index by which unfinished ones are
/// found.
fn records_are_sound(connection: &Connection, sql: &Sql, bucket: u8) -> Result<bool, Fault> {
    let transaction = connection.unchecked_transaction()?;
    let expected = transaction.query_row(&sql.bucket, [bucket], |row| Ok((row.get(0)?, row.get(1)?)));
    let expected: Option<(i64, i64)> = expected.optional()?;
    let mut rows = transaction.prepare(&sql.bucket_rows)?;
    let mut is_indexed = transaction.prepare(&sql.is_indexed)?;
    let (from, to) = range(bucket);
    let mut rows = rows.query((from, to))?;
    let (mut count, mut sum) = (0, 0_i64);
    while let Some(found) = rows.next()? {
        let Ok(key) = row::key(found, row::KEY) else { return Ok(false) };
        count += 1;
        let hash = match Stored::read(found, key.as_bytes()) {
            Ok(stored) => {
                let searched = stored.columns.is_unfinished();
                if searched && !is_indexed.exists((stored.columns.due, key.as_bytes()))? {
                    return Ok(false);
                }
                stored.hash
            }
            Err(Fault::Record(error)) if error.kind() == StoreErrorKind::NewerFormat => row::integer(found, row::HASH)?,
            // It may be the key that was changed.
            Err(Fault::Record(_)) => return Ok(false),
            Err(fault) => return Err(fault),
        };
        sum = sum.wrapping_add(hash) & MASK;
    }
    Ok(expected == Some((count, sum)))
}

/// The keys of a bucket: from the first on, and before the second.
fn range(bucket: u8) -> (Vec<u8>, Vec<u8>) {
    let first = bucket << 1;
    let end = first.checked_add(2).map_or_else(|| vec![u8::MAX; 33], |next| vec![next]);
    (vec![first], end)
}
