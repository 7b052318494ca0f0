//! The memory store: its bounds, and the contract.

use super::Mutant;

const MEMORY: &str = "src/store/memory.rs";

const fn memory(name: &'static str, text: &'static str, instead: &'static str, filter: &'static str) -> Mutant {
    Mutant { name, file: MEMORY, text, instead, target: "--test store", module: "memory", filter }
}

pub(super) const MUTANTS: &[Mutant] = &[
    memory(
        "full-store-drops-the-answer-asked-for",
        "if let Some(current) = lock(&self.shards[home]).record(key) {",
        "if let Some(current) = lock(&self.shards[home]).record(key).filter(|_| false) {",
        "full_it_still_shows",
    ),
    memory(
        "full-store-drops-unfinished-work",
        "record.index_class() == Status::Complete && !record.is_kept_for_good()",
        "!record.is_kept_for_good()",
        "full_of_answers",
    ),
    memory(
        "full-store-drops-the-latest-to-expire",
        "let (_, key) = self.complete.pop_first()?;",
        "let (_, key) = self.complete.pop_last()?;",
        "full_it_drops_those",
    ),
    memory(
        "expired-answers-stay",
        "let expired = shard.take_complete(Some(now));",
        "let expired = Some(now).filter(|_| false).and_then(|now| shard.take_complete(Some(now)));",
        "expired_answers_make_room",
    ),
    Mutant {
        module: "conformance",
        ..memory(
            "memory-store-ignores-expected",
            "if current.map(Record::version) != expected {",
            "if expected.is_none() && current.is_some() {",
            "memory::swap_at",
        )
    },
    Mutant {
        module: "conformance",
        file: "src/core/record/mod.rs",
        ..memory(
            "a-retention-runs-from-the-claim",
            "self.written_at.after(self.due_in())",
            "self.created_at().unwrap_or(self.written_at).after(self.due_in())",
            "memory::a_response_is_kept",
        )
    },
];
