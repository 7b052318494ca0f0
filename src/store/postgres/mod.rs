//! The store on Postgres: every write is one conditional statement on one row.
//!
//! Here are the types of transactions that carry recovery points; the store itself is in
//! [`store`](crate::store), too.

mod call;
#[cfg(feature = "postgres-tls")]
mod certificates;
mod columns;
mod deadpool;
mod driver;
mod durability;
mod enlisted;
mod error;
mod hosts;
mod met;
mod options;
mod partitions;
mod pooled;
mod row;
mod scan;
mod shared;
mod sql;
#[cfg(any(feature = "sqlx-postgres", feature = "sqlx-postgres-08"))]
mod sqlx;
mod store;
mod tls;

pub use self::deadpool::{PooledTransaction, StorePool};
pub use self::driver::{Parameter, TransactionDriver};
pub use self::enlisted::Enlisted;
pub use self::options::PostgresStoreOptions;
pub use self::shared::{SharedPool, SharedTransaction};
#[cfg(feature = "sqlx-postgres-08")]
pub use self::sqlx::v08::Sqlx08Transaction;
#[cfg(feature = "sqlx-postgres")]
pub use self::sqlx::v09::SqlxTransaction;
pub use self::store::PostgresStore;
