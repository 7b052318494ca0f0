//! The store on Redis or Valkey.

mod cluster;
mod connection;
mod error;
mod layout;
mod link;
mod node;
mod options;
mod partitions;
mod scan;
mod script;
mod settings;
mod slots;
mod store;
mod timeouts;
mod url;
mod wait;

pub use self::options::RedisStoreOptions;
pub use self::store::RedisStore;
