//! Two builds that share a store.

use super::Mutant;

const SEAL: &str = "src/core/wire/seal.rs";

planted_under!(rollout, "--test engine", "rollout");
planted_under!(unit, "--lib");
planted_under!(golden, "--test engine", "golden");

pub(super) const MUTANTS: &[Mutant] = &[
    rollout(
        "each-write-writes-all-steps-anew",
        "src/core/wire/mod.rs",
        "if all || step.written == self.version {",
        "if all || step.written == self.version || step.attempt > 0 {",
        "what_a_newer_build_began",
    ),
    rollout(
        "sqlite-keeps-a-part-that-it-does-not-know",
        "src/store/sqlite/schema.rs",
        "AND n > ?2",
        "AND n > ?2 + 1000",
        "what_a_newer_build_began",
    ),
    rollout(
        "what-a-newer-build-added-to-a-head-is-dropped",
        "src/core/wire/newer.rs",
        "record.history.set_newer(&self.newer);",
        "",
        "what_a_newer_build_began",
    ),
    golden(
        "a-field-that-is-known-is-written-twice",
        "src/core/wire/newer.rs",
        "const LAST: i64 = 28;",
        "const LAST: i64 = 21;",
        "golden_records_load",
    ),
    unit(
        "what-a-newer-build-shows-is-encrypted",
        "src/core/record/hollow.rs",
        "self.history.set_newer_in_clear(in_clear.newer());",
        "",
        "core::tests::sealed::what_a_newer_release_adds",
    ),
    unit(
        "what-a-newer-build-said-of-a-window-is-dropped",
        "src/engine/plan.rs",
        "fields.as_object_mut()?.extend(value(planned));",
        "fields = Value::Object(value(planned));",
        "engine::plan",
    ),
    rollout(
        "a-newer-format-passes-for-damage",
        SEAL,
        "return Err(DecodeError::Newer(format));",
        "return Err(corrupt());",
        "what_must_not_be_skipped",
    ),
    rollout(
        "a-request-is-fingerprinted-in-another-way",
        "src/http/target.rs",
        "target.query().unwrap_or_default().as_bytes(),",
        "target.query().unwrap_or(\"?\").as_bytes(),",
        "a_request_that_an_earlier_release",
    ),
];
