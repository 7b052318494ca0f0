//! Records in a SQLite database of this machine.
//!
//! Here are the types of transactions that carry recovery points; the store itself is in
//! [`store`](crate::store), too.

mod batch;
mod buckets;
mod checkpoint;
mod clock;
mod connection;
mod durability;
mod enlisted;
mod error;
mod evidence;
mod files;
mod inspect;
mod open;
mod open_store;
mod options;
mod orphans;
mod owner;
mod plan;
mod process;
mod reader;
mod request;
mod row;
mod scan;
mod schema;
mod store;
mod turn;
mod version;
mod wal;
mod writer;

pub use self::enlisted::{Rusqlite, SqliteEnlisted, SqliteTransaction};
pub use self::error::{SqliteOpenError, SqliteOpenErrorKind};
pub use self::options::SqliteStoreOptions;
pub use self::store::SqliteStore;
