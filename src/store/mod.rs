//! Where records live.
//!
//! | store | feature | survives | several processes |
//! |---|---|---|---|
//! | [`MemoryStore`] | – | nothing: a restart forgets every key | no |
#![cfg_attr(feature = "sqlite", doc = "| [`SqliteStore`] | `sqlite` | crashes and power loss | yes, on one machine |")]
#![cfg_attr(
    feature = "redis",
    doc = "| [`RedisStore`] | `redis` | depends on its settings; a failover may forget | yes |"
)]
#![cfg_attr(
    feature = "postgres",
    doc = "| [`PostgresStore`] | `postgres` | crashes and power loss; the loss of its machine with a synchronous standby | yes |"
)]
//!
//! [`connect()`] picks one at run time.
//!
//! This module may know `core` and `util` only. Start with [`Store`], what a store promises, then
//! [`MemoryStore`], the shortest one that keeps it.

mod connect;
mod contract;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod enlisted;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod for_all;
mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod sealing;
#[cfg(feature = "sqlite")]
pub mod sqlite;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use self::connect::connect;
pub use self::contract::{
    ConnectError, Cursor, Durability, DurabilityLevel, Epoch, Filter, Found, KeptRecord, Loaded, Page, Query,
    RequireError, Since, Store, StoreError, StoreErrorKind, Swap, Unreadable, require,
};
pub(crate) use self::contract::{ImmediateStore, STORE_TIMEOUT};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use self::enlisted::EnlistedSwap;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::enlisted::{CommitError, EnlistedDatabase};
pub use self::memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresStore, PostgresStoreOptions};
#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreOptions};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteOpenError, SqliteOpenErrorKind, SqliteStore, SqliteStoreOptions};
