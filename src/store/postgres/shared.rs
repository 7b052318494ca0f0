//! Transactions on the pool that a store shares with the application.

use async_trait::async_trait;
use tokio::sync::OwnedSemaphorePermit;

use super::deadpool::Free;
use super::driver::{Parameter, TransactionDriver};
use super::enlisted::Enlisted;
use super::store::PostgresStore;
use crate::store::contract::StoreError;
use crate::store::enlisted::CommitError;

/// A pool that the store is on, too, for transactions: they take all but two of its
/// connections. Made by [`PostgresStore::transactions_sharing`].
#[derive(Clone, Debug)]
pub struct SharedPool<D> {
    driver: D,
    free: Free,
}

/// A transaction on a [`SharedPool`]. Dropped, it is rolled back.
///
/// Its place is given back after its connection.
#[derive(Debug)]
pub struct SharedTransaction<T> {
    transaction: T,
    _slot: Option<OwnedSemaphorePermit>,
}

impl PostgresStore {
    /// Lets transactions on the pool of sqlx that this store is on carry its recovery points.
    /// [`transactions_on`](Self::transactions_on) is for other pools.
    ///
    /// Of the pool's connections, two are left for claims and renewals: 14 of 16 can
    /// have a transaction. One that finds none free waits up to 2 seconds. All that are made
    /// of one store share this number; queries of yours that go another way do not count.
    ///
    /// *Caveats*
    ///
    /// - A transaction that is dropped while one of its statements runs gives its connection up, and with it its
    ///   place among the 14. On the server the session goes on until that statement has ended, beside those of the
    ///   pool. Set `lock_timeout` or `statement_timeout` for the pool's sessions if your handlers have time-outs
    ///   of their own.
    /// - After a failover a `begin` may find a session that only reads, and fail; the next one finds
    ///   another.
    pub fn transactions_sharing<D: TransactionDriver>(&self, pool: D) -> Enlisted<SharedPool<D>> {
        self.transactions_on(SharedPool { driver: pool, free: self.0.transactions.free().clone() })
    }
}

#[async_trait]
impl<D: TransactionDriver> TransactionDriver for SharedPool<D> {
    type Transaction = SharedTransaction<D::Transaction>;
    type Handle = D::Handle;

    async fn begin(&self) -> Result<Self::Transaction, StoreError> {
        let slot = self.free.take().await?;
        Ok(SharedTransaction { transaction: self.driver.begin().await?, _slot: slot })
    }

    fn handle(transaction: &mut Self::Transaction) -> Option<&mut Self::Handle> {
        D::handle(&mut transaction.transaction)
    }

    async fn run(
        transaction: &mut Self::Transaction,
        statement: &str,
        parameters: &[Parameter],
    ) -> Result<i64, StoreError> {
        D::run(&mut transaction.transaction, statement, parameters).await
    }

    async fn commit(transaction: Self::Transaction) -> Result<(), CommitError> {
        D::commit(transaction.transaction).await
    }

    async fn rollback(transaction: Self::Transaction) {
        D::rollback(transaction.transaction).await;
    }
}
