//! Stores whose bytes a test can look at, and exchange: as another build that shares
//! them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, params};
use tempfile::TempDir;
use tower_idempotency::clock::{Clock, SystemClock};
use tower_idempotency::core::{Key, PartId, Record, Times, Version};
use tower_idempotency::store::{KeptRecord, Loaded, Page, Query, SqliteStore, Store, StoreError, Swap};
use xxhash_rust::xxh3::xxh3_64;

use super::newer::Pieces;

/// A store, and its bytes.
pub(super) trait Kept: Send + Sync {
    fn store(&self) -> Arc<dyn Store>;

    /// What is kept under this key.
    fn pieces(&self, key: &Key) -> Pieces;

    /// Puts these in the place of what is kept there.
    fn put(&self, key: &Key, pieces: &Pieces);
}

/// Each of them, empty.
pub(super) fn stores() -> [Box<dyn Kept>; 2] {
    [Box::new(InMemory::default()), Box::new(InFile::new())]
}

/// The smallest store that keeps bytes and not records.
#[derive(Clone, Debug, Default)]
struct InMemory {
    kept: Arc<Mutex<BTreeMap<Key, (Times, Pieces)>>>,
    clock: SystemClock,
}

fn decoded(times: Times, pieces: &Pieces) -> Result<Record, StoreError> {
    Ok(Record::decode(times, &pieces.head, |id| pieces.parts.get(&id).cloned())?)
}

#[async_trait]
impl Store for InMemory {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let kept = self.kept.lock().unwrap();
        let record = kept.get(key).map(|(times, pieces)| decoded(*times, pieces)).transpose()?;
        Ok(Loaded { record, now: self.clock.now() })
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        let mut kept = self.kept.lock().unwrap();
        let (found, now) = (kept.get(key).cloned(), self.clock.now());
        let record = found.as_ref().map(|(times, pieces)| decoded(*times, pieces)).transpose()?;
        if record.as_ref().map(Record::version) != expected {
            return Ok(Swap::Conflict(Loaded { record, now }));
        }
        let created = next.clone().stamped_over(found.as_ref().map(|(times, _)| times.created), now).created_at();
        let encoded = next.encode();
        let mut parts = found.map(|(_, pieces)| pieces.parts).unwrap_or_default();
        parts.extend(encoded.fresh);
        let named: Vec<_> = Record::parts_of(&encoded.head)?.collect();
        parts.retain(|id, _| named.contains(id));
        let times = Times { created: created.unwrap_or(now), written: now };
        kept.insert(*key, (times, Pieces { head: encoded.head, parts }));
        Ok(Swap::Stored)
    }

    async fn remove(&self, _: &Key, _: Version) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn scan(&self, _: &Query) -> Result<Page, StoreError> {
        Ok(Page::default())
    }
}

impl Kept for InMemory {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.clone())
    }

    fn pieces(&self, key: &Key) -> Pieces {
        self.kept.lock().unwrap()[key].1.clone()
    }

    fn put(&self, key: &Key, pieces: &Pieces) {
        self.kept.lock().unwrap().get_mut(key).unwrap().1 = pieces.clone();
    }
}

/// A SQLite store, and another program that writes to its file.
struct InFile {
    store: SqliteStore,
    file: Mutex<Connection>,
    _folder: TempDir,
}

impl InFile {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        let store = SqliteStore::open(&path).unwrap();
        let file = Connection::open(&path).unwrap();
        file.busy_timeout(Duration::from_secs(5)).unwrap();
        Self { store, file: Mutex::new(file), _folder: folder }
    }
}

/// What fits into a sum of checksums.
const MASK: u64 = 0x3fff_ffff_ffff_ffff;

/// The checksum over a key and numbers, as rows have it.
fn row_hash(key: &Key, numbers: &[u64]) -> i64 {
    let numbers = numbers.iter().flat_map(|number| number.to_be_bytes());
    let bytes: Vec<u8> = key.as_bytes().iter().copied().chain(numbers).collect();
    (xxh3_64(&bytes) & MASK).cast_signed()
}

/// The number of a part in the table.
fn number(id: PartId) -> Option<u32> {
    match id {
        PartId::Request => Some(0),
        PartId::Step(number) => Some(number + 1),
        PartId::Response => None,
    }
}

impl Kept for InFile {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn pieces(&self, key: &Key) -> Pieces {
        let file = self.file.lock().unwrap();
        let row = "SELECT id, head, response FROM records WHERE key = ?1";
        let (id, head, response) = file
            .query_row(row, [key.as_bytes().as_slice()], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
            })
            .unwrap();
        let mut parts = file.prepare("SELECT n, value FROM parts WHERE record = ?1").unwrap();
        let parts = parts.query_map([id], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
        let parts = parts
            .map(Result::unwrap)
            .map(|(n, value)| (n.checked_sub(1).map_or(PartId::Request, PartId::Step), Bytes::from(value)));
        let response = response.map(|response| (PartId::Response, response.into()));
        Pieces { head: head.into(), parts: parts.chain(response).collect() }
    }

    fn put(&self, key: &Key, pieces: &Pieces) {
        let mut file = self.file.lock().unwrap();
        let write = file.transaction().unwrap();
        let row = "SELECT id, version, status, created, written, due, attempts, holder FROM records WHERE key = ?1";
        let columns: Vec<i64> =
            write.query_row(row, [key.as_bytes().as_slice()], |row| (0..8).map(|at| row.get(at)).collect()).unwrap();
        let steps = pieces.parts.keys().filter(|id| matches!(id, PartId::Step(_))).count() as u64;
        let request = u64::from(pieces.parts.contains_key(&PartId::Request));
        let response = pieces.parts.get(&PartId::Response);
        let response_hash = response.map_or(0, |response| (xxh3_64(response) & MASK).max(1));
        let mut numbers = vec![1];
        numbers.extend(columns[1..].iter().map(|column| column.cast_unsigned()));
        numbers.extend([steps, request, response_hash, xxh3_64(&pieces.head)]);
        let update = "UPDATE records SET head = ?1, response = ?2, steps = ?3, request = ?4, response_hash = ?5, \
            hash = ?6 WHERE id = ?7";
        let cells = params![
            &*pieces.head,
            response.map(|response| response.to_vec()),
            steps.cast_signed(),
            request.cast_signed(),
            response_hash.cast_signed(),
            row_hash(key, &numbers),
            columns[0]
        ];
        write.execute(update, cells).unwrap();
        write.execute("DELETE FROM parts WHERE record = ?1", [columns[0]]).unwrap();
        for (n, value) in pieces.parts.iter().filter_map(|(id, value)| Some((number(*id)?, value))) {
            let hash = row_hash(key, &[n.into(), xxh3_64(value)]);
            let insert = "INSERT INTO parts (record, n, value, hash) VALUES (?1, ?2, ?3, ?4)";
            write.execute(insert, params![columns[0], n, &**value, hash]).unwrap();
        }
        write.commit().unwrap();
    }
}
