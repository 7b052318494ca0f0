//! The SQLite store: what survives, and what is refused.

use super::Mutant;

planted_under!(sqlite, "--test sqlite");

pub(super) const MUTANTS: &[Mutant] = &[
    sqlite(
        "sqlite-without-syncs",
        "src/store/sqlite/connection.rs",
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -{kibibytes};",
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -{kibibytes};",
        "power::what_was_acknowledged",
    ),
    sqlite(
        "sqlite-believes-a-short-wal",
        "src/store/sqlite/evidence.rs",
        "if self.known.is_some_and(|known| known > now.commits) {",
        "if self.known.is_some_and(|known| known > now.commits && false) {",
        "damage::",
    ),
    sqlite(
        "sqlite-commits-not-marked",
        "src/store/sqlite/owner.rs",
        "if self.marked.fetch_max(commits, Ordering::SeqCst) < commits {",
        "if self.marked.fetch_max(commits, Ordering::SeqCst) > commits {",
        "damage::",
    ),
];
