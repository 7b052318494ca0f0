//! What an error of the driver means.

use redis::{ErrorKind, RedisError};

use crate::store::contract::{StoreError, StoreErrorKind};

/// What a user needs, as an ACL. The docs of the store have it, too.
const RIGHTS: &str = "+evalsha +eval +time +get +set +del +persist +pexpireat +hget +hset +hsetnx +hincrby +hdel \
                      +hgetall +zadd +zrem +zrange +zcount +info; for an index of complete records or of labels \
                      +getrange; where the URL names a database +select; in a cluster +cluster|slots; to wait \
                      +wait or +waitaof; better also +config|get";

pub(super) fn unavailable(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, message)
}

pub(super) fn corrupt(message: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, message)
}

/// The server's word for what is wrong. Servers before 7.0 wrap the errors of
/// a script's commands in one of their own.
fn code(error: &RedisError) -> &str {
    let code = error.code().unwrap_or_default();
    let inner = error.detail().filter(|_| code == "ERR").unwrap_or_default();
    // In a script of an older server, and at a SELECT, of which the driver keeps that.
    if ["can't run this command", "no permissions to run"].iter().any(|refusal| inner.contains(refusal)) {
        return "NOPERM";
    }
    ["WRONGTYPE", "OOM", "READONLY", "NOPERM"].into_iter().find(|code| inner.contains(code)).unwrap_or(code)
}

/// Whether the server turned it away before anything was done, and may not do
/// so in a moment.
pub(super) fn passes(error: &RedisError) -> bool {
    let passing = ["LOADING", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"];
    passing.contains(&code(error))
}

/// Whether another connection may fare better.
pub(super) fn wants_reconnect(error: &RedisError) -> bool {
    let elsewhere = ["READONLY", "MASTERDOWN", "NOAUTH"];
    error.is_io_error() || error.is_unrecoverable_error() || elsewhere.contains(&code(error))
}

/// Whether this server does not reply, or does not reply yet.
pub(super) fn is_away(error: &RedisError) -> bool {
    passes(error) || wants_reconnect(error)
}

/// Whether this node of a cluster can't serve keys now: another one may. It loads its data, or is cut
/// off from the others, or knows no owner.
pub(super) fn is_no_use(error: &RedisError) -> bool {
    is_loading(error) || code(error) == "CLUSTERDOWN"
}

/// Whether it was started and does not have its data yet.
pub(super) fn is_loading(error: &RedisError) -> bool {
    code(error) == "LOADING"
}

pub(super) fn is_full(error: &RedisError) -> bool {
    code(error) == "OOM"
}

pub(super) fn store_error(error: RedisError) -> StoreError {
    let (kind, message) = match code(&error) {
        "OOM" => (StoreErrorKind::Full, format!("redis is full: {error}; raise maxmemory")),
        "WRONGTYPE" => (
            StoreErrorKind::Corrupt,
            "redis has something else than a record at this key, by its type not ours; \
             look at it, and give this store a prefix or a database of its own"
                .to_owned(),
        ),
        "NOPERM" => (StoreErrorKind::Unavailable, format!("the redis user lacks rights: {error}; it needs {RIGHTS}")),
        "MOVED" => (
            StoreErrorKind::Unavailable,
            format!("redis: {error}; this is one node of a cluster, name it redis+cluster://"),
        ),
        "READONLY" => {
            (StoreErrorKind::Unavailable, "this redis is a replica; name the primary, or Sentinel".to_owned())
        }
        _ if error.kind() == ErrorKind::AuthenticationFailed => {
            (StoreErrorKind::Unavailable, format!("redis refused user or password: {error}"))
        }
        _ => (StoreErrorKind::Unavailable, format!("redis: {error}")),
    };
    StoreError::new(kind, message).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_name_the_same_rights() {
        let docs = include_str!("store.rs");
        let rights = RIGHTS.split([' ', ';']).filter(|word| word.starts_with('+'));
        let missing: Vec<_> = rights.filter(|right| !docs.contains(&format!("{right}`"))).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
