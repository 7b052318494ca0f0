//! Which SQLite may be used.

use std::path::Path;

use super::error::{SqliteOpenError, SqliteOpenErrorKind};

/// 3.51.3, as the library counts.
const LEAST: i32 = 3_051_003;

/// Refuses a library that may damage what it keeps.
///
/// From 3.7.0 to 3.51.2, a WAL that one connection check-points while another one
/// writes to it may be reset under the writer, and pages go missing. A store does
/// that all the time. Fixes were carried back to some older series, too; which
/// build has them can't be told from its number with certainty, so none is taken.
pub(super) fn check(path: &Path, found: i32) -> Result<(), SqliteOpenError> {
    if found >= LEAST {
        return Ok(());
    }
    let (major, minor, patch) = (found / 1_000_000, found / 1000 % 1000, found % 1000);
    let detail = format!(
        "was not opened: this program runs with SQLite {major}.{minor}.{patch}, and versions before 3.51.3 can damage a \
         database that is check-pointed while it is written to; enable the feature `sqlite-bundled` of \
         tower-idempotency, or link a newer library"
    );
    Err(SqliteOpenError::new(SqliteOpenErrorKind::LibraryTooOld, path, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_may_damage_a_wal_is_refused() {
        let path = Path::new("payment.db");
        for good in [LEAST, 3_052_000, rusqlite::version_number()] {
            check(path, good).unwrap();
        }
        for bad in [3_007_000, 3_040_001, 3_050_007, 3_051_002] {
            let error = check(path, bad).unwrap_err();
            assert_eq!(error.kind(), SqliteOpenErrorKind::LibraryTooOld);
            assert!(error.to_string().contains("3.51.3"), "{error}");
            assert!(error.to_string().contains("sqlite-bundled"), "{error}");
        }
        assert!(check(path, 3_040_001).unwrap_err().to_string().contains("3.40.1"));
    }
}
