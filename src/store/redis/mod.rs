//! The store on Redis or Valkey.

mod connection;
mod error;
mod layout;
mod link;
mod options;
mod partitions;
mod scan;
mod script;
mod settings;
mod store;
mod url;
mod wait;

pub use self::options::RedisStoreOptions;
pub use self::store::RedisStore;
