//! What a store does when it opens, before anyone can ask it anything.

use fjall::OwnedWriteBatch;

use super::engine::Engine;
use super::index::{Index, Unfinished};
use super::layout::{Columns, value};
use crate::clock::Clock;
use crate::core::{Key, Record};
use crate::nonce::fresh_nonce;

const BATCH: usize = 1024;

/// Finds the unfinished records, and frees them: whoever held them is dead,
/// since nobody else can have the store open.
pub(super) fn recover(engine: &Engine, clock: &dyn Clock) -> fjall::Result<Index> {
    let mut index = Index::default();
    let snapshot = engine.snapshot();
    let mut writes = engine.batch();
    for entry in engine.open.iter() {
        let (key, value) = entry.into_inner()?;
        let Some(key) = key.as_ref().try_into().ok().map(Key::from_bytes) else { continue };
        match engine.unfinished(&snapshot, &key, &value)? {
            Ok(record) => index.set(key, Some(free(engine, &mut writes, &key, record, clock))),
            Err(why) => index.set_unreadable(key, why),
        }
        if writes.len() >= BATCH {
            std::mem::replace(&mut writes, engine.batch()).commit()?;
        }
    }
    writes.commit()?;
    Ok(index)
}

fn free(engine: &Engine, writes: &mut OwnedWriteBatch, key: &Key, record: Record, clock: &dyn Clock) -> Unfinished {
    let found = (record.version(), record.written_at());
    let record = record.orphaned(fresh_nonce());
    let now = clock.now();
    // The clock went back meanwhile. What is to rest must not rest until it has
    // caught up.
    let record = if record.written_at() > now { record.stamped(now) } else { record };
    let written = record.written_at();
    let columns = Columns {
        status: record.filed_under(),
        version: record.version(),
        created: record.created_at().unwrap_or(written),
        written,
        due: record.due(),
    };
    if (record.version(), written) != found {
        let mut value = value(&record.encode());
        columns.fill(&mut value);
        writes.insert(&engine.open, key.as_bytes().as_slice(), value.as_slice());
    }
    let steps = u32::try_from(record.steps().len()).unwrap_or(u32::MAX);
    Unfinished { columns, request: record.request().is_some(), steps }
}
