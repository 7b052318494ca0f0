//! Swaps inside a transaction of the caller's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::deadpool::StorePool;
use super::driver::TransactionDriver;
use super::error;
use super::row::RowWrite;
use super::store::{Inner, PostgresStore};
use crate::core::{Key, Record, Version};
use crate::store::contract::StoreError;
use crate::store::enlisted::{CommitError, EnlistedDatabase, EnlistedSwap, Limit, Sealed};

/// A pool whose transactions can carry the recovery points of a
/// [`PostgresStore`]. Made by [`PostgresStore::transactions_on`]; cheap to clone.
///
/// The pool must lead to the database that has the store's tables.
pub struct Enlisted<D> {
    store: Arc<Inner>,
    driver: D,
}

/// Set in the transaction when it begins, and gone as soon as it ends. Not a
/// query: after one, the caller could not choose the isolation level any more.
const BEGUN: &str = "SET LOCAL tower_idempotency.transaction = 'begun'";

/// How long a transaction may take to begin, with the wait for a connection.
const BEGINNING: Duration = Duration::from_secs(5);
/// How long a rollback is waited for. Then the connection is given up, which
/// rolls back, too.
const ROLLING_BACK: Duration = Duration::from_secs(3);

impl PostgresStore {
    /// Lets transactions of another pool carry this store's recovery points:
    /// those of a `sqlx::PgPool`, say. Not the pool that this store is on: its renewals
    /// would wait for transactions that wait; [`transactions`](Self::transactions) is for that, and
    /// [`transactions_sharing`](Self::transactions_sharing) if it is one of sqlx.
    pub fn transactions_on<D: TransactionDriver>(&self, driver: D) -> Enlisted<D> {
        Enlisted { store: Arc::clone(&self.0), driver }
    }

    /// Lets transactions on this store's own pool carry its recovery points.
    ///
    /// Of its connections, two are left for claims and renewals: 14 of 16 can
    /// have a transaction. One that finds none free waits up to 2 seconds. Of a store on a pool of sqlx,
    /// none begins: [`transactions_sharing`](Self::transactions_sharing) is for that.
    pub fn transactions(&self) -> Enlisted<StorePool> {
        self.transactions_on(self.0.transactions.clone())
    }
}

impl<D> Sealed for Enlisted<D> {}

#[async_trait]
impl<D: TransactionDriver> EnlistedDatabase for Enlisted<D> {
    type Handle = D::Handle;
    type Transaction = D::Transaction;

    const LOCKS_THE_STORE: bool = false;
    const NOT_THERE: &'static str = "the record of this operation is not in the database of this transaction, \
        or the transaction was ended by the work that got it, \
        or it saw the past: above READ COMMITTED it must take less than a third of the lease";

    /// In a task of its own, which goes on when the wait is over: sqlx puts a
    /// connection back into its pool with the transaction open if it is dropped in
    /// the middle.
    async fn begin(&self, _lease: Duration) -> Result<D::Transaction, StoreError> {
        let driver = self.driver.clone();
        let begin = tokio::spawn(async move {
            let mut transaction = driver.begin().await?;
            D::run(&mut transaction, BEGUN, &[]).await?;
            Ok(transaction)
        });
        match timeout(BEGINNING, begin).await {
            Ok(begun) => begun.unwrap_or_else(|_| Err(error::unavailable("the driver panicked"))),
            Err(_) => Err(error::unavailable("no transaction could be begun in time")),
        }
    }

    fn handle(transaction: &mut D::Transaction) -> Option<&mut D::Handle> {
        D::handle(transaction)
    }

    /// A row's lock is in the way of its own operation only.
    fn limit(_transaction: &D::Transaction) -> Option<Limit> {
        None
    }

    async fn swap(
        &self,
        transaction: &mut D::Transaction,
        key: &Key,
        expected: Version,
        next: &Record,
    ) -> Result<EnlistedSwap, StoreError> {
        let sql = self.store.sql.of(key);
        let put = RowWrite::new(key, Some(expected), next, sql);
        let (statement, parameters) = match put.labelled(sql) {
            Some((labelled, parameters)) => (put.pick(&labelled.join), parameters),
            None => (put.pick(&sql.join), put.parameters()),
        };
        let written = D::run(transaction, statement, parameters).await?;
        Ok(if written == 1 { EnlistedSwap::Written } else { EnlistedSwap::Unseen })
    }

    async fn commit(transaction: D::Transaction) -> Result<(), CommitError> {
        D::commit(transaction).await
    }

    /// In a task of its own, as above.
    async fn roll_back(transaction: D::Transaction) {
        let _ = tokio::spawn(timeout(ROLLING_BACK, D::rollback(transaction))).await;
    }
}

impl<D: Clone> Clone for Enlisted<D> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), driver: self.driver.clone() }
    }
}

impl<D: fmt::Debug> fmt::Debug for Enlisted<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enlisted").field("driver", &self.driver).finish_non_exhaustive()
    }
}
