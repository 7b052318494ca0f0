//! What went wrong, in words that say what to do.

use std::error::Error as _;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

use crate::store::contract::{StoreError, StoreErrorKind};

/// A row that this store did not write.
pub(super) fn not_ours(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, format!("the stored record is not ours or damaged: {what}"))
}

pub(super) const NONE_FREE: &str = "no connection to Postgres became free in time";

pub(super) fn unavailable(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, message)
}

/// A statement that failed, whichever driver ran it.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the server, or a pooler before it, said.
    said: Option<Said>,
    /// Whether the connection is no more.
    closed: bool,
    error: StoreError,
}

/// The server's own words.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: SqlState,
    /// Whether it ended the session.
    pub(super) fatal: bool,
    pub(super) message: String,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let said = error.as_db_error().map(|db| Said {
            code: db.code().clone(),
            fatal: matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
            message: db.message().to_owned(),
        });
        Self { said, closed: error.is_closed(), error: of(error) }
    }
}

impl Failure {
    #[cfg(any(feature = "sqlx-postgres", feature = "sqlx-postgres-08"))]
    pub(super) const fn new(said: Option<Said>, closed: bool, error: StoreError) -> Self {
        Self { said, closed, error }
    }

    /// What the store says of it.
    pub(super) fn into_error(self) -> StoreError {
        self.error
    }

    fn is_one_of(&self, codes: &[SqlState]) -> bool {
        self.said.as_ref().is_some_and(|said| codes.contains(&said.code))
    }

    /// Whether the statement was undone because of what others did at the same
    /// time, and may be repeated as it is.
    pub(super) fn is_transient(&self) -> bool {
        self.is_one_of(&[SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED])
    }

    /// Whether the tables, or some columns, are not there.
    pub(super) fn is_missing(&self) -> bool {
        self.is_one_of(&[SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME])
    }

    /// Whether the role lacks a right.
    pub(super) fn is_denied(&self) -> bool {
        self.is_one_of(&[SqlState::INSUFFICIENT_PRIVILEGE])
    }

    /// Whether another connection would do: this one remembers a statement that the server
    /// does not, or not in this way, after a change of the tables or behind a pooler; or it
    /// came out of the application's pool with a transaction that had failed.
    pub(super) fn is_of_this_connection(&self) -> bool {
        self.is_one_of(&[
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::INVALID_SQL_STATEMENT_NAME,
            SqlState::IN_FAILED_SQL_TRANSACTION,
        ])
    }

    /// Whether this server says that writes belong elsewhere, or that it, or a
    /// pooler before it, is lost: another connection may lead to one that takes
    /// them. A fatal error ends its session, whatever it says.
    pub(super) fn is_not_here(&self) -> bool {
        self.said.as_ref().map_or(self.closed, |said| said.fatal || is_not_here_code(said.code.code()))
    }

    /// Whether nothing was written, because nothing may be written there.
    pub(super) fn is_read_only(&self) -> bool {
        self.is_one_of(&[SqlState::READ_ONLY_SQL_TRANSACTION])
    }

    /// The same from what makes the tables, which needs other rights.
    pub(super) fn into_error_of_migration(self) -> StoreError {
        match &self.said {
            Some(said) if self.is_denied() => {
                let message = format!(
                    "Postgres refused: {}; to make the tables the role needs CREATE on the database, \
                     or on the schema if that is there: run the migration as another role",
                    said.message
                );
                unavailable(message).caused_by(self.error)
            }
            _ => self.error,
        }
    }
}

fn is_not_here_code(code: &str) -> bool {
    // Poolers tell with a connection exception, or a plain system error.
    is_read_only_code(code) || ["08", "57P"].iter().any(|class| code.starts_with(class)) || code == "58000"
}

fn is_read_only_code(code: &str) -> bool {
    code == SqlState::READ_ONLY_SQL_TRANSACTION.code()
}

/// Whether it was in the handshake of TLS, or when that was asked for: the driver has no
/// other sign of it than these words.
pub(super) fn is_of_tls(error: &Error) -> bool {
    error.to_string() == "error performing TLS handshake"
}

/// Whether the server takes no such connection, encrypted or not, with this role.
pub(super) fn is_unwelcome(error: &Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// Whether an error in reply to a COMMIT is the server's word that it rolled
/// back. A fatal one is not: it may end a session whose commit is on disk
/// already. Nor is a plain one that a pooler may have made up because it lost
/// the server: those about connections, operators, systems and the unforeseen.
/// 40003 says in so many words that it is unknown.
pub(super) fn says_rolled_back(is_plain: bool, code: &str) -> bool {
    is_plain && !["08", "57", "58", "XX", "40003"].iter().any(|class| code.starts_with(class))
}

pub(super) fn of(error: Error) -> StoreError {
    let Some(db) = error.as_db_error() else {
        let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        let advice = tls_advice(&error).map(|advice| format!("; {advice}")).unwrap_or_default();
        return unavailable(format!("Postgres: {error}{why}{advice}")).caused_by(error);
    };
    refused(db.code(), db.message()).caused_by(error)
}

/// What the server refused, and what to do about it.
pub(super) fn refused(code: &SqlState, message: &str) -> StoreError {
    let kind = match *code {
        SqlState::DISK_FULL => StoreErrorKind::Full,
        _ => StoreErrorKind::Unavailable,
    };
    let message = match advice(code) {
        Some(advice) => format!("Postgres refused: {message}; {advice}"),
        None => format!("Postgres refused: {message} ({})", code.code()),
    };
    StoreError::new(kind, message)
}

fn tls_advice(error: &Error) -> Option<&'static str> {
    if !is_of_tls(error) {
        return None;
    }
    let source = error.source()?;
    if source.to_string() == "server does not support TLS" {
        return Some(
            "turn it on there (ssl = on), or, if what is between may be read and changed, set sslmode=disable",
        );
    }
    #[cfg(feature = "postgres-tls")]
    return super::certificates::advice(source);
    #[cfg(not(feature = "postgres-tls"))]
    None
}

fn advice(code: &SqlState) -> Option<&'static str> {
    Some(match *code {
        SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME => {
            "run the migration that comes with tower-idempotency, or call PostgresStore::create_schema()"
        }
        SqlState::UNDEFINED_COLUMN | SqlState::DATATYPE_MISMATCH | SqlState::UNDEFINED_FUNCTION => {
            "a table of that name is there and is not ours: set another schema or table prefix, \
             or run the migration that comes with tower-idempotency"
        }
        SqlState::INVALID_OBJECT_DEFINITION | SqlState::WRONG_OBJECT_TYPE => {
            "the tables that are there have another number of partitions: set partitions() as they were made"
        }
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "the role needs USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on its tables"
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "see its pg_hba.conf: it may want TLS (sslmode=verify-full), or a client's certificate (sslcert and sslkey)"
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            "this is a standby or a read-only database: name the primary in the URL, \
             or add target_session_attrs=read-write"
        }
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => {
            "a pooler is in between that does not keep prepared statements: set prepared(false)"
        }
        _ => return None,
    })
}

pub(super) fn of_pool(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => of(error),
        PoolError::Timeout(_) => unavailable(NONE_FREE).caused_by(error),
        error => unavailable("no connection to Postgres could be had").caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_not_here_is_told_from_what_fails_anywhere() {
        for code in ["25006", "57P01", "57P02", "57P03", "57P05", "08006", "08P01", "58000"] {
            assert!(is_not_here_code(code), "{code}");
        }
        // Locks, time-outs, disks, rights, conflicts: as bad on a new connection.
        for code in ["55P03", "57014", "53100", "42501", "40001", "23505", "25P02", "XX000"] {
            assert!(!is_not_here_code(code), "{code}");
        }
    }

    #[test]
    fn only_the_servers_own_word_is_a_rollback() {
        // A deferred constraint, a serialization failure, a trigger's own.
        for code in ["23503", "23505", "40001", "40P01", "P0001", "53100"] {
            assert!(says_rolled_back(true, code), "{code}");
            assert!(!says_rolled_back(false, code), "fatal: {code}");
        }
        // As poolers say that they lost the server.
        for code in ["08006", "08P01", "57P01", "57P03", "57014", "58000", "XX000", "40003"] {
            assert!(!says_rolled_back(true, code), "{code}");
        }
    }
}
