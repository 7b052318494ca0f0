//! Records in a SQLite database of this machine.

mod batch;
mod buckets;
mod checkpoint;
mod clock;
mod connection;
mod durability;
mod error;
mod evidence;
mod files;
mod inspect;
mod open;
mod options;
mod orphans;
mod owner;
mod reader;
mod request;
mod row;
mod scan;
mod schema;
mod shared;
mod version;
mod wal;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::oneshot;

pub use self::error::{SqliteOpenError, SqliteOpenErrorKind};
pub use self::options::SqliteStoreOptions;

use self::owner::{Dead, Other};
use self::reader::{Reader, Tasks};
use self::request::{Outcome, Request, Write};
use self::row::{Put, Stored};
use self::shared::Shared;
use self::writer::{Writer, unanswered};
use super::{Durability, Filter, Loaded, Page, Query, Store, StoreError, Swap};
use crate::core::{Key, Record, Version};
use crate::sync::lock;

/// How many threads read.
const READERS: usize = 2;
/// A store that was alive so recently is not asked again.
const ALIVE: Duration = Duration::from_millis(20);

/// Keeps records in a SQLite database, through crashes and power loss. For any
/// number of processes of one machine.
#[derive(Clone)]
pub struct SqliteStore(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    tasks: Arc<Tasks>,
    /// Taken when the last handle goes, which ends the writer.
    requests: Option<Sender<Request>>,
    writer: Option<JoinHandle<Option<Connection>>>,
    others: Vec<JoinHandle<()>>,
    /// Stores that were alive, and when.
    alive: Mutex<HashMap<i64, Instant>>,
}

impl SqliteStore {
    /// Opens the store in the database file `path`. Creates it if there is nothing:
    /// readable by this user only, and directories above it that are missing, too.
    ///
    /// Does blocking I/O: up to a few seconds after a crash.
    ///
    /// # Errors
    ///
    /// [`SqliteOpenError`] if there is something else at the path, or if what was
    /// acknowledged is not all there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SqliteOpenError> {
        Self::options().open(path)
    }

    /// To set something other than the path.
    pub const fn options() -> SqliteStoreOptions {
        SqliteStoreOptions::new()
    }

    fn open_with(options: SqliteStoreOptions, path: &Path) -> Result<Self, SqliteOpenError> {
        let (shared, connection) = open::open(&options, path)?;
        let shared = Arc::new(shared);
        let (requests, waiting) = mpsc::channel();
        let mut handle = Handle {
            shared: Arc::clone(&shared),
            tasks: Arc::default(),
            requests: Some(requests),
            writer: None,
            others: Vec::new(),
            alive: Mutex::default(),
        };
        // From here on, dropping the handle closes what was opened.
        let writer = Writer { shared, requests: waiting, held_back: None };
        let io = |error| SqliteOpenError::io(path, error);
        handle.writer = Some(spawn("idempotency-writer", move || writer.run(connection)).map_err(io)?);
        handle.start(path)?;
        Ok(Self(Arc::new(handle)))
    }

    /// Does one write. Of a conflict, what is there; its parts may be missing.
    async fn write(&self, key: &Key, expected: Option<Version>, put: Option<Put>) -> Result<Outcome, StoreError> {
        self.0.shared.guard.check_process()?;
        let (reply, answer) = oneshot::channel();
        self.0.ask(Request::Write(Write { key: *key, expected, put, reply }))?;
        answer.await.map_err(unanswered)?
    }

    /// Has a reader do this.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.shared.guard.check_process()?;
        let (reply, answer) = oneshot::channel();
        self.0.tasks.push(Box::new(move |reader| {
            // Whoever asked may have gone.
            let _ = reply.send(reader.and_then(work));
        }));
        answer.await.map_err(unanswered)?
    }

    async fn find(&self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let key = *key;
        self.read(move |reader| reader.load(&key)).await
    }

    /// Makes sure that "absent" is true of this key, if it is said.
    async fn trust(&self, key: &Key) -> Result<(), StoreError> {
        let buckets = &self.0.shared.buckets;
        if !buckets.is_known(key) {
            let key = *key;
            self.read(move |reader| reader.verify(&key)).await?;
        }
        Ok(())
    }

    /// What was found, with the time. If a dead store holds it, it is freed first.
    async fn loaded(&self, key: &Key, mut found: Option<Stored>) -> Result<Loaded, StoreError> {
        if self.is_held_by_the_dead(found.as_ref()).await? {
            found = self.find(key).await?;
        }
        let record = found.as_ref().map(Stored::record).transpose()?;
        // After the look: no record is newer than the time it comes with.
        Ok(Loaded { record, now: self.0.shared.clock.now() })
    }

    /// Whether the record was held by a store that is dead; then it is free by now.
    async fn is_held_by_the_dead(&self, found: Option<&Stored>) -> Result<bool, StoreError> {
        let shared = &self.0.shared;
        let Some(columns) = found.map(|found| found.columns) else { return Ok(false) };
        let holder = columns.holder;
        let live = row::time(columns.due) > shared.clock.now();
        if holder == 0 || holder == shared.owner.number() || !live || self.0.was_alive(holder) {
            return Ok(false);
        }
        let other = self.read(move |reader| Ok(owner::probe(&reader.shared.place.path, holder, &reader.shared.boot)));
        let Other::Dead(dead) = other.await? else { return Ok(false) };
        self.free(dead).await?;
        Ok(true)
    }

    async fn free(&self, dead: Dead) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.0.ask(Request::Free(dead, reply))?;
        answer.await.map_err(unanswered)?
    }

    /// Frees what all dead stores held.
    async fn free_all(&self) -> Result<(), StoreError> {
        let others = self.read(|reader| {
            let shared = &reader.shared;
            // Without descriptors for that, their leases are waited for.
            Ok(owner::others(&shared.place.path, &shared.boot, shared.owner.number()).unwrap_or_default())
        });
        for other in others.await? {
            if let Other::Dead(dead) = other {
                self.free(dead).await?;
            }
        }
        Ok(())
    }
}

impl Handle {
    /// Starts the threads beside the writer.
    fn start(&mut self, path: &Path) -> Result<(), SqliteOpenError> {
        let (io, engine) = (|error| SqliteOpenError::io(path, error), |error| SqliteOpenError::engine(path, error));
        for _ in 0..READERS {
            let connection = self.shared.place.reader().map_err(engine)?;
            let (tasks, shared) = (Arc::clone(&self.tasks), Arc::clone(&self.shared));
            let reader = spawn("idempotency-reader", move || tasks.run(&shared, connection));
            self.others.push(reader.map_err(io)?);
        }
        let connection = self.shared.place.checkpointer().map_err(engine)?;
        let (shared, requests) = (Arc::clone(&self.shared), self.requests.clone());
        let moves = spawn("idempotency-checkpoint", move || {
            if let Some(requests) = requests {
                Arc::clone(&shared.checkpoints).run(&shared.place, connection, &requests);
            }
        });
        self.others.push(moves.map_err(io)?);
        let connection = self.shared.place.reader().map_err(engine)?;
        let shared = Arc::clone(&self.shared);
        let verifies = spawn("idempotency-verify", move || shared.buckets.verify_all(&connection, &shared));
        self.others.push(verifies.map_err(io)?);
        Ok(())
    }

    fn ask(&self, request: Request) -> Result<(), StoreError> {
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        if sent { Ok(()) } else { Err(error::stopped()) }
    }

    /// Whether this store was asked, and alive, a moment ago; notes that it is asked
    /// now.
    fn was_alive(&self, holder: i64) -> bool {
        let (now, mut alive) = (Instant::now(), lock(&self.alive));
        alive.retain(|_, at| now.duration_since(*at) < ALIVE);
        let known = alive.contains_key(&holder);
        if !known {
            alive.insert(holder, now);
        }
        known
    }
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.shared.guard.is_at_home() {
            // A fork's copy: the threads, and what they hold, are the parent's.
            self.others.drain(..).for_each(std::mem::forget);
            self.writer.take().into_iter().for_each(std::mem::forget);
            return;
        }
        self.tasks.end();
        self.shared.checkpoints.end();
        for thread in self.others.drain(..) {
            // If it panicked, whoever waited has been told.
            let _ = thread.join();
        }
        drop(self.requests.take());
        if let Some(Ok(Some(connection))) = self.writer.take().map(JoinHandle::join) {
            open::close(&self.shared, connection);
        }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.shared.place.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self, key: &Key) -> Result<Loaded, StoreError> {
        let found = self.find(key).await?;
        self.loaded(key, found).await
    }

    async fn swap(&self, key: &Key, expected: Option<Version>, next: &Record) -> Result<Swap, StoreError> {
        if expected.is_none() {
            self.trust(key).await?;
        }
        match self.write(key, expected, Some(Put::new(key, next))).await? {
            Outcome::Took => Ok(Swap::Stored),
            Outcome::Conflict(None) => {
                self.trust(key).await?;
                self.0.shared.buckets.trust(key)?;
                self.loaded(key, None).await.map(Swap::Conflict)
            }
            Outcome::Conflict(found) => self.loaded(key, found).await.map(Swap::Conflict),
        }
    }

    async fn remove(&self, key: &Key, expected: Version) -> Result<bool, StoreError> {
        match self.write(key, Some(expected), None).await? {
            Outcome::Took => Ok(true),
            Outcome::Conflict(Some(_)) => Ok(false),
            Outcome::Conflict(None) => {
                self.trust(key).await?;
                self.0.shared.buckets.trust(key)?;
                Ok(false)
            }
        }
    }

    async fn scan(&self, query: &Query) -> Result<Page, StoreError> {
        if query.filter == Filter::Lapsed && query.after.is_none() {
            self.free_all().await?;
        }
        let query = query.clone();
        self.read(move |reader| {
            let now = reader.shared.clock.now();
            reader.scan(&query, now).map_err(|fault| reader.told(fault))
        })
        .await
    }

    /// Power loss, if the disk is honest.
    async fn durability(&self) -> Result<Durability, StoreError> {
        self.0.shared.guard.check_process()?;
        let (reply, answer) = oneshot::channel();
        self.0.ask(Request::Durability(reply))?;
        answer.await.map_err(unanswered)?
    }
}
