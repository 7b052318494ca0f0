//! Lengths that are too long, jitter, nonces, and what is bounded.

use super::Mutant;

const BACKOFF: &str = "src/util/backoff.rs";
const NONCE: &str = "src/util/nonce.rs";

planted_under!(unit, "--lib");
planted_under!(kept, "--test http", "kept");
planted_under!(alloc, "--test alloc");
planted_under!(background, "--test http", "background");
planted_under!(redacted, "--test http", "redacted");
planted_under!(http, "--test http");
planted_under!(nonces, "--test engine", "nonces");
planted_under!(setters, "--test setters");

pub(super) const MUTANTS: &[Mutant] = &[
    unit(
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
    unit(
        "back-off-without-jitter",
        BACKOFF,
        "jittered(self.longest(tries), 0.0, 1.0)",
        "self.longest(tries)",
        "pauses_are_spread",
    ),
    unit(
        "jitter-is-always-the-same",
        BACKOFF,
        "least + (most - least) * fastrand::f64()",
        "least + (most - least) * 0.5",
        "pauses_are_spread",
    ),
    unit(
        "nonces-drawn-ahead-survive-a-fork",
        NONCE,
        "if self.left == 0 || self.process != process {",
        "if self.left == 0 {",
        "the_pool_of_another_process",
    ),
    nonces(
        "nonces-from-what-can-be-seeded",
        NONCE,
        "u64::from_ne_bytes(self.numbers[self.left])",
        "fastrand::u64(1..)",
        "of_two_workers",
    ),
    unit(
        "clock-follows-the-systems-steps",
        "src/util/clock.rs",
        "self.start.after(self.since.elapsed())",
        "Timestamp::default().after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())",
        "once_it_is_made",
    ),
    unit(
        "hints-without-bound",
        "src/util/signal.rs",
        "mpsc::channel(HINTS)",
        "mpsc::channel(HINTS * 10)",
        "hints_that_are_not_taken",
    ),
    unit(
        "unsaved-answers-without-bound",
        "src/engine/unpersisted.rs",
        "if all.len() < MOST || all.contains_key(&key) {",
        "if all.len() < usize::MAX || all.contains_key(&key) {",
        "answers_that_can_not_be_saved",
    ),
    http(
        "claims-taken-back-without-bound",
        "src/engine/process.rs",
        "Semaphore::new(WITHDRAWING)",
        "Semaphore::new(WITHDRAWING * 1000)",
        "taken_back",
    ),
    kept(
        "bodies-kept-with-the-buffer-they-were-read-into",
        "src/core/message.rs",
        "if body.len() <= COPIED { Bytes::copy_from_slice(&body) } else { body }",
        "if body.len() <= COPIED { body } else { body }",
        "",
    ),
    alloc(
        "header-values-kept-with-the-buffer-they-were-read-into",
        "src/core/message.rs",
        "copy.unwrap_or_else(|_| value.clone());",
        "copy.map_or_else(|_| value.clone(), |_| value.clone());",
        "held::the_memory_store_counts_what_it_holds_of_large_headers",
    ),
    alloc(
        "status-builds-a-tree-of-what-it-passes-on",
        "src/http/status.rs",
        "out.extend_from_slice(text.trim_ascii().as_bytes());",
        "let _ = serde_json::from_str::<Value>(text).map(|tree| serde_json::to_writer(out, &tree));",
        "status::",
    ),
    alloc(
        "targets-kept-with-the-buffer-they-were-read-into",
        "src/core/message.rs",
        "method.clone(), copied(uri), headers, body, trailers, None)",
        "method.clone(), uri.clone(), headers, body, trailers, None)",
        "held::the_memory_store_counts_what_it_holds_of_long_queries",
    ),
    background(
        "dropped-steps-are-not-done",
        "src/core/record/entry.rs",
        "kept.dropped_done.saturating_add(u32::from(dropped.is_step_done()))",
        "kept.dropped_done",
        "status::the_steps_that_are_done_do_not_become_fewer",
    ),
    redacted(
        "debug-shows-results-of-steps",
        "src/core/record/step.rs",
        "write!(f, \"Saved({} bytes)\", value.len())",
        "write!(f, \"Saved({value:?})\")",
        "no_debug_shows_what_is_kept",
    ),
];
