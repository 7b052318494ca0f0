//! Opening: what is there is looked at, and only then touched.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::batch::{Statements, begin};
use super::buckets::Buckets;
use super::checkpoint::{self, Checkpoints};
use super::clock::{self, Clocks, StoredTime, Timeline};
use super::connection::{BUSY, Place, beside};
use super::error::{Fault, SqliteOpenError, SqliteOpenErrorKind as Kind};
use super::evidence::{Evidence, check_absence, check_count, known_by};
use super::files::{self, Entrance};
use super::inspect::{self, Database, Found, Meta, Moved, inspect};
use super::open_store::{Guard, OpenStore};
use super::options::SqliteStoreOptions;
use super::orphans::{self, Held};
use super::owner::{self, Other, Owner};
use super::process::OpenHere;
use super::row;
use super::schema::{APPLICATION_ID, Sql};
use super::turn::Gate;
use super::version;
use super::wal::wal;
use crate::core::Timestamp;
use crate::util::nonce::fresh_nonce;

/// How long others may take to open or close.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

const FORKED: &str = "can't be opened in a process that was forked while its parent had a store open: locks of the library \
                      may be held there by threads that this process does not have; fork first, or run another program";

/// Opens the store at `path`, with the connection of its writer.
pub(super) fn open(options: &SqliteStoreOptions, path: &Path) -> Result<(OpenStore, Connection), SqliteOpenError> {
    // Before the library is asked for anything.
    let Some(here) = OpenHere::enter() else {
        return Err(SqliteOpenError::new(Kind::Forked, path, FORKED));
    };
    version::check(path, rusqlite::version_number())?;
    let found = inspect(path, options.join)?;
    refuse_network(options, path)?;
    if matches!(found, Found::Nothing) {
        if options.join {
            return Err(SqliteOpenError::new(Kind::Foreign, path, "is not there, and so can't be joined"));
        }
        files::create_parents(path).map_err(|error| SqliteOpenError::io(path, error))?;
    }
    let path = &files::resolve(path).map_err(|error| SqliteOpenError::io(path, error))?;
    let entered = Entrance::enter(path, PATIENCE).map_err(|error| SqliteOpenError::io(path, error))?;
    let Some(mut entrance) = entered else {
        return Err(SqliteOpenError::new(
            Kind::Busy,
            path,
            "is being opened or closed by another process, for too long",
        ));
    };
    Opening { options, path, boot: clock::boot() }.run(&mut entrance, here)
}

fn refuse_network(options: &SqliteStoreOptions, path: &Path) -> Result<(), SqliteOpenError> {
    let found = files::network(path).map_err(|error| SqliteOpenError::io(path, error))?;
    let Some(name) = found.filter(|_| !options.network) else { return Ok(()) };
    let detail = format!(
        "lies on {name}, where SQLite's locks and its shared memory can't be relied on; name a path on a disk of this \
         machine, or see `SqliteStoreOptions::risk_a_network_file_system`"
    );
    Err(SqliteOpenError::new(Kind::NetworkFileSystem, path, detail))
}

/// While no other process opens or closes the store.
struct Opening<'o> {
    options: &'o SqliteStoreOptions,
    path: &'o Path,
    boot: String,
}

impl Opening<'_> {
    fn run(&self, entrance: &mut Entrance, here: OpenHere) -> Result<(OpenStore, Connection), SqliteOpenError> {
        owner::tidy(self.path).map_err(|error| self.io(error))?;
        let others = owner::others(self.path, &self.boot, 0).map_err(|error| self.io(error))?;
        if others.iter().any(|other| matches!(other, Other::Alive { is_of_this_boot: false, .. })) {
            let detail = "is open on another machine, or in a virtual one; a SQLite store is for one machine";
            return Err(SqliteOpenError::new(Kind::NetworkFileSystem, self.path, detail));
        }
        let alone = !others.iter().any(|other| matches!(other, Other::Alive { .. }));
        let database = self.database(entrance, &others)?;
        let mut sql = Sql::new(database.prefix(), self.options.index_labels);
        let place = Place { path: self.path.to_owned(), cache_bytes: self.options.cache_bytes };
        let (connection, known) = if alone {
            self.connect_alone(&place, &database, &sql, &others)?
        } else {
            (self.connect_beside(&place, &database, &sql, &others)?, 0)
        };
        sql.index_labels |= connection.prepare(&sql.labels.keep).is_ok();
        let owner = Owner::enter(self.path, &self.boot, known).map_err(|error| self.io(error))?;
        let started = self.start(&connection, &sql, alone, &others, &owner);
        if started.is_err() && others.iter().any(|other| !matches!(other, Other::Unknown)) {
            // What the others' files say is enough. Without them, this one stays, as that
            // of one that died: the database may be noted as open.
            let _ = owner.leave();
        }
        let (clock, warnings) = started?;
        entrance.know_the_database().map_err(|error| self.io(error))?;
        bury(others);
        let guard = Guard::new(self.path, wal(self.path)).map_err(|error| self.io(error))?;
        guard.know_the_wal();
        let shared = OpenStore {
            place,
            sql,
            is_own: database.is_own,
            boot: self.boot.clone(),
            clock,
            owner,
            guard,
            buckets: Buckets::new(),
            checkpoints: Arc::new(Checkpoints::default()),
            gate: Gate::of(self.path),
            transaction_limit: self.options.transaction_limit,
            _here: here,
            warnings,
        };
        Ok((shared, connection))
    }

    /// What is there, and made if nothing is.
    fn database(&self, entrance: &Entrance, others: &[Other]) -> Result<Database, SqliteOpenError> {
        if let Found::Database(database) = inspect(self.path, self.options.join)? {
            return Ok(database);
        }
        let was_there = entrance.knows_a_database().map_err(|error| self.io(error))?;
        check_absence(self.path, was_there, others)?;
        self.create()?;
        match inspect(self.path, self.options.join)? {
            Found::Database(database) => Ok(database),
            Found::Nothing => Err(self.io(std::io::ErrorKind::NotFound.into())),
        }
    }

    /// Makes a database beside its place and puts it there when it is whole: a
    /// crash leaves none, or all of it.
    fn create(&self) -> Result<(), SqliteOpenError> {
        let unfinished = beside(self.path, ".new");
        remove_if_there(&unfinished).map_err(|error| self.io(error))?;
        drop(files::create_private(&unfinished).map_err(|error| self.io(error))?);
        create_tables(&unfinished).map_err(|error| self.engine(error))?;
        let put = || {
            fs::File::open(&unfinished)?.sync_all()?;
            // Not over what another program puts there meanwhile.
            fs::hard_link(&unfinished, self.path)?;
            fs::remove_file(&unfinished)?;
            files::sync_directory(&files::parent(self.path))
        };
        put().map_err(|error| self.io(error))
    }

    fn connect(&self, place: &Place) -> Result<Connection, SqliteOpenError> {
        let connection = place.writer().map_err(|error| self.engine(error))?;
        let journal = connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
        if journal.map_err(|error| self.engine(error))? != "wal" {
            let detail = "is not in WAL mode, which a store needs; `PRAGMA journal_mode = WAL` puts it there";
            return Err(SqliteOpenError::new(Kind::Foreign, self.path, detail));
        }
        Ok(connection)
    }

    /// No other process has it open: now is the time to see whether all is there. Also
    /// how many transactions others knew of.
    fn connect_alone(
        &self,
        place: &Place,
        database: &Database,
        sql: &Sql,
        others: &[Other],
    ) -> Result<(Connection, i64), SqliteOpenError> {
        let evidence = Evidence::gather(self.path, database, others)?;
        if self.options.accept_loss {
            evidence.set_aside()?;
        } else {
            evidence.check_files()?;
        }
        let connection = self.connect_and_check(place, database, sql, |now| evidence.check_state(now))?;
        let known = if self.options.accept_loss { 0 } else { evidence.known() };
        Ok((connection, known))
    }

    /// Others have it open. What they knew of must be there all the same.
    fn connect_beside(
        &self,
        place: &Place,
        database: &Database,
        sql: &Sql,
        others: &[Other],
    ) -> Result<Connection, SqliteOpenError> {
        let known = known_by(others);
        self.connect_and_check(place, database, sql, |now| check_count(self.path, known, now.commits))
    }

    fn connect_and_check(
        &self,
        place: &Place,
        database: &Database,
        sql: &Sql,
        check: impl FnOnce(&Meta) -> Result<(), SqliteOpenError>,
    ) -> Result<Connection, SqliteOpenError> {
        let connection = self.connect(place)?;
        // Until it is known whose WAL this is, it stays where it is.
        let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(keep, true).map_err(|error| self.engine(error))?;
        if !matches!(database.meta, Moved::NoTables) && !self.options.accept_loss {
            check(&inspect::read(&connection, sql, self.path)?)?;
        }
        connection.set_db_config(keep, false).map_err(|error| self.engine(error))?;
        Ok(connection)
    }

    /// The first transaction: finds the time, frees what the dead held, and notes
    /// that the store is open.
    fn start(
        &self,
        connection: &Connection,
        sql: &Sql,
        alone: bool,
        others: &[Other],
        owner: &Owner,
    ) -> Result<(Timeline, Vec<String>), SqliteOpenError> {
        // Transactions of other processes' callers wait until this is done.
        let _shut = Gate::of(self.path).shut();
        connection.busy_timeout(BUSY * 2).map_err(|error| self.engine(error))?;
        connection.execute_batch("BEGIN IMMEDIATE").map_err(|error| self.engine(error))?;
        add_tables(connection, sql).map_err(|error| self.engine(error))?;
        let meta = inspect::read(connection, sql, self.path)?;
        let (clock, now, warnings) = self.time(&meta, alone);
        let work = || -> Result<i64, Fault> {
            let mut statements = Statements::new(connection, sql)?;
            if alone && meta.boot != self.boot {
                orphans::free(connection, sql, &mut statements, Held::ByAny)?;
            }
            for other in others {
                if let Other::Dead(dead) = other {
                    orphans::free(connection, sql, &mut statements, Held::By(dead.number))?;
                }
            }
            if !alone {
                return Ok(statements.count(clock.now())?);
            }
            if meta.seen > now {
                orphans::pull_back(connection, sql, &mut statements, row::time(now))?;
            }
            let base = if let Timeline::Boot { base } = &clock { *base } else { 0 };
            connection.execute(&sql.open, (&self.boot, base))?;
            if self.options.reset_time {
                connection.execute(&sql.reset_time, [now])?;
            }
            Ok(statements.count(row::time(now))?)
        };
        let commits = work().map_err(|fault| self.fault(fault))?;
        connection.execute_batch("COMMIT").map_err(|error| self.engine(error))?;
        if alone {
            self.fix_that_it_is_open(connection)?;
        }
        let known = known_by(others).filter(|_| !self.options.accept_loss);
        let known = known.map_or(commits, |known| known.max(commits));
        owner.mark_durably(known).map_err(|error| self.io(error))?;
        Ok((clock, warnings))
    }

    /// The process that finds the database without its WAL must see that the store
    /// was open.
    fn fix_that_it_is_open(&self, connection: &Connection) -> Result<(), SqliteOpenError> {
        let moved = checkpoint::run(connection, "TRUNCATE").map_err(|error| self.engine(error))?;
        if moved.all {
            return Ok(());
        }
        let detail = "is being read by a transaction of another connection; end that first";
        Err(SqliteOpenError::new(Kind::Busy, self.path, detail))
    }

    /// The line of time, where it is now, and what to say about it.
    fn time(&self, meta: &Meta, alone: bool) -> (Timeline, i64, Vec<String>) {
        let millis = |time: Timestamp| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        if let Some(clock) = &self.options.clock {
            let now = millis(clock.now());
            return (Timeline::Given(Arc::clone(clock)), now, Vec::new());
        }
        let since_boot = clock::boot_clock().unwrap_or_default();
        let clocks = Clocks { boot: &self.boot, since_boot, wall: clock::wall() };
        let reset = self.options.reset_time && alone;
        let kept = if reset {
            StoredTime { boot: "", base: 0, seen: 0 }
        } else {
            StoredTime { boot: &meta.boot, base: meta.base, seen: meta.seen.max(0).unsigned_abs() }
        };
        let start = clock::start(kept, clocks);
        let clock = if self.boot.is_empty() {
            let start = since_boot.saturating_add_signed(start.base);
            Timeline::Wall { latest: AtomicU64::new(start) }
        } else {
            Timeline::Boot { base: start.base }
        };
        let now = millis(clock.now());
        (clock, now, start.warning.into_iter().collect())
    }

    fn io(&self, error: std::io::Error) -> SqliteOpenError {
        SqliteOpenError::io(self.path, error)
    }

    fn engine(&self, error: rusqlite::Error) -> SqliteOpenError {
        SqliteOpenError::engine(self.path, error)
    }

    fn fault(&self, fault: Fault) -> SqliteOpenError {
        match fault {
            Fault::Engine(error) => self.engine(error),
            Fault::Record(error) => {
                SqliteOpenError::new(Kind::Damaged, self.path, "is damaged; restore it from a backup").caused_by(error)
            }
        }
    }
}

/// Their records are free and their counts taken over: what is left says nothing.
fn bury(others: Vec<Other>) {
    for other in others {
        if let Other::Dead(dead) = other {
            // A process that finds it once more finds nothing to free.
            let _ = dead.bury();
        }
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    for path in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm"), beside(path, "-journal")] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn create_tables(path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    let sql = Sql::new("", false);
    connection.execute_batch(&format!(
        "PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA application_id = {APPLICATION_ID}; \
         PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN IMMEDIATE;"
    ))?;
    add_tables(&connection, &sql)?;
    connection.execute_batch("COMMIT")?;
    connection.close().map_err(|(_, error)| error)
}

/// Within a transaction, unless they are there.
fn add_tables(connection: &Connection, sql: &Sql) -> rusqlite::Result<()> {
    add_records(connection, sql)?;
    if !sql.index_labels || connection.prepare(&sql.labels.keep).is_ok() {
        return Ok(());
    }
    connection.execute_batch(&sql.labels.table)
}

fn add_records(connection: &Connection, sql: &Sql) -> rusqlite::Result<()> {
    if connection.prepare(&sql.layout).is_ok() {
        return Ok(());
    }
    connection.execute_batch(&sql.tables)?;
    let id = (fresh_nonce().get() >> 1).cast_signed();
    connection.execute(&sql.new_meta, [])?;
    connection.execute(&sql.name, [id]).map(drop)
}

/// Closes the last connection: frees what is still held, and if no other process
/// has the store open, notes that it was closed.
pub(super) fn close(shared: &OpenStore, connection: Connection) {
    // Busy for too long: it is as if the process had died.
    let Ok(Some(entrance)) = Entrance::enter(&shared.place.path, Duration::from_secs(5)) else { return };
    if shared.guard.check().is_err() {
        return;
    }
    if leave(shared, &connection).unwrap_or(false) {
        drop(connection);
        let _ = shared.owner.leave();
    }
    drop(entrance);
}

/// Whether all that this store wrote is in the database, so that its count is
/// needed no more.
fn leave(shared: &OpenStore, connection: &Connection) -> Result<bool, Fault> {
    let others = owner::others(&shared.place.path, &shared.boot, shared.owner.number());
    let others = others.unwrap_or_else(|_| vec![Other::Unknown]);
    let alone = others.iter().all(|other| matches!(other, Other::Dead(_)));
    let mut statements = Statements::new(connection, &shared.sql)?;
    let shut = shared.gate.shut();
    begin(&mut statements)?;
    drop(shut);
    orphans::free(connection, &shared.sql, &mut statements, Held::By(shared.owner.number()))?;
    for other in &others {
        if let Other::Dead(dead) = other {
            orphans::free(connection, &shared.sql, &mut statements, Held::By(dead.number))?;
        }
    }
    if alone {
        connection.execute(&shared.sql.close, [])?;
    }
    let commits = statements.count(shared.clock.now())?;
    statements.commit.execute([])?;
    shared.owner.mark(commits);
    drop(statements);
    let moved = checkpoint::run(connection, if alone { "TRUNCATE" } else { "FULL" })?;
    if moved.all {
        bury(others);
    }
    Ok(moved.all)
}
