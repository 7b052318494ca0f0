//! Steps whose rows and recovery point commit together.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::StepError;
use super::handle::Operation;
use super::input::{self, Input};
use super::result;
use super::shared::StepUse;
use crate::core::{Change, Point, Start, StoredResponse};
use crate::engine::attempt::Attempt;
use crate::engine::attempt::transaction::{Begun, NotCommitted};
use crate::store::EnlistedDatabase;
use crate::telemetry::event::EventKind;

/// What the work of a transaction returns: `Box::pin(async move { … })`.
pub type TransactionFuture<'t, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

type Running<'a, T, E> = TransactionFuture<'a, T, StepError<E>>;
/// What a step depends on, if that is set: an error if it can't be JSON.
type Given = serde_json::Result<Option<Input>>;
/// Starts a step, given that.
type Begin<'a, T, E> = Box<dyn FnOnce(Given) -> Running<'a, T, E> + Send + 'a>;

/// A step in a transaction: set more about it, then `.await` it.
///
/// Lazy: nothing happens before it is polled. Made by
/// [`Operation::transaction`].
#[must_use = "a step does nothing unless it is awaited"]
pub struct TransactionStep<'a, T, E> {
    start: Option<Begin<'a, T, E>>,
    input: Given,
    running: Option<Running<'a, T, E>>,
}

impl<T, E> TransactionStep<'_, T, E> {
    /// What this step depends on; must be JSON. The same as for
    /// [any step](super::StepFuture::input), with the same caveats: for an input that JSON
    /// can't carry the step fails with [`StepError::Unreadable`], and no transaction begins.
    pub fn input<I: Serialize + ?Sized>(mut self, input: &I) -> Self {
        self.input = Input::of(input).map(Some);
        self
    }
}

impl<T, E> Future for TransactionStep<'_, T, E> {
    type Output = Result<T, StepError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(start) = self.start.take() {
            let input = std::mem::replace(&mut self.input, Ok(None));
            self.running = Some(start(input));
        }
        match &mut self.running {
            Some(running) => running.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<T, E> fmt::Debug for TransactionStep<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionStep").field("input", &self.input.as_ref().ok()).finish_non_exhaustive()
    }
}

impl Operation {
    /// Runs `work` in a transaction that carries this step's recovery point, or
    /// gives the result of an earlier attempt: the rows and the step's result commit
    /// together, once, or not at all.
    ///
    /// `work` gets the driver's connection inside the transaction, and leaves
    /// it open. Its result must survive a round trip through JSON; if the result can't be
    /// read back, the transaction is rolled back. This covers only the
    /// rows that `work` writes there: if the transaction runs again, so does a call to
    /// another service.
    ///
    /// On Postgres:
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")] mod shop {
    /// use tower_idempotency::{Operation, StepError};
    /// use tower_idempotency::store::PostgresStore;
    /// use tower_idempotency::store::postgres::Enlisted;
    /// use deadpool_postgres::Pool;
    ///
    /// async fn order(op: Operation, shop: Enlisted<Pool>, item: String) -> Result<i64, StepError<tokio_postgres::Error>> {
    ///     op.transaction(&shop, "order", move |tx| Box::pin(async move {
    ///         let row = tx.query_one("INSERT INTO orders (item) VALUES ($1) RETURNING id", &[&item]).await?;
    ///         Ok(row.get(0))
    ///     })).await
    /// }
    /// # }
    /// ```
    ///
    /// On SQLite, with rusqlite (with sqlx, the closure gets a `SqliteConnection`):
    ///
    /// ```no_run
    /// # #[cfg(feature = "sqlite")] mod shop {
    /// use tower_idempotency::{Operation, StepError};
    /// use tower_idempotency::store::sqlite::SqliteEnlisted;
    ///
    /// async fn order(op: Operation, shop: SqliteEnlisted, item: String) -> Result<i64, StepError<rusqlite::Error>> {
    ///     op.transaction(&shop, "order", move |tx| Box::pin(async move {
    ///         tx.call(move |db| {
    ///             let order = "INSERT INTO orders (item) VALUES (?1) RETURNING id";
    ///             db.query_row(order, [item], |row| row.get(0))
    ///         }).await
    ///     })).await
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StepError`]. If `work` fails, its transaction is rolled back. It is also rolled back
    /// for [`StepError::RolledBack`] and [`StepError::Lost`]. With
    /// [`StepError::Store`] the layer does not know yet, and the next attempt finds out.
    ///
    /// # Cancellation
    ///
    /// If you drop the future before `work` is done, the transaction is rolled back. After that
    /// it commits.
    ///
    /// # Caveats
    ///
    /// - Do not commit or roll back inside `work`, other than to savepoints;
    ///   if you do, the step fails. On Postgres the rows that you committed stay; SQLite
    ///   refuses the commit.
    /// - The step holds a connection while `work` runs; it waits for one for up to 5
    ///   seconds, or as long as its pool waits: 2 seconds with deadpool.
    ///
    /// On Postgres:
    ///
    /// - The holder renews its lease meanwhile, on the store's connections.
    /// - `work` itself has no limit. If your database can stop responding, put a
    ///   [`timeout`](tokio::time::timeout) around this.
    /// - The isolation level is the database's default, or what `work` sets with
    ///   `SET TRANSACTION` before anything else. Above READ COMMITTED, `work` has
    ///   less than a third of the lease: a renewal would be a change that the
    ///   transaction does not see, and the database then rolls it back.
    ///
    /// On SQLite:
    ///
    /// - The transaction has the database's only write lock: it is rolled back after
    ///   5 seconds, a third of the lease, or a third of the shortest lease of others
    ///   that is about to end. Renewals wait, and are in time.
    /// - `work` can store nothing else of the operation: that would wait for itself.
    /// - It may take up to 6 seconds to begin; it waits no longer for a transaction that an
    ///   operator has open in a shell.
    pub fn transaction<'a, D, T, E, F>(
        &self,
        database: &D,
        name: impl Into<String>,
        work: F,
    ) -> TransactionStep<'a, T, E>
    where
        D: EnlistedDatabase,
        T: Serialize + DeserializeOwned + Send + Sync + 'a,
        E: Send + 'a,
        F: for<'t> FnOnce(&'t mut D::Handle) -> TransactionFuture<'t, T, E> + Send + 'a,
    {
        let (operation, database, step) = (self.clone(), database.clone(), name.into());
        TransactionStep {
            start: Some(Box::new(move |input| {
                Box::pin(async move { operation.commit_step(&database, step, input, work).await })
            })),
            input: Ok(None),
            running: None,
        }
    }

    async fn commit_step<D, T, E, F>(
        &self,
        database: &D,
        step: String,
        input: Given,
        work: F,
    ) -> Result<T, StepError<E>>
    where
        D: EnlistedDatabase,
        T: Serialize + DeserializeOwned + Send + Sync,
        E: Send,
        F: for<'t> FnOnce(&'t mut D::Handle) -> TransactionFuture<'t, T, E> + Send,
    {
        let attempt = Arc::clone(&self.attempt);
        self.check(Start::Reach, &step)?;
        // Before the step counts as one that the attempt came to.
        let input = match input {
            Ok(input) => input,
            Err(source) => return Err(StepError::Unreadable { step, source }),
        };
        let Some(mut taken) = self.take_name(&step) else { return Err(StepError::Duplicate { step }) };
        input::check(&attempt, &step, input)?;
        if let Some(Point::Saved(value)) = taken.point() {
            taken.on_drop = StepUse::Stored;
            attempt.emit(|| EventKind::StepReplayed { step: step.clone() });
            return serde_json::from_slice(&value).map_err(|source| StepError::Unreadable { step, source });
        }
        self.check(Start::Act, &step)?;
        let (value, begun) = match run(&attempt, database, work).await {
            Ok(run) => run,
            Err(error) => {
                attempt.step_failed(&step, error.line());
                return Err(error);
            }
        };
        let (bytes, unreadable) = result::to_bytes(&value);
        if let Some(source) = unreadable {
            // Not done at all is better than done and unreadable.
            D::roll_back(begun.transaction).await;
            return Err(StepError::Unreadable { step, source });
        }
        // From here on it commits, whether or not the handler waits for it.
        taken.on_drop = StepUse::Stored;
        let mut changes = vec![Change::Save { step: step.as_str().into(), value: bytes }];
        changes.extend(input.map(|input| Change::Input { step: step.as_str().into(), hash: input.hash }));
        if let Err(error) = attempt.commit(database, begun, changes).await {
            if matches!(error, NotCommitted::RolledBack(_)) {
                taken.on_drop = StepUse::Again;
            }
            return Err(not_committed(error, step));
        }
        attempt.emit(|| EventKind::StepSaved { step });
        Ok(value)
    }

    /// Runs `work` in a transaction that completes the operation: its rows and
    /// the response it returns commit together, once, or not at all.
    ///
    /// The client gets that response, whatever the handler does and
    /// returns afterwards, and so does every retry. The first client does not get those
    /// headers either that are not [stored](StoredResponse::capture). The operation can store
    /// nothing after this. The response has no trailers: for gRPC, put `grpc-status` among
    /// its headers and leave its body empty.
    ///
    /// A step in doubt prevents this. If the layer finds a step in doubt only
    /// while the transaction commits, that comes too late: the response stands, and the layer
    /// emits [`Parked`](crate::EventKind::Parked).
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction). [`StepError::InDoubt`] also if the
    /// response is a failure, 4xx, 5xx or one [of gRPC](crate::Outcome), and this attempt did
    /// not come to a step that an earlier one began or paid; if you mean that, put
    /// [`Outcome::Final`](crate::Outcome::Final) into the response's extensions.
    ///
    /// # Cancellation
    ///
    /// As for [`transaction`](Self::transaction).
    pub async fn complete<D, E, F>(&self, database: &D, work: F) -> Result<(), StepError<E>>
    where
        D: EnlistedDatabase,
        E: Send,
        F: for<'t> FnOnce(&'t mut D::Handle) -> TransactionFuture<'t, Response<Bytes>, E> + Send,
    {
        let attempt = Arc::clone(&self.attempt);
        self.check(Start::Act, "complete")?;
        let (response, begun) = run(&attempt, database, work).await?;
        let (parts, body) = response.into_parts();
        let response = Arc::new(StoredResponse::capture(parts.status, &parts.headers, Some(body)));
        let complete = attempt.complete(response, &parts.extensions);
        attempt
            .commit(database, begun, vec![complete])
            .await
            .map_err(|error| not_committed(error, "complete".into()))?;
        attempt.emit_left_out();
        attempt.emit(|| EventKind::Completed { status: parts.status.as_u16(), retained: true });
        Ok(())
    }
}

/// What `work` gave, and the transaction, still open.
async fn run<D, T, E, F>(attempt: &Arc<Attempt>, database: &D, work: F) -> Result<(T, Begun<D>), StepError<E>>
where
    D: EnlistedDatabase,
    T: Send,
    F: for<'t> FnOnce(&'t mut D::Handle) -> TransactionFuture<'t, T, E> + Send,
{
    let mut begun = attempt.begin(database).await.map_err(StepError::RolledBack)?;
    let limit = D::limit(&begun.transaction);
    let Some(handle) = D::handle(&mut begun.transaction) else { return Err(StepError::Lost) };
    let outcome = match limit {
        None => work(handle).await.map_err(StepError::Retry),
        Some(limit) => match timeout(limit.left(), work(handle)).await {
            Ok(outcome) => outcome.map_err(StepError::Retry),
            Err(_) => Err(StepError::RolledBack(limit.passed())),
        },
    };
    match outcome {
        Ok(value) => Ok((value, begun)),
        Err(error) => {
            D::roll_back(begun.transaction).await;
            Err(error)
        }
    }
}

fn not_committed<E>(error: NotCommitted, step: String) -> StepError<E> {
    match error {
        NotCommitted::Lost => StepError::Lost,
        NotCommitted::NotStarted(why) => StepError::not_started(why, &step),
        NotCommitted::RolledBack(error) => StepError::RolledBack(error),
        NotCommitted::Unknown(error) => StepError::Store(error),
    }
}
