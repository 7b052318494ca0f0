//! Pools of sqlx: of a store, and of transactions.

mod either;
#[cfg(feature = "sqlx-postgres-08")]
pub(super) mod v08;
#[cfg(feature = "sqlx-postgres")]
pub(super) mod v09;
