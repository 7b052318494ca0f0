//! What an operator decides.

use super::Mutant;

const OPERATOR: &str = "src/operator/mod.rs";
const DECIDE: &str = "src/operator/decide.rs";

planted_under!(operator, "--test workers", "operator");

pub(super) const MUTANTS: &[Mutant] = &[
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
];
