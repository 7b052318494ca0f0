//! Two builds that share a store.

use super::Mutant;

const SEAL: &str = "src/core/wire/seal.rs";

planted_under!(rollout, "--test engine", "rollout");

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
