//! Redis and Postgres of this run's own, and what the rows keep there.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use servers::{Postgres, Redis};
use tempfile::TempDir;

use crate::Failure;
use crate::cores::Cores;

/// What has a row's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The service itself, if any.
    Process,
    Sqlite,
    Redis,
    Postgres,
    Restate,
}

impl Kind {
    pub(crate) fn of(row: &str) -> Self {
        match row {
            "restate" => Self::Restate,
            "dbos" => Self::Postgres,
            "durare-normal" => Self::Sqlite,
            _ if row.ends_with("-sqlite") => Self::Sqlite,
            _ if row.ends_with("-redis") => Self::Redis,
            _ if row.ends_with("-postgres") => Self::Postgres,
            _ => Self::Process,
        }
    }
}

/// Started when they are first needed; they end with this value.
#[derive(Debug)]
pub(crate) struct Stores {
    redis: OnceCell<Redis>,
    postgres: OnceCell<Postgres>,
    folder: TempDir,
    made: Cell<u32>,
}

impl Stores {
    /// Files go into a folder in `beside`, and not where temporary ones are: that may be
    /// memory.
    pub(crate) fn beside(beside: &Path) -> Result<Self, Failure> {
        for left in std::fs::read_dir(beside)?.flatten() {
            // By a run that was killed.
            if left.file_name().to_string_lossy().starts_with("stores-") {
                std::fs::remove_dir_all(left.path())?;
            }
        }
        let folder = tempfile::Builder::new().prefix("stores-").tempdir_in(beside)?;
        Ok(Self { redis: OnceCell::new(), postgres: OnceCell::new(), folder, made: Cell::new(0) })
    }

    /// A store that no row used yet.
    pub(crate) fn fresh(&self, kind: Kind, cores: &Cores) -> Result<Place, Failure> {
        self.made.set(self.made.get() + 1);
        let name = format!("s{}", self.made.get());
        let path = self.folder.path().join(&name);
        let url = match kind {
            Kind::Process => "memory:".to_owned(),
            Kind::Sqlite => format!("sqlite:{}", path.with_extension("db").display()),
            Kind::Redis => self.redis(cores)?.url(),
            Kind::Postgres => self.postgres(cores)?.database(&name),
            Kind::Restate => {
                std::fs::create_dir(&path)?;
                path.display().to_string()
            }
        };
        Ok(Place { kind, url, name, path })
    }

    fn redis(&self, cores: &Cores) -> Result<&Redis, Failure> {
        if self.redis.get().is_none() {
            let _ = self.redis.set(cores.for_stores(|| Ok(Redis::start()))?);
        }
        self.redis.get().ok_or_else(|| "no Redis".into())
    }

    fn postgres(&self, cores: &Cores) -> Result<&Postgres, Failure> {
        if self.postgres.get().is_none() {
            let _ = self.postgres.set(cores.for_stores(|| Ok(Postgres::start()))?);
        }
        self.postgres.get().ok_or_else(|| "no Postgres".into())
    }

    /// Nanoseconds on a CPU so far, of the server that has them.
    pub(crate) fn cpu_nanos(&self, kind: Kind) -> Option<u64> {
        match kind {
            Kind::Redis => self.redis.get().map(Redis::cpu_nanos),
            Kind::Postgres => self.postgres.get().map(Postgres::cpu_nanos),
            Kind::Process | Kind::Sqlite | Kind::Restate => None,
        }
    }

    /// Bytes that are stored there, with indexes.
    pub(crate) fn size(&self, place: &Place) -> Result<Option<u64>, Failure> {
        Ok(match (place.kind, self.redis.get(), self.postgres.get()) {
            (Kind::Redis, Some(redis), _) => Some(redis.info("used_memory").parse()?),
            (Kind::Postgres, _, Some(postgres)) => {
                Some(postgres.sql(&format!("SELECT pg_database_size('{}')", place.name)).parse()?)
            }
            _ => None,
        })
    }

    /// Where the server of this kind listens.
    pub(crate) fn address(&self, kind: Kind) -> Option<SocketAddr> {
        let port = match kind {
            Kind::Redis => self.redis.get()?.port(),
            Kind::Postgres => self.postgres.get()?.port(),
            Kind::Process | Kind::Sqlite | Kind::Restate => return None,
        };
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Everything that rows kept here is gone.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        if let Some(redis) = self.redis.get() {
            redis.cli(&["FLUSHALL"]);
        }
        if let Some(postgres) = self.postgres.get() {
            let all = "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname ~ '^s[0-9]+$'";
            for name in postgres.sql(all).split_whitespace() {
                postgres.sql(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
            }
        }
        for entry in std::fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
        }
        Ok(())
    }
}

/// Where a row keeps its records.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// What its service is told.
    pub(crate) url: String,
    /// Of its database, where it has one.
    name: String,
    /// Of its file or folder, where it has one.
    pub(crate) path: PathBuf,
}

impl Place {
    /// The same place, by way of another address.
    pub(crate) fn by(&self, from: SocketAddr, to: SocketAddr) -> Self {
        Self { url: self.url.replace(&from.to_string(), &to.to_string()), ..self.clone() }
    }
}
