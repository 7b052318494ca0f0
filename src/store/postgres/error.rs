//! What went wrong, in words that say what to do.

use std::error::Error as _;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::store::contract::{StoreError, StoreErrorKind};

/// A row that this store did not write.
pub(super) fn not_ours(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, format!("the stored record is not ours or damaged: {what}"))
}

pub(super) fn unavailable(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, message)
}

/// Whether the statement was undone because of what others did at the same
/// time, and may be repeated as it is.
pub(super) fn is_transient(error: &Error) -> bool {
    let code = error.code();
    [&SqlState::T_R_SERIALIZATION_FAILURE, &SqlState::T_R_DEADLOCK_DETECTED].into_iter().any(|one| code == Some(one))
}

/// Whether the tables, or some columns, are not there.
pub(super) fn is_missing(error: &Error) -> bool {
    let missing = [&SqlState::UNDEFINED_TABLE, &SqlState::INVALID_SCHEMA_NAME];
    missing.into_iter().any(|code| error.code() == Some(code))
}

/// Whether the role lacks a right.
pub(super) fn is_denied(error: &Error) -> bool {
    error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
}

/// Whether the connection remembers a statement that the server does not, or
/// not in this way: after a change of the tables, or behind a pooler.
pub(super) fn is_stale_statement(error: &Error) -> bool {
    let stale = [&SqlState::FEATURE_NOT_SUPPORTED, &SqlState::INVALID_SQL_STATEMENT_NAME];
    stale.into_iter().any(|code| error.code() == Some(code))
}

/// Whether this server says that writes belong elsewhere, or that it, or a
/// pooler before it, is lost: another connection may lead to one that takes
/// them. A fatal error ends its session, whatever it says.
pub(super) fn is_not_here(error: &Error) -> bool {
    let Some(db) = error.as_db_error() else { return error.is_closed() };
    let fatal = matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    fatal || is_not_here_code(db.code().code())
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

/// Whether nothing was written, because nothing may be written there.
pub(super) fn is_read_only(error: &Error) -> bool {
    error.code().is_some_and(|code| is_read_only_code(code.code()))
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
    let kind = match *db.code() {
        SqlState::DISK_FULL => StoreErrorKind::Full,
        _ => StoreErrorKind::Unavailable,
    };
    let message = match advice(db) {
        Some(advice) => format!("Postgres refused: {}; {advice}", db.message()),
        None => format!("Postgres refused: {} ({})", db.message(), db.code().code()),
    };
    StoreError::new(kind, message).caused_by(error)
}

/// The same from what makes the tables, which needs other rights.
pub(super) fn of_migration(error: Error) -> StoreError {
    match error.as_db_error() {
        Some(db) if is_denied(&error) => {
            let message = format!(
                "Postgres refused: {}; to make the tables the role needs CREATE on the database, \
                 or on the schema if that is there: run the migration as another role",
                db.message()
            );
            unavailable(message).caused_by(error)
        }
        _ => of(error),
    }
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

fn advice(db: &DbError) -> Option<&'static str> {
    Some(match *db.code() {
        SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME => {
            "run the migration that comes with tower-idempotency, or call PostgresStore::create_schema()"
        }
        SqlState::UNDEFINED_COLUMN | SqlState::DATATYPE_MISMATCH | SqlState::UNDEFINED_FUNCTION => {
            "a table of that name is there and is not ours: set another schema or table prefix, \
             or run the migration that comes with tower-idempotency"
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
        PoolError::Timeout(_) => unavailable("no connection to Postgres became free in time").caused_by(error),
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
