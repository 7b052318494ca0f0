//! What is on the wire, over HTTP/1.1 and 2, and what refusals say.

use super::Mutant;

const ADMIT: &str = "src/http/guarded/admit.rs";
const COVERAGE: &str = "src/http/coverage.rs";
const DETACH: &str = "src/util/detached.rs";
const MESSAGE: &str = "src/core/message.rs";
const PROBLEM: &str = "src/http/problem.rs";
const RUN: &str = "src/http/guarded/run.rs";

planted_under!(protocols, "--test protocols");
planted_under!(http, "--test http");

pub(super) const MUTANTS: &[Mutant] = &[
    http(
        "each-replay-tells-the-whole-retention",
        "src/core/record/mod.rs",
        "Some(self.written_at.after(*retention).since(now))",
        "Some(*retention).filter(|_| now > Timestamp::default())",
        "a_client_is_told_how_much_longer",
    ),
    http(
        "a-field-with-a-meaning-marks-replays",
        "src/http/replay_mark.rs",
        "if is_reserved(&name) {",
        "if is_reserved(&name) && false {",
        "a_field_that_has_a_meaning",
    ),
    protocols(
        "rapid-resets-get-round-the-cap",
        RUN,
        "permits).try_acquire_owned() else {",
        "permits).try_acquire_many_owned(0) else {",
        "rapid_resets_with_fresh_keys",
    ),
    protocols(
        "a-reset-ends-the-handler",
        DETACH,
        "self.work.take().filter(|_| !self.stays)",
        "self.work.take().filter(|_| self.stays)",
        "a_reset_in_any_phase",
    ),
    protocols(
        "of-two-key-lines-the-first-counts-on-http-2",
        COVERAGE,
        "if lines.next().is_some() {",
        "if false {",
        "a_key_that_came_twice",
    ),
    protocols(
        "a-hop-of-one-protocol-is-replayed-over-the-other",
        MESSAGE,
        "is_of_one_delivery(name) || named.contains(name);",
        "is_of_one_delivery(name);",
        "an_answer_of_one_protocol",
    ),
    protocols(
        "head-is-guarded",
        COVERAGE,
        "*method == Method::POST || *method == Method::PATCH",
        "*method == Method::POST || *method == Method::PATCH || *method == Method::HEAD",
        "a_head_request",
    ),
    protocols(
        "events-are-held-back-on-the-wire",
        "src/http/streaming.rs",
        "b\"text/event-stream\";",
        "b\"text/other-stream\";",
        "an_event_stream",
    ),
    protocols(
        "a-switch-of-protocols-is-given-twice",
        RUN,
        "if parts.status.is_informational() {",
        "if false {",
        "an_upgrade_with_a_key",
    ),
    http(
        "a-title-that-is-not-the-drafts",
        "src/telemetry/refusal.rs",
        "\"Idempotency-Key is already used\"",
        "\"Idempotency-Key was used\"",
        "problems::the_refusals_of_the_draft",
    ),
    http(
        "one-type-for-all-problems",
        PROBLEM,
        "{types}{name}\",",
        "{types}problem\",\"name\":\"{name}\",",
        "problems::each_problem_has",
    ),
    http(
        "a-required-key-may-be-missing",
        COVERAGE,
        "Required::Always => true,",
        "Required::Always => false,",
        "problems::a_request_that_is_not_corrected",
    ),
    http(
        "a-body-over-the-limit-is-asked-for",
        ADMIT,
        "if length > self.policy.request_limit {",
        "if false {",
        "wire::expect_continue_with_a_length",
    ),
    http(
        "the-key-is-stored",
        "src/core/credential.rs",
        "\"idempotency\",",
        "\"idempotence\",",
        "keys::the_key_is_not_in_what_is_stored",
    ),
    http(
        "caches-are-told-less-by-a-replay",
        MESSAGE,
        "|| [\"keep-alive\", \"proxy-connection\"]",
        "|| [\"keep-alive\", \"pragma\", \"proxy-connection\"]",
        "fidelity::what_caches_are_told",
    ),
    http(
        "a-conditional-patch-runs-again",
        COVERAGE,
        "*method == Method::POST || *method == Method::PATCH",
        "*method == Method::POST",
        "replay::a_retry_gets_the_first_answer",
    ),
];
