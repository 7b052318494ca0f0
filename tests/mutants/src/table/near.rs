//! Replays from the memory of the process.

use super::Mutant;

planted_under!(near, "--test http", "near_cache");

pub(super) const MUTANTS: &[Mutant] = &[
    near(
        "what-is-kept-is-never-too-old",
        "src/engine/near/records.rs",
        "if age >= self.max_age || seen.record",
        "if seen.record",
        "what_another_process_forgot",
    ),
    near(
        "what-is-kept-stands-still",
        "src/engine/near/records.rs",
        "let now = seen.now.after(age);",
        "let now = seen.now;",
        "what_is_kept_expires",
    ),
    near(
        "what-is-kept-judges-another-request",
        "src/engine/near/records.rs",
        "seen.record.fingerprint().matches(fingerprint).then(",
        "Some(fingerprint).is_some().then(",
        "another_request",
    ),
    near(
        "what-this-process-removed-is-kept",
        "src/engine/near/mod.rs",
        "if exchange.is_change() {",
        "if exchange.is_change() && false {",
        "what_this_process_changed",
    ),
    near(
        "a-late-reply-is-kept",
        "src/engine/near/records.rs",
        "if self.asking() != asked {",
        "if self.asking() == Asked(u64::MAX) && self.asking() != asked {",
        "a_reply_that_is_older",
    ),
    near(
        "what-is-kept-has-no-bound",
        "src/engine/near/records.rs",
        "settings.max_bytes, Weight",
        "settings.max_bytes << 30, Weight",
        "what_is_kept_is_bounded",
    ),
];
