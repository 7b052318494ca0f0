//! The SQLite store: what survives, and what is refused.

use super::Mutant;

const EVIDENCE: &str = "src/store/sqlite/evidence.rs";
const INSPECT: &str = "src/store/sqlite/inspect.rs";
const OPEN: &str = "src/store/sqlite/open.rs";
const LABELS: &str = "src/store/sqlite/labels.sql";
const PLAN: &str = "src/store/sqlite/plan.rs";
const WRITER: &str = "src/store/sqlite/writer.rs";

planted_under!(sqlite, "--test sqlite");

pub(super) const MUTANTS: &[Mutant] = &[
    sqlite(
        "a-label-does-not-follow-its-record",
        LABELS,
        "SET complete = NEW.status = 2, due = NEW.due",
        "SET due = NEW.due",
        "labels::a_store_that_knows_no_index",
    ),
    sqlite(
        "a-label-outlives-its-record",
        LABELS,
        "DELETE FROM \"labels\" WHERE record = OLD.id;",
        "DELETE FROM \"labels\" WHERE record = -OLD.id;",
        "labels::a_row_goes_with_its_record",
    ),
    sqlite(
        "a-label-that-was-replaced-stays",
        PLAN,
        "if is_over && (put.is_first() || !tags.is_empty()) {",
        "if is_over && put.is_first() {",
        "labels::a_row_goes_with_its_record",
    ),
    sqlite(
        "a-lock-that-a-child-holds-hides-damage",
        EVIDENCE,
        "others.iter().filter_map(Other::commits).max()",
        "others.iter().filter(|other| matches!(other, Other::Dead(_))).filter_map(Other::commits).max()",
        "damage::a_lock_that_a_child_holds",
    ),
    sqlite(
        "fewer-expired-records-go-than-come",
        WRITER,
        "self.sweep(now, writes + 1)",
        "self.sweep(now, writes / 2)",
        "reopen::expired_records_go",
    ),
    sqlite(
        "one-that-can-not-be-read-keeps-others-from-going",
        WRITER,
        "most.saturating_add(PASSED_OVER)",
        "most.saturating_sub(1)",
        "reopen::one_that_can_not_be_read",
    ),
    sqlite(
        "a-transaction-outlasts-a-short-lease",
        "src/store/sqlite/enlisted/mod.rs",
        "Duration::from_millis(shortest.unsigned_abs() / 3)",
        "Duration::from_millis(shortest.unsigned_abs() * 3)",
        "locks::plain::a_transaction_may_take_a_third",
    ),
    sqlite(
        "a-transaction-keeps-no-gate-shut",
        "src/store/sqlite/turn.rs",
        "            shut => break shut,\n",
        "            shut => break shut.filter(|_| false),\n",
        "locks::plain::what_waits_for_a_transaction",
    ),
    sqlite(
        "writes-are-not-synced",
        "src/store/sqlite/connection.rs",
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -{kibibytes};",
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -{kibibytes};",
        "power::",
    ),
    sqlite(
        "lost-transactions-are-not-missed",
        EVIDENCE,
        "check_count(self.path, self.known, now.commits)",
        "check_count(self.path, None, now.commits)",
        "damage::a_wal_that_was_cut_short",
    ),
    sqlite(
        "owner-does-not-note-commits",
        "src/store/sqlite/owner.rs",
        "if self.marked.fetch_max(commits, Ordering::SeqCst) < commits {",
        "if self.marked.fetch_max(commits, Ordering::SeqCst) > commits {",
        "damage::a_wal_that_was_cut_short",
    ),
    sqlite(
        "damage-before-the-end-is-taken-for-the-end",
        EVIDENCE,
        "            if wal.is_damaged && !self.is_exact {\n",
        "            if wal.is_damaged && wal.commits == 0 && !self.is_exact {\n",
        "damage::a_bad_frame",
    ),
    sqlite(
        "a-store-that-is-gone-is-made-anew",
        OPEN,
        "        check_absence(self.path, was_there, others)?;\n",
        "        let _ = (was_there, check_absence);\n",
        "damage::a_database_that_was_closed_and_is_gone",
    ),
    sqlite(
        "leases-outlive-their-process",
        OPEN,
        "                if let Other::Dead(dead) = other {\n                    orphans::free",
        "                if let Other::Dead(dead) = other && dead.number == 0 {\n                    orphans::free",
        "processes::what_a_killed_process_held",
    ),
    sqlite(
        "acknowledged-before-the-commit",
        WRITER,
        "            Ok(done) => return self.commit(writes, done),",
        "            Ok(done) => {\n                let _ = self.commit(Vec::new(), vec![Done::Conflict(None)]);\n                \
         return reply_all(writes, done, Health::Sound);\n            }",
        "reopen::",
    ),
    sqlite(
        "expired-never-swept",
        WRITER,
        "        expired.iter().try_for_each(|(key, columns)| self.statements.remove(key, columns))\n",
        "        expired.iter().take(0).try_for_each(|(key, columns)| self.statements.remove(key, columns))\n",
        "reopen::expired_records_go",
    ),
    sqlite(
        "clock-that-went-back-holds-work-up",
        OPEN,
        "            if meta.seen > now {\n",
        "            if meta.seen > now && now < 0 {\n",
        "reopen::what_was_written_by_a_clock",
    ),
    sqlite(
        "transactions-begin-behind-a-doubt",
        super::START,
        "matches!(self, Self::Act | Self::Undo)",
        "matches!(self, Self::Undo)",
        "together::shared::nothing_commits",
    ),
    sqlite(
        "answers-commit-behind-a-doubt",
        super::START,
        "matches!(self, Self::Act | Self::Undo)",
        "matches!(self, Self::Undo)",
        "together::shared::no_answer_commits",
    ),
    sqlite(
        "rows-commit-without-their-recovery-point",
        "src/engine/operation/transaction.rs",
        "vec![Change::Save { step: step.as_str().into(), value: bytes }]",
        "{\n            drop(bytes);\n            vec![Change::Renew]\n        }",
        "together::shared::whatever_the_store_does",
    ),
    sqlite(
        "a-torn-check-point-is-damage",
        INSPECT,
        "error.kind() == Kind::Damaged && has_wal(path)",
        "error.kind() == Kind::Damaged && !has_wal(path)",
        "damage::a_check_point_that_power_loss_tore",
    ),
];
