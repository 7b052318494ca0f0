//! Writes that reach the disk together.

use std::collections::HashMap;
use std::sync::Mutex;

use fjall::{Keyspace, OwnedWriteBatch};
use tokio::sync::oneshot;

use super::engine::Engine;
use super::error::{failed, unreadable};
use super::index::{Index, Unfinished};
use super::layout::{Columns, Value, expiry_key, expiry_value, part_key};
use super::request::{Outcome, Put, Reply, Request};
use super::sweep::Sweep;
use crate::core::{Key, PartId, Timestamp, Version};
use crate::store::{Cursor, StoreError};
use crate::sync::lock;

const MAX_REQUESTS: usize = 1024;
const MAX_BYTES: usize = 8 << 20;

/// Holds at most one write to a key: within one batch, the engine can't tell
/// the earlier from the later one.
pub(super) struct Batch<'e> {
    engine: &'e Engine,
    index: &'e Mutex<Index>,
    now: Timestamp,
    writes: OwnedWriteBatch,
    bytes: usize,
    /// What will be at the keys that are written to.
    written: HashMap<Key, Option<Version>>,
    /// What the index will say of them.
    unfinished: Vec<(Key, Option<Unfinished>)>,
    expiring: Vec<Cursor>,
    replies: Vec<(oneshot::Sender<Reply>, Outcome)>,
}

/// What is at a key.
enum Current {
    Absent,
    Unfinished(Unfinished),
    Complete(Columns),
}

impl Current {
    const fn version(&self) -> Option<Version> {
        match self {
            Self::Absent => None,
            Self::Unfinished(Unfinished { columns, .. }) | Self::Complete(columns) => Some(columns.version),
        }
    }
}

impl<'e> Batch<'e> {
    pub(super) fn new(engine: &'e Engine, index: &'e Mutex<Index>, now: Timestamp) -> Self {
        Self {
            engine,
            index,
            now,
            writes: engine.batch(),
            bytes: 0,
            written: HashMap::new(),
            unfinished: Vec::new(),
            expiring: Vec::new(),
            replies: Vec::new(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.replies.len() >= MAX_REQUESTS || self.bytes >= MAX_BYTES
    }

    /// Adds a request. Gives it back if it has to wait for this batch.
    #[must_use]
    pub(super) fn add(&mut self, request: Request) -> Option<Request> {
        if let Some(&version) = self.written.get(&request.key) {
            if version == request.expected {
                return Some(request);
            }
            self.replies.push((request.reply, Outcome::Conflict));
            return None;
        }
        let current = match self.current(&request.key, request.expected) {
            Ok(current) => current,
            Err(error) => {
                // Whoever asked may have gone.
                let _ = request.reply.send(Err(error));
                return None;
            }
        };
        if current.version() != request.expected {
            self.replies.push((request.reply, Outcome::Conflict));
            return None;
        }
        self.written.insert(request.key, request.put.as_ref().map(|put| put.version));
        self.replies.push((request.reply, Outcome::Took));
        match request.put {
            Some(put) => self.put(request.key, &current, put),
            None => self.clear(request.key, &current, None),
        }
        None
    }

    /// What is at `key`. What is going to be replaced must also decode.
    fn current(&self, key: &Key, expected: Option<Version>) -> Result<Current, StoreError> {
        if let Some(unfinished) = lock(self.index).get(key)? {
            return Ok(Current::Unfinished(unfinished));
        }
        let Some(value) = self.engine.done.get(key.as_bytes()).map_err(unreadable)? else {
            return Ok(Current::Absent);
        };
        let value = Value::parse(&value)?;
        if Some(value.columns.version) == expected {
            value.complete()?;
        }
        Ok(Current::Complete(value.columns))
    }

    fn put(&mut self, key: Key, current: &Current, mut put: Put) {
        let created = match current {
            Current::Unfinished(old) => old.columns.created,
            // Only what is being acknowledged is completed twice.
            Current::Complete(old) if put.is_complete() => old.created,
            Current::Absent | Current::Complete(_) => self.now,
        };
        let due = self.now.after(put.term);
        let columns = Columns { status: put.status, version: put.version, created, written: self.now, due };
        columns.fill(&mut put.value);
        self.clear(key, current, Some((&columns, &put)));
        if put.is_complete() {
            self.insert(&self.engine.done, key.as_bytes(), &put.value);
            self.insert(&self.engine.expiry, &expiry_key(due, &key), &expiry_value(&columns));
            self.expiring.push(Cursor { due, key });
            return;
        }
        self.insert(&self.engine.open, key.as_bytes(), &put.value);
        for (id, bytes) in put.fresh {
            self.bytes += bytes.len();
            self.writes.insert(&self.engine.parts, part_key(&key, id), bytes);
        }
        let unfinished = Unfinished { columns, request: put.request, steps: put.steps };
        self.unfinished.push((key, Some(unfinished)));
    }

    /// Removes what is there and will not be overwritten by `next`.
    fn clear(&mut self, key: Key, current: &Current, next: Option<(&Columns, &Put)>) {
        let becomes_complete = next.is_some_and(|(_, put)| put.is_complete());
        let becomes_unfinished = next.is_some_and(|(_, put)| !put.is_complete());
        match current {
            Current::Absent => {}
            Current::Complete(old) => {
                if !becomes_complete {
                    self.writes.remove(&self.engine.done, key.as_bytes());
                }
                if !(becomes_complete && next.is_some_and(|(columns, _)| columns.due == old.due)) {
                    self.writes.remove(&self.engine.expiry, expiry_key(old.due, &key));
                }
            }
            Current::Unfinished(old) => {
                let next = next.map(|(_, put)| put).filter(|_| becomes_unfinished);
                if next.is_none() {
                    self.writes.remove(&self.engine.open, key.as_bytes());
                    self.unfinished.push((key, None));
                }
                self.clear_parts(key, old, next);
            }
        }
    }

    /// Removes the parts of `old` that `next` no longer has.
    fn clear_parts(&mut self, key: Key, old: &Unfinished, next: Option<&Put>) {
        if old.request && !next.is_some_and(|next| next.request) {
            self.writes.remove(&self.engine.parts, part_key(&key, PartId::Request));
        }
        for step in next.map_or(0, |next| next.steps)..old.steps {
            self.writes.remove(&self.engine.parts, part_key(&key, PartId::Step(step)));
        }
    }

    fn insert(&mut self, keyspace: &'e Keyspace, key: &[u8], value: &[u8]) {
        self.bytes += value.len();
        self.writes.insert(keyspace, key, value);
    }

    /// Lets some of the complete records that have expired go with this batch.
    pub(super) fn sweep(&mut self, sweep: &mut Sweep) {
        // More than can complete in one batch, or the store would grow.
        let limit = 32.max(2 * self.replies.len());
        for Cursor { due, key } in sweep.take(self.engine, self.now, limit) {
            if !self.written.contains_key(&key) {
                self.writes.remove(&self.engine.done, key.as_bytes());
                self.writes.remove(&self.engine.expiry, expiry_key(due, &key));
            }
        }
    }

    /// Returns once everything is on the disk and everyone knows.
    pub(super) fn commit(self, sweep: &mut Sweep) -> Result<(), Failed> {
        #[cfg(test)]
        self.engine.written.fetch_add(self.bytes, std::sync::atomic::Ordering::Relaxed);
        if let Err(error) = self.writes.commit() {
            return Err(Failed { error: failed(error), waiting: self.replies });
        }
        let mut index = lock(self.index);
        self.unfinished.into_iter().for_each(|(key, unfinished)| index.set(key, unfinished));
        drop(index);
        self.expiring.into_iter().for_each(|record| sweep.await_expiry(record));
        for (reply, outcome) in self.replies {
            let _ = reply.send(Ok(outcome));
        }
        Ok(())
    }
}

/// A batch of which nobody knows whether it is on the disk.
pub(super) struct Failed {
    pub(super) error: StoreError,
    waiting: Vec<(oneshot::Sender<Reply>, Outcome)>,
}

impl Failed {
    pub(super) fn tell(self) {
        for (reply, _) in self.waiting {
            let _ = reply.send(Err(self.error.clone()));
        }
    }
}
