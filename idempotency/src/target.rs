//! The store that a command works on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tower_idempotency::Engine;
use tower_idempotency::store::{PostgresStore, RedisStore, SqliteStore, Store, connect};

use crate::arguments::Common;
use crate::failure::{AWAY, Failure};
use crate::keys;

/// An open store, with the engine over it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) engine: Engine,
    /// Its URL, less what may be secret.
    pub(crate) name: String,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Sqlite(PathBuf),
    Redis,
    Postgres(PostgresStore),
}

impl Target {
    /// Opens what `--store` names. It makes nothing: a SQLite file that is not there is a
    /// mistyped path.
    pub(crate) fn open(common: &Common) -> Result<Self, Failure> {
        Self::open_or_make(common, false)
    }

    pub(crate) fn open_or_make(common: &Common, makes: bool) -> Result<Self, Failure> {
        let url = common.store.as_deref().ok_or_else(|| {
            Failure::usage(
                "which store? give --store URL, or set IDEMPOTENCY_STORE, as sqlite:PATH, redis://… or postgres://…",
            )
        })?;
        let (kind, store) = opened(url, makes)?;
        let engine = engine_on(Arc::clone(&store), common)?;
        Ok(Self { kind, store, engine, name: without_secrets(url) })
    }
}

/// An engine that reads what is encrypted.
pub(crate) fn engine_on(store: impl Store, common: &Common) -> Result<Engine, Failure> {
    let engine = Engine::new(store);
    Ok(match &common.encryption_key_file {
        Some(path) => engine.encryption(keys::read(path)?),
        None => engine,
    })
}

fn opened(url: &str, makes: bool) -> Result<(Kind, Arc<dyn Store>), Failure> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "memory" => Err(Failure::usage(
            "a memory store lives in the process that made it, and this is another one; ask that process, through \
             `Operator` or `Inspector`",
        )),
        "sqlite" | "file" => {
            let path = Path::new(rest.strip_prefix("//").unwrap_or(rest));
            check_file(path, makes)?;
            let open = SqliteStore::open(path).map_err(|error| Failure::new(AWAY, error.to_string()))?;
            Ok((Kind::Sqlite(path.to_owned()), Arc::new(open)))
        }
        "postgres" | "postgresql" => {
            let store = PostgresStore::connect(url)?;
            Ok((Kind::Postgres(store.clone()), Arc::new(store)))
        }
        _ if scheme.starts_with("redis") => Ok((Kind::Redis, Arc::new(RedisStore::connect(url)?))),
        // The text of its error lists what a URL may be.
        _ => Err(connect(url)
            .err()
            .map_or_else(|| Failure::usage("not a store URL"), |error| Failure::usage(error.to_string()))),
    }
}

/// Whether to open this file at all.
fn check_file(path: &Path, makes: bool) -> Result<(), Failure> {
    let name = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if makes && error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::new(AWAY, format!("can't open {name}: {error}; check the path"))),
    };
    // SQLite's files beside it would be root's, and the service could not open its store.
    if rustix::process::geteuid().is_root() && found.uid() != 0 {
        let owner = found.uid();
        return Err(Failure::refused(format!(
            "{name} belongs to the user with id {owner}, and files that root makes beside it would lock that user's service out; \
             run this as that user: sudo -u '#{owner}' idempotency …"
        )));
    }
    Ok(())
}

/// The URL for people to read: no user, no password, no parameters.
pub(crate) fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| !matches!(*scheme, "sqlite" | "file")) else {
        return url.to_owned();
    };
    let shown = rest.split('?').next().unwrap_or_default();
    match (rest.matches('@').count(), shown.split_once('@')) {
        (0, _) => format!("{scheme}://{shown}"),
        (1, Some((_, host))) => format!("{scheme}://{host}"),
        // Where the password ends is a guess.
        _ => format!("{scheme}://…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        for (url, shown) in [
            ("postgres://app:s3cret@db/shop?schema=x", "postgres://db/shop"),
            ("redis://:s3cret@cache:6379/1", "redis://cache:6379/1"),
            ("redis+unix:///run/redis?pass=s3cret", "redis+unix:///run/redis"),
            ("postgres://app:s3@cret@db/shop", "postgres://…"),
            ("postgres://app:s3?cret@db/shop", "postgres://…"),
            ("postgres://db/shop?password=s3@cret", "postgres://…"),
            ("sqlite:/var/lib/a@b.db", "sqlite:/var/lib/a@b.db"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
