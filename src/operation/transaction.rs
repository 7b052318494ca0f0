//! Steps whose rows and recovery point commit together.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Operation, StepError, Used};
use crate::attempt::{Attempt, NotCommitted};
use crate::core::{Change, Point, StoredResponse};
use crate::event::EventKind;
use crate::store::{Joined, TransactionDriver};

/// What the work of a transaction returns: `Box::pin(async move { … })`.
pub type TransactionFuture<'t, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

impl Operation {
    /// Runs `work` in a transaction that carries this step's recovery point, or
    /// gives the result it had: its rows and the step's result commit
    /// together, once, or not at all.
    ///
    /// `work` gets the driver's connection inside the transaction, and leaves
    /// it open. Its result must survive a round trip through JSON. Only the
    /// rows it writes there are covered: a call to someone else is made again
    /// if the transaction is.
    ///
    /// ```no_run
    /// use tower_idempotency::{Operation, StepError};
    /// use tower_idempotency::store::{Joined, PostgresStore};
    /// use deadpool_postgres::Pool;
    ///
    /// async fn order(op: Operation, shop: Joined<Pool>, item: String) -> Result<i64, StepError<tokio_postgres::Error>> {
    ///     op.transaction(&shop, "order", move |tx| Box::pin(async move {
    ///         let row = tx.query_one("INSERT INTO orders (item) VALUES ($1) RETURNING id", &[&item]).await?;
    ///         Ok(row.get(0))
    ///     })).await
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StepError`]. If `work` fails, its transaction is rolled back. So it is
    /// where [`StepError::RolledBack`] and [`StepError::Lost`] come from. With
    /// [`StepError::Store`] nobody knows yet, and the next attempt finds it out.
    ///
    /// # Cancellation
    ///
    /// Dropped before `work` is done, it is rolled back. After that it commits.
    ///
    /// # Caveats
    ///
    /// - Nothing may commit or roll back inside `work`, other than to savepoints;
    ///   if something does, the step fails, and what was committed stays.
    /// - A connection is held while `work` runs; it is waited for up to 5
    ///   seconds. Renewals go on meanwhile, on connections of the store.
    /// - The isolation level is the database's default, or what `work` sets with
    ///   `SET TRANSACTION` before anything else. Above READ COMMITTED, `work` has
    ///   less than a third of the lease: a renewal would be a change that the
    ///   transaction does not see, and it is then rolled back.
    pub async fn transaction<D, T, E, F>(
        &self,
        database: &Joined<D>,
        name: impl Into<String> + Send,
        work: F,
    ) -> Result<T, StepError<E>>
    where
        D: TransactionDriver,
        T: Serialize + DeserializeOwned + Send + Sync,
        E: Send,
        F: for<'t> FnOnce(&'t mut D::Handle) -> TransactionFuture<'t, T, E> + Send,
    {
        let step: String = name.into();
        let attempt = Arc::clone(self.attempt_handle());
        if attempt.has_ended() {
            return Err(StepError::Lost);
        }
        let Some(mut taken) = self.take_name(&step) else { return Err(StepError::Duplicate { step }) };
        if let Some(Point::Saved(value)) = taken.point() {
            taken.becomes = Used::Stored;
            attempt.emit(|| EventKind::StepReplayed { step: step.clone() });
            return serde_json::from_slice(&value).map_err(|source| StepError::Unreadable { step, source });
        }
        unless_parked(&attempt)?;
        if self.is_undoing() {
            return Err(StepError::Undoing { step });
        }
        let (value, transaction) = run(database, work).await?;
        let bytes = match serde_json::to_vec(&value) {
            Ok(bytes) => Bytes::from(bytes),
            Err(source) => {
                Joined::<D>::roll_back(transaction).await;
                return Err(StepError::Unreadable { step, source });
            }
        };
        // From here on it commits, whether or not anyone waits for it.
        taken.becomes = Used::Stored;
        let save = Change::Save { step: step.as_str().into(), value: bytes };
        if let Err(error) = attempt.commit(database, transaction, save).await {
            if matches!(error, NotCommitted::RolledBack(_)) {
                taken.becomes = Used::Again;
            }
            return Err(error.into());
        }
        attempt.emit(|| EventKind::StepSaved { step });
        Ok(value)
    }

    /// Runs `work` in a transaction that completes the operation: its rows and
    /// the answer it returns commit together, once, or not at all.
    ///
    /// That answer is the one the client gets, whatever the handler does and
    /// returns afterwards, and the one that every retry gets. Of its headers,
    /// those that are not [stored](StoredResponse::capture) are not given to
    /// the first client either. Nothing can be stored under the operation after
    /// it.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    ///
    /// # Cancellation
    ///
    /// As there.
    pub async fn complete<D, E, F>(&self, database: &Joined<D>, work: F) -> Result<(), StepError<E>>
    where
        D: TransactionDriver,
        E: Send,
        F: for<'t> FnOnce(&'t mut D::Handle) -> TransactionFuture<'t, Response<Bytes>, E> + Send,
    {
        let attempt = Arc::clone(self.attempt_handle());
        if attempt.has_ended() {
            return Err(StepError::Lost);
        }
        unless_parked(&attempt)?;
        if self.is_undoing() {
            return Err(StepError::Undoing { step: "complete".into() });
        }
        let (response, transaction) = run(database, work).await?;
        let (parts, body) = response.into_parts();
        let response = Arc::new(StoredResponse::capture(parts.status, &parts.headers, Some(body)));
        let complete = Change::Complete { response, retention: attempt.retention() };
        attempt.commit(database, transaction, complete).await?;
        attempt.emit(|| EventKind::Completed { status: parts.status.as_u16(), retained: true });
        Ok(())
    }
}

/// A human has to look first: nothing new is started.
fn unless_parked<E>(attempt: &Attempt) -> Result<(), StepError<E>> {
    match attempt.parked() {
        Some(step) => Err(StepError::InDoubt { step: step.to_owned() }),
        None => Ok(()),
    }
}

/// What `work` gave, and the transaction, still open.
async fn run<D, T, E, F>(database: &Joined<D>, work: F) -> Result<(T, D::Transaction), StepError<E>>
where
    D: TransactionDriver,
    T: Send,
    F: for<'t> FnOnce(&'t mut D::Handle) -> TransactionFuture<'t, T, E> + Send,
{
    let mut transaction = database.begin().await.map_err(StepError::RolledBack)?;
    let outcome = match D::handle(&mut transaction) {
        Some(handle) => work(handle).await,
        None => return Err(StepError::Lost),
    };
    match outcome {
        Ok(value) => Ok((value, transaction)),
        Err(error) => {
            Joined::<D>::roll_back(transaction).await;
            Err(StepError::Retry(error))
        }
    }
}

impl<E> From<NotCommitted> for StepError<E> {
    fn from(error: NotCommitted) -> Self {
        match error {
            NotCommitted::Lost => Self::Lost,
            NotCommitted::Parked(step) => Self::InDoubt { step },
            NotCommitted::RolledBack(error) => Self::RolledBack(error),
            NotCommitted::Unknown(error) => Self::Store(error),
        }
    }
}
