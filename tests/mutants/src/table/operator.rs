//! What an operator decides.

use super::Mutant;

const OPERATOR: &str = "src/operator/mod.rs";
const DECIDE: &str = "src/operator/decide.rs";
const LIST: &str = "src/operator/list.rs";

planted_under!(operator, "--test workers");
planted_under!(alloc, "--test alloc", "listed");
planted_under!(stores, "--test store", "conformance");
planted_under!(redis, "-p servers --test redis", "labels");
planted_under!(complete, "-p servers --test redis", "complete");

pub(super) const MUTANTS: &[Mutant] = &[
    redis(
        "redis-keeps-the-labels-of-what-has-expired",
        "src/store/redis/labels.lua",
        "redis.pcall('PEXPIREAT', index, string.format('%.0f', latest))",
        "redis.pcall('PERSIST', index)",
        "what_ends_leaves_nothing_behind",
    ),
    redis(
        "redis-keeps-the-labels-of-what-was-removed",
        "src/store/redis/remove.lua",
        "if index_labels then index_labels() end",
        "if index_labels and false then index_labels() end",
        "what_ends_leaves_nothing_behind",
    ),
    redis(
        "redis-forgets-the-labels-of-what-is-kept-for-longer",
        "src/store/redis/labels.lua",
        "redis.pcall('ZRANGE', index, -1, -1, 'WITHSCORES')",
        "{name, string.format('%.0f', due)}",
        "what_is_kept_longest_keeps_the_index",
    ),
    operator(
        "operator-decides-about-what-moved-on",
        DECIDE,
        "seen: Some(shown.record.version()), why",
        "seen: None, why",
        "a_decision_about_what_moved_on",
    ),
    operator(
        "operator-decides-about-what-is-in-hand",
        DECIDE,
        "if self.engine.in_hand().has(&shown.key) {",
        "if self.engine.in_hand().has(&shown.key) && false {",
        "what_this_process_still_has_to_save",
    ),
    operator(
        "operator-forgets-what-is-unfinished",
        DECIDE,
        "if shown.record.status() != Status::Complete {",
        "if shown.record.status() != Status::Complete && false {",
        "what_is_complete_can_be_forgotten",
    ),
    operator(
        "operator-forgets-a-callback",
        DECIDE,
        "if shown.record.pending_callback().is_some() {",
        "if shown.record.pending_callback().is_some() && false {",
        "a_callback_is_made_before",
    ),
    operator(
        "operator-shows-what-expired",
        OPERATOR,
        "found.record.filter(|record| !record.is_expired(found.now)).ok_or(OperatorError::Absent)?",
        "found.record.ok_or(OperatorError::Absent)?",
        "what_runs_anew_is_not_forgotten",
    ),
    operator(
        "operator-takes-a-runners-key-for-a-requests",
        OPERATOR,
        "self.show(&Key::of_runner(scope, &parsed(key)?)).await",
        "self.show(&Key::new(scope, &parsed(key)?)).await",
        "what_a_runner_ran",
    ),
    operator(
        "operator-decides-under-the-name-of-the-instance",
        OPERATOR,
        "Self { engine: self.engine.clone().instance(&who), why: self.why.clone() }",
        "Self { engine: self.engine.clone(), why: self.why.clone().filter(|_| !who.is_empty()) }",
        "who_and_why_are_in_the_history",
    ),
    operator(
        "operator-leaves-out-why",
        "src/core/command/resolve.rs",
        "why.map_or_else(|| what.to_owned(), |why| format!(\"{what}: {why}\"))",
        "why.map_or_else(|| what.to_owned(), |_| what.to_owned())",
        "who_and_why_are_in_the_history",
    ),
    operator(
        "operator-says-as-much-as-was-written",
        "src/core/line.rs",
        "if line.len() + c.len_utf8() > most {",
        "if line.len() + c.len_utf8() > most && false {",
        "what_a_person_wrote_is_one_line",
    ),
    operator(
        "operator-ends-a-callback-that-moved-on",
        "src/core/command/callback.rs",
        "if self.seen != current.version() {",
        "if self.seen != current.version() && false {",
        "a_callback_that_was_ended_is_not_made_again",
    ),
    operator(
        "history-shows-a-try-of-a-callback-that-was-ended",
        "src/core/record/history.rs",
        "if self.is_callback_ended() {",
        "if self.is_callback_ended() && false {",
        "a_callback_that_was_ended_is_not_made_again",
    ),
    operator(
        "operator-lists-all-there-is-on-a-page",
        LIST,
        "self.listed.looked_at >= LOOKS",
        "self.listed.looked_at > usize::MAX - LOOKS",
        "a_page_ends_where_it_has_cost_enough",
    ),
    operator(
        "operator-walks-past-the-index-of-labels",
        LIST,
        "clone().filter(|_| self.listed.by_label_index)",
        "clone().filter(|_| false)",
        "an_index_of_labels_spares_a_page",
    ),
    operator(
        "operator-asks-an-index-of-labels-for-what-is-encrypted",
        "src/store/sealing.rs",
        "    fn patience(&self)",
        "    fn indexes_labels(&self) -> bool {\n        self.store.indexes_labels()\n    }\n\n    fn patience(&self)",
        "what_is_encrypted_is_found_by_its_label",
    ),
    operator(
        "operator-loads-all-that-it-looks-at",
        LIST,
        "self.loads >= LOADS",
        "self.loads > usize::MAX - LOADS",
        "a_page_ends_where_it_has_cost_enough",
    ),
    complete(
        "redis-reads-all-that-has-expired",
        "src/store/redis/scan.lua",
        "if backwards and due <= now then return reply() end",
        "if backwards and due <= now and limit == 0 then return reply() end",
        "a_page_ends_at_the_first_that_has_expired",
    ),
    alloc(
        "operator-lists-with-bodies",
        LIST,
        "Box::new(shown.without_bodies())",
        "Box::new(shown)",
        "a_page_and_a_count_hold_no_bodies",
    ),
    operator(
        "operator-lists-what-is-parked-twice",
        LIST,
        "shown.needs_attention() && self.is_of_part(shown)",
        "shown.needs_attention() || self.is_of_part(shown) && false",
        "what_needs_attention_is_parked",
    ),
    operator(
        "operator-lists-what-is-well",
        LIST,
        "shown.needs_attention() && self.is_of_part(shown)",
        "self.is_of_part(shown)",
        "what_only_its_caller_goes_on_with",
    ),
    operator(
        "operator-waits-before-an-outcome-is-unknown",
        "src/operator/shown.rs",
        "self.state() == OperationState::OutcomeUnknown || self.finding().is_some()",
        "self.finding().is_some()",
        "what_needs_attention_is_parked",
    ),
    operator(
        "operator-shows-the-query-to-all",
        "src/operator/json.rs",
        "bodies.map(|_| request.uri().to_string())",
        "request.uri().to_string()",
        "json_has_what_an_operator_needs",
    ),
    stores(
        "complete-records-come-earliest-first",
        "src/store/contract/page.rs",
        "matches!(self, Self::Complete)",
        "matches!(self, Self::Complete) && false",
        "memory::complete_are_found_latest_first",
    ),
    operator(
        "operator-shows-what-is-no-operation",
        OPERATOR,
        "if key.is_control() {",
        "if key.is_control() && false {",
        "a_record_that_is_no_operation",
    ),
    operator(
        "operator-lists-any-label",
        "src/operator/listing.rs",
        "self.label.as_ref().is_none_or(has_label)",
        "self.label.as_ref().is_none_or(|label| has_label(label) || true)",
        "a_label_finds_its_operations",
    ),
];
