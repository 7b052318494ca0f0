//! The memory store: its bounds, and the contract.

use super::Mutant;

const MEMORY: &str = "src/store/memory/mod.rs";
const ORDER: &str = "src/store/memory/order.rs";
const SHARD: &str = "src/store/memory/shard.rs";
const SCAN: &str = "src/store/memory/scan.rs";
const PACKED: &str = "src/core/packed.rs";

const fn memory(name: &'static str, text: &'static str, instead: &'static str, filter: &'static str) -> Mutant {
    Mutant { name, file: MEMORY, text, instead, target: "--test store", module: "memory", filter }
}

/// What a scan would no longer find.
const fn ordered(name: &'static str, file: &'static str, text: &'static str, instead: &'static str) -> Mutant {
    Mutant { file, module: "orders", ..memory(name, text, instead, "any_history") }
}

planted_under!(packed, "--lib", "core::tests::packed");
planted_under!(looking, "--lib", "store::memory::scan::tests");

pub(super) const MUTANTS: &[Mutant] = &[
    memory(
        "full-store-drops-the-answer-asked-for",
        "if let Some(current) = shard.record(key) {",
        "if let Some(current) = shard.record(key).filter(|_| false) {",
        "full_it_still_shows",
    ),
    Mutant {
        file: ORDER,
        ..memory(
            "full-store-drops-unfinished-work",
            "Status::Pending | Status::Paid => Self::Unfinished,",
            "Status::Pending | Status::Paid => Self::Droppable,",
            "full_of_answers",
        )
    },
    Mutant {
        file: ORDER,
        ..memory(
            "full-store-drops-the-latest-to-expire",
            "self.places.pop_first()",
            "self.places.pop_last()",
            "full_it_drops_those",
        )
    },
    memory(
        "expired-answers-stay",
        "let expired = shard.take_complete(Some(now));",
        "let expired = Some(now).filter(|_| false).and_then(|now| shard.take_complete(Some(now)));",
        "expired_answers_make_room",
    ),
    packed(
        "sensitive-headers-are-packed-as-others",
        PACKED,
        "length | if value.is_sensitive() { SENSITIVE } else { 0 }",
        "length",
        "it_comes_back",
    ),
    packed(
        "a-known-value-is-packed-for-another",
        "src/core/wire/known.rs",
        "(known.as_bytes() == value.as_bytes()).then_some(number)",
        "(known.len() == value.len()).then_some(number)",
        "it_comes_back",
    ),
    packed(
        "a-known-name-is-packed-for-another",
        "src/core/wire/known.rs",
        "(known == name).then_some(number)",
        "(known.as_str().len() == name.as_str().len()).then_some(number)",
        "it_comes_back",
    ),
    packed(
        "a-packed-number-loses-its-highest-byte",
        PACKED,
        "        let zeros = number.leading_zeros() / 8;",
        "        let zeros = number.leading_zeros().div_ceil(8);",
        "it_comes_back",
    ),
    packed(
        "names-of-http-2-are-not-read-back",
        "src/core/message.rs",
        "HeaderName::from_lowercase(bytes).or_else(|_| HeaderName::from_bytes(bytes)).ok()",
        "HeaderName::from_bytes(bytes).ok()",
        "it_comes_back",
    ),
    packed(
        "much-is-packed-that-is-read-under-a-lock",
        PACKED,
        "            || behind > COPIED;",
        "            || response.body().is_some_and(|body| body.len() > COPIED);",
        "one_that_has_more",
    ),
    packed(
        "trailers-are-packed-as-headers",
        PACKED,
        "        head.put_small(response.headers().len() as u64);\n        head.put_small(response.trailers().len() as u64);",
        "        head.put_small((response.headers().len() + response.trailers().len()) as u64);\n        head.put_small(0);",
        "it_comes_back",
    ),
    packed(
        "an-authority-is-not-packed",
        PACKED,
        "    head.put_small(number(authority));",
        "    head.put_small(0);",
        "it_comes_back",
    ),
    packed(
        "a-history-is-lost-when-packed",
        PACKED,
        "            || record.history != History::default()\n",
        "",
        "one_that_has_more",
    ),
    packed(
        "rules-are-lost-when-packed",
        "src/core/fingerprint.rs",
        "self.rare.is_none().then_some((authority, content))",
        "Some((authority, content))",
        "one_that_has_more",
    ),
    Mutant {
        module: "conformance",
        file: SHARD,
        ..memory(
            "memory-store-ignores-expected",
            "if current.map(Kept::version) != expected {",
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
    ordered(
        "memory-index-keeps-what-was-overwritten",
        SHARD,
        "if let Some((class, due)) = old_turn {",
        "if let Some((class, due)) = old_turn.filter(|_| false) {",
    ),
    ordered(
        "memory-index-keeps-what-was-removed",
        SHARD,
        "self.orders[class as usize].remove(&Cursor { due, key: *key });\n        Some(kept)",
        "let _ = (class, due);\n        Some(kept)",
    ),
    ordered(
        "memory-index-keeps-the-complete-among-the-unfinished",
        SHARD,
        "let (class, due) = turn;",
        "let (class, due) = (old_turn.map_or(turn.0, |old| old.0), turn.1);",
    ),
    ordered(
        "memory-index-sees-a-new-time-alone",
        SHARD,
        "if old_turn != Some(turn) {",
        "if old_turn.map(|old| old.1) != Some(turn.1) {",
    ),
    looking(
        "memory-scan-ends-with-the-first-batch",
        SCAN,
        "self.spent = looked < self.batch;",
        "self.spent = looked < usize::MAX;",
        "what_has_a_label",
    ),
    ordered(
        "memory-scan-has-the-latest-first",
        SCAN,
        "if latest_first { Self::Latest(place) } else { Self::Earliest(Reverse(place)) }",
        "if latest_first { Self::Earliest(Reverse(place)) } else { Self::Latest(place) }",
    ),
    looking(
        "memory-poll-walks-through-all",
        ORDER,
        "places.take_while(move |place|",
        "places.filter(move |place|",
        "a_poll",
    ),
    looking(
        "memory-page-looks-at-all",
        SCAN,
        "4 + query.limit / shards.len()",
        "4 + query.limit * shards.len()",
        "a_page",
    ),
    looking("memory-count-looks-at-all", ORDER, ".take(most).count()", ".count().min(most)", "a_count"),
];
