//! A store by its URL.

use std::sync::Arc;

use super::memory::MemoryStore;
use crate::store::contract::{ConnectError, Store};

/// Opens the store that `url` names: `memory:`, `sqlite:PATH` with feature `sqlite`,
/// `redis://…` with feature `redis`, or `postgres://USER:PASSWORD@HOST/DATABASE`
/// with feature `postgres`. `file:PATH` is another way to write `sqlite:PATH`.
///
/// ```
/// use tower_idempotency::store;
///
/// let store = store::connect("memory:")?;
/// assert!(store::connect("mysql://localhost").is_err());
/// # Ok::<_, store::ConnectError>(())
/// ```
///
/// The path is everything after `sqlite:` or `sqlite://`, as it is: relative to the
/// working directory unless it starts with `/`. This creates the file, and missing parent
/// directories. Opening such a store does blocking I/O.
///
/// A Redis store connects when it is first used; its URLs are in the docs of
/// `RedisStore::connect`. They may have `prefix=NAME`, `index_complete=true` and `index_labels=true`.
///
/// A Postgres store connects when it is first used. Besides the parameters of
/// `tokio_postgres`, the URL may have `schema=NAME`, `table_prefix=NAME`, `prepared=false`,
/// `index_labels=true`, `partitions=N`, and `create_schema=true` to create missing tables. With feature `postgres-tls`, `sslmode` and its
/// like are what they are to libpq: the docs of `PostgresStoreOptions::connect` have them.
///
/// # Errors
///
/// [`ConnectError`] if the URL's scheme is unknown, if the crate is compiled without the
/// store's feature, or if the store can't be opened.
pub fn connect(url: &str) -> Result<Arc<dyn Store>, ConnectError> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "memory" if rest.trim_matches('/').is_empty() => Ok(Arc::new(MemoryStore::new())),
        "memory" => Err(ConnectError::new(url, "a memory store has no name; write \"memory:\"")),
        "sqlite" | "file" => open_sqlite(url, rest.strip_prefix("//").unwrap_or(rest)),
        "redis" | "rediss" | "redis+unix" | "redis+sentinel" | "rediss+sentinel" | "redis+cluster"
        | "rediss+cluster" => open_redis(url),
        "postgres" | "postgresql" => open_postgres(url),
        _ => Err(ConnectError::new(
            url,
            "not a store URL; write \"memory:\", \"sqlite:PATH\", \"redis://…\" or \"postgres://…\"",
        )),
    }
}

#[cfg(feature = "sqlite")]
fn open_sqlite(url: &str, path: &str) -> Result<Arc<dyn Store>, ConnectError> {
    if path.is_empty() {
        return Err(ConnectError::new(url, "the path is missing; write \"sqlite:PATH\""));
    }
    let store = super::sqlite::SqliteStore::open(path).map_err(|error| ConnectError::caused_by(url, error))?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "sqlite"))]
fn open_sqlite(url: &str, _path: &str) -> Result<Arc<dyn Store>, ConnectError> {
    Err(ConnectError::new(url, "compiled without the feature `sqlite` of tower-idempotency; enable it"))
}

#[cfg(feature = "redis")]
fn open_redis(url: &str) -> Result<Arc<dyn Store>, ConnectError> {
    Ok(Arc::new(super::redis::RedisStore::connect(url)?))
}

#[cfg(not(feature = "redis"))]
fn open_redis(url: &str) -> Result<Arc<dyn Store>, ConnectError> {
    Err(ConnectError::new(url, "compiled without the feature `redis` of tower-idempotency; enable it"))
}

#[cfg(feature = "postgres")]
fn open_postgres(url: &str) -> Result<Arc<dyn Store>, ConnectError> {
    Ok(Arc::new(super::postgres::PostgresStore::connect(url)?))
}

#[cfg(not(feature = "postgres"))]
fn open_postgres(url: &str) -> Result<Arc<dyn Store>, ConnectError> {
    Err(ConnectError::new(url, "compiled without the feature `postgres` of tower-idempotency; enable it"))
}
