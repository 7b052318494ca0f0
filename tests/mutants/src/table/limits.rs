//! Lengths that are too long, jitter, and what is bounded.

use super::Mutant;

const BACKOFF: &str = "src/backoff.rs";

planted_under!(backoff, "--lib");
planted_under!(setters, "--test setters");

pub(super) const MUTANTS: &[Mutant] = &[
    backoff(
        "lengths-beyond-all-clocks-panic",
        BACKOFF,
        "Duration::try_from_secs_f64(length.as_secs_f64() * factor).unwrap_or(Duration::MAX)",
        "length.mul_f64(factor)",
        "a_length_beyond_all_clocks",
    ),
    setters(
        "times-beyond-all-clocks-panic",
        BACKOFF,
        "now.checked_add(pause).unwrap_or_else(|| now + NEVER)",
        "now + pause.max(NEVER)",
        "no_setter_of_what_works_beside",
    ),
    backoff(
        "back-off-without-jitter",
        BACKOFF,
        "jittered(self.longest(tries), 0.0, 1.0)",
        "self.longest(tries)",
        "pauses_are_spread",
    ),
    backoff(
        "jitter-is-always-the-same",
        BACKOFF,
        "least + (most - least) * fastrand::f64()",
        "least + (most - least) * 0.5",
        "pauses_are_spread",
    ),
];
