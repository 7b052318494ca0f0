//! The file store: what survives, and what is refused.

use super::Mutant;

const BATCH: &str = "src/store/file/batch.rs";
const COMMITTER: &str = "src/store/file/committer.rs";

planted_under!(file, "--test file");

pub(super) const MUTANTS: &[Mutant] = &[
    file(
        "file-store-ignores-expected",
        BATCH,
        "        if current.version() != request.expected {",
        "        if request.expected.is_none() && current.version().is_some() {",
        "reopen::a_removed_record",
    ),
    file(
        "acknowledged-before-the-commit",
        BATCH,
        "self.replies.push((request.reply, Outcome::Took));",
        "let _ = request.reply.send(Ok(Outcome::Took));",
        "disk_full::",
    ),
    file(
        "failed-store-goes-on-reading",
        COMMITTER,
        "let _ = shared.failure.set(failed.error.clone());",
        "",
        "disk_full::",
    ),
    file(
        "recovery-drops-an-answer",
        "src/store/file/recover.rs",
        "value(&record.encode())",
        "value(&crate::core::Encoded { head: record.encode().head, fresh: Vec::new() })",
        "reopen::what_was_written_by_a_clock_that_went_back",
    ),
    file(
        "leases-outlive-their-process",
        "src/store/file/recover.rs",
        "let record = record.orphaned(fresh_nonce());",
        "let record = if found.0.get() == 0 { record.orphaned(fresh_nonce()) } else { record };",
        "reopen::the_lease_of_a_dead_process",
    ),
    file(
        "work-waits-for-a-clock-that-went-back",
        "src/store/file/recover.rs",
        "let record = if record.written_at() > now { record.stamped(now) } else { record };",
        "let _ = now;",
        "reopen::what_was_written_by_a_clock",
    ),
    file(
        "journal-not-checked",
        "src/store/file/engine.rs",
        "let whole = version && journal::mend(&path).map_err(|error| OpenError::io(directory.path(), error))?;",
        "let whole = version;",
        "crash::",
    ),
    file(
        "damage-taken-for-a-torn-write",
        "src/store/file/journal.rs",
        "true => Tail::Damaged,",
        "true => Tail::Torn(journal.len() - rest.len()),",
        "crash::damage_before",
    ),
    file(
        "second-opener-let-in",
        "src/store/file/directory.rs",
        "Err(TryLockError::WouldBlock) => return Err(OpenError::new(OpenErrorKind::AlreadyOpen, path)),",
        "Err(TryLockError::WouldBlock) => {}",
        "crash::a_second_opener",
    ),
    file(
        "expired-never-swept",
        COMMITTER,
        "            batch.sweep(&mut self.sweep);\n",
        "",
        "reopen::expired_records_go",
    ),
    Mutant {
        name: "parts-left-behind",
        file: BATCH,
        text: "self.clear_parts(key, old, next);",
        instead: "let _ = old;",
        target: "--lib",
        filter: "store::file::tests::a_step_costs",
    },
];
