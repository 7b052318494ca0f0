//! Transactions on connections of the store's own, with rusqlite.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use ::rusqlite::hooks::{Action, AuthAction, AuthContext, Authorization};
use ::rusqlite::types::Value;
use ::rusqlite::{Connection, ErrorCode, InterruptHandle, ffi, params_from_iter};
use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::driver::{Failed, NotBegun, Open, SqliteDriver, Statement};
use super::state::State;
use crate::store::contract::{StoreError, StoreErrorKind};
use crate::store::sqlite::store::SqliteStore;
use crate::util::signal::lock;

/// Transactions on connections of the store's own: see [`SqliteStore::transactions`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Rusqlite;

/// How often a query is interrupted whose step was dropped: it may be one of many.
const INTERRUPTS: Duration = Duration::from_millis(1);

/// What the work in a transaction gets: queries go through [`call`](Self::call).
/// Dropped, the transaction is rolled back.
pub struct SqliteTransaction(Place);

enum Place {
    Here(Held),
    /// On a thread that runs queries, which gives it back.
    Away(oneshot::Receiver<Held>, Arc<State>, Arc<InterruptHandle>),
    Gone,
}

/// A connection with its transaction.
struct Held {
    /// Taken when the transaction is over and the connection may be used again.
    connection: Connection,
    interrupt: Arc<InterruptHandle>,
    /// Goes last: it says that the lock is free.
    open: Open,
}

impl SqliteTransaction {
    /// Runs queries in the transaction, on a thread that may block, and gives what
    /// `queries` gives.
    ///
    /// For queries only: whatever else blocks there can't be interrupted, and keeps
    /// the database's write lock.
    ///
    /// It can't be committed or rolled back here, other than to savepoints: a
    /// `COMMIT` is an error, and whatever ends the transaction has the step fail
    /// with nothing done.
    ///
    /// # Errors
    ///
    /// What `queries` gives; or that the transaction is over.
    ///
    /// # Panics
    ///
    /// If `queries` does. The transaction is rolled back.
    ///
    /// # Cancellation
    ///
    /// Dropped on the way, the query that runs is interrupted.
    pub async fn call<T, F>(&mut self, queries: F) -> ::rusqlite::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> ::rusqlite::Result<T> + Send + 'static,
    {
        let over = || {
            let message = Some("the transaction is over".to_owned());
            ::rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), message)
        };
        let Some(mut held) = self.take().await else { return Err(over()) };
        let (back, away) = oneshot::channel();
        self.0 = Place::Away(away, Arc::clone(&held.open.state), Arc::clone(&held.interrupt));
        let interrupting = Interrupting(Some((Arc::clone(&held.open.state), Arc::clone(&held.interrupt))));
        let done = spawn_blocking(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| queries(&mut held.connection)));
            if outcome.is_ok() {
                // If the step was dropped, it goes here: it is closed, and so rolled back.
                let _ = back.send(held);
            }
            outcome
        });
        let done = done.await;
        interrupting.over();
        if let Some(held) = self.take().await {
            self.0 = Place::Here(held);
        }
        match done {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => resume_unwind(panic),
            // The runtime is being shut down.
            Err(_) => Err(over()),
        }
    }

    /// The connection, once it is back; then this is over.
    async fn take(&mut self) -> Option<Held> {
        match &mut self.0 {
            Place::Here(_) => {}
            Place::Away(away, ..) => {
                let back = away.await;
                self.0 = back.map_or(Place::Gone, Place::Here);
            }
            Place::Gone => return None,
        }
        match std::mem::replace(&mut self.0, Place::Gone) {
            Place::Here(held) => Some(held),
            Place::Away(..) | Place::Gone => None,
        }
    }
}

/// Interrupts the query of a call that is dropped.
struct Interrupting(Option<(Arc<State>, Arc<InterruptHandle>)>);

impl Interrupting {
    fn over(mut self) {
        self.0 = None;
    }
}

impl Drop for Interrupting {
    fn drop(&mut self) {
        if let Some((state, interrupt)) = &self.0 {
            state.give_up();
            interrupt.interrupt();
        }
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, Place::Gone) {
            Place::Gone => {}
            place => match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(end(place))),
                // Closed here, or by the thread that has it.
                Err(_) => drop(place),
            },
        }
    }
}

/// Rolls back, as soon as the connection is there.
async fn end(place: Place) {
    let held = match place {
        Place::Here(held) => held,
        Place::Gone => return,
        Place::Away(mut back, state, interrupt) => {
            state.give_up();
            loop {
                tokio::select! {
                    biased;
                    held = &mut back => match held {
                        Ok(held) => break held,
                        Err(_) => return,
                    },
                    // Between two queries there is nothing to interrupt.
                    () = sleep(INTERRUPTS) => interrupt.interrupt(),
                }
            }
        }
    };
    let _ = spawn_blocking(move || held.roll_back()).await;
}

impl Held {
    fn roll_back(self) {
        let over = self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        if over {
            self.keep();
        }
    }

    /// For the next transaction, unless the library says that something is wrong.
    fn keep(self) {
        let Self { connection, open, .. } = self;
        if connection.is_autocommit() && !connection.is_busy() && !open.state.is_unfit() {
            *lock(&open.store.0.idle) = Some(connection);
        }
    }

    fn run(&self, statements: &[Statement]) -> Result<Vec<Vec<Value>>, Failed> {
        // Each would commit by itself. Its hooks tell of an end as well, unless the work
        // took them away, or put another connection in its place.
        if self.connection.is_autocommit() {
            return Err(Failed::over());
        }
        let mut found = Vec::new();
        for (sql, bound) in statements {
            let mut statement = self.connection.prepare(sql)?;
            let columns = statement.column_count();
            let mut rows = statement.query(params_from_iter(bound))?;
            found.clear();
            while let Some(row) = rows.next()? {
                found.push((0..columns).map(|column| value(row, column)).collect::<Result<_, _>>()?);
            }
        }
        Ok(found)
    }
}

/// A path may be no text.
fn value(row: &::rusqlite::Row<'_>, column: usize) -> ::rusqlite::Result<Value> {
    let value = row.get_ref(column)?;
    match value {
        ::rusqlite::types::ValueRef::Text(text) if str::from_utf8(text).is_err() => Ok(Value::Blob(text.to_vec())),
        value => value.try_into().map_err(|_| ::rusqlite::Error::InvalidQuery),
    }
}

#[async_trait]
impl SqliteDriver for Rusqlite {
    // Boxed: it goes back and forth while others have the lock.
    type Idle = Box<Connection>;
    type Transaction = SqliteTransaction;
    type Handle = SqliteTransaction;

    async fn connect(&self, store: &SqliteStore) -> Result<Box<Connection>, StoreError> {
        if let Some(idle) = lock(&store.0.idle).take() {
            return Ok(Box::new(idle));
        }
        let store = store.clone();
        let connection = spawn_blocking(move || {
            store.0.shared.guard.check()?;
            store
                .0
                .shared
                .place
                .for_transactions()
                .map(Box::new)
                .map_err(|error| Failed::from(error).into_store_error())
        });
        connection.await.unwrap_or_else(|_| Err(ends()))
    }

    async fn begin(idle: Box<Connection>, open: Open) -> Result<SqliteTransaction, NotBegun<Box<Connection>>> {
        let begun = spawn_blocking(move || {
            if let Err(error) = watch(&idle, &open.state) {
                return Err(NotBegun::Failed(error.into()));
            }
            match idle.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => Ok(Held { interrupt: Arc::new(idle.get_interrupt_handle()), connection: *idle, open }),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                    Err(NotBegun::Busy(idle, error.into()))
                }
                Err(error) => Err(NotBegun::Failed(error.into())),
            }
        });
        let held = begun.await.unwrap_or_else(|_| Err(NotBegun::Failed(Failed::over())))?;
        Ok(SqliteTransaction(Place::Here(held)))
    }

    fn handle(transaction: &mut SqliteTransaction) -> Option<&mut SqliteTransaction> {
        Some(transaction)
    }

    async fn run(transaction: &mut SqliteTransaction, statements: Vec<Statement>) -> Result<Vec<Vec<Value>>, Failed> {
        let Some(held) = transaction.take().await else { return Err(Failed::over()) };
        let ran = spawn_blocking(move || {
            let rows = held.run(&statements);
            (held, rows)
        });
        let (held, rows) = ran.await.map_err(|_| Failed::over())?;
        transaction.0 = Place::Here(held);
        rows
    }

    async fn commit(mut transaction: SqliteTransaction) -> Result<(), Failed> {
        let Some(held) = transaction.take().await else { return Err(Failed::over()) };
        let committed = spawn_blocking(move || {
            // Not kept if it fails: it is closed, and so rolled back.
            held.connection.execute_batch("COMMIT")?;
            held.keep();
            Ok(())
        });
        committed.await.map_err(|_| Failed::over())?
    }

    async fn roll_back(mut transaction: SqliteTransaction) {
        end(std::mem::replace(&mut transaction.0, Place::Gone)).await;
    }
}

/// Has the library tell what becomes of the transaction, and undoes what the one
/// before may have set.
fn watch(connection: &Connection, state: &Arc<State>) -> ::rusqlite::Result<()> {
    connection.busy_timeout(Duration::ZERO)?;
    connection.progress_handler(0, None::<fn() -> bool>)?;
    connection.update_hook(None::<fn(Action, &str, &str, i64)>)?;
    let [commits, rolls_back, changes] = std::array::from_fn(|_| Arc::clone(state));
    connection.commit_hook(Some(move || !commits.may_commit()))?;
    connection.rollback_hook(Some(move || rolls_back.set_rolled_back()))?;
    connection.authorizer(Some(move |asked: AuthContext<'_>| {
        if outlives_the_transaction(&asked.action) {
            changes.set_unfit();
        }
        Authorization::Allow
    }))
}

/// Whether it changes the connection, and not the database: the next transaction is
/// not to find it.
const fn outlives_the_transaction(action: &AuthAction<'_>) -> bool {
    matches!(
        action,
        AuthAction::Attach { .. }
            | AuthAction::CreateTempIndex { .. }
            | AuthAction::CreateTempTable { .. }
            | AuthAction::CreateTempTrigger { .. }
            | AuthAction::CreateTempView { .. }
            | AuthAction::Pragma { pragma_value: Some(_), .. }
    )
}

fn ends() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the async runtime is being shut down")
}

impl fmt::Debug for SqliteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteTransaction").finish_non_exhaustive()
    }
}
