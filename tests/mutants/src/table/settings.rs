//! What can be set about the layer: which responses count as what, and who waits.

use super::Mutant;

const OUTCOMES: &str = "src/engine/outcomes.rs";

const RECORD: &str = "src/http/guarded/record.rs";
const RUN: &str = "src/http/guarded/run.rs";
const STORED: &str = "src/http/guarded/stored.rs";
const WAIT: &str = "src/http/guarded/wait.rs";
const WAITING: &str = "src/engine/waiting.rs";

planted_under!(outcomes, "--test http", "outcomes");
planted_under!(words, "--test http", "words");
planted_under!(redaction, "--test http", "redaction");
planted_under!(streams, "--test http", "streams");
planted_under!(waiting, "--test http", "waiting");
planted_under!(lease, "--test http", "lease");
planted_under!(cors, "--test stack", "cors");
planted_under!(testing, "--test testing");
planted_under!(corpus, "--lib", "corpus");

pub(super) const MUTANTS: &[Mutant] = &[
    corpus(
        "what-is-in-quotes-is-a-preference",
        "src/http/prefer.rs",
        "c == ',' && !quoted",
        "c == ','",
        "every_line_is_preferences",
    ),
    corpus(
        "a-longest-key-is-not-looked-at",
        "src/http/key_rules.rs",
        "if text.len() > self.max {",
        "if text.len() > self.max + 1000 {",
        "every_line_is_a_key",
    ),
    testing(
        "a-test-dies-after-the-work-with-its-result-stored",
        "src/testing/crash.rs",
        "At::AfterWork(step) => (is_done(step), Fate::DiesBefore)",
        "At::AfterWork(step) => (is_done(step), Fate::DiesAfter)",
        "crashes::it_dies_where",
    ),
    testing(
        "a-dead-process-goes-on",
        "src/testing/process.rs",
        "if self.is_dead() {",
        "if false {",
        "crashes::no_call_of",
    ),
    testing(
        "a-new-step-is-not-seen",
        "src/testing/crash.rs",
        "!known.iter().any(|other| **other == **name)",
        "known.is_empty() && name.is_empty()",
        "replays::",
    ),
    testing(
        "a-missed-step-is-not-seen",
        "src/testing/replay.rs",
        "Some(output) if missed.is_empty() => Ok(output)",
        "Some(output) => Ok(output)",
        "replays::",
    ),
    testing(
        "a-recording-has-steps-in-doubt",
        "src/testing/recording.rs",
        "points.all(|point| *point != Point::Begun)",
        "points.all(|_| true)",
        "replays::what_is_in_doubt",
    ),
    cors(
        "a-browser-may-not-ask-to-wait",
        "src/http/layer/cors.rs",
        "is_accepted_later || policy.wait.is_some()",
        "is_accepted_later",
        "what_may_be_sent",
    ),
    cors(
        "a-script-sees-no-mark-but-the-usual-one",
        "src/http/layer/cors.rs",
        "policy.words.replayed.name.clone()",
        "crate::http::header::REPLAYED",
        "what_may_be_read",
    ),
    cors(
        "a-script-can-not-read-a-field-of-a-problem",
        "src/http/layer/cors.rs",
        "REPLAY_UNAVAILABLE, RETRY_AFTER, LINK]",
        "REPLAY_UNAVAILABLE, RETRY_AFTER]",
        "no_field_of_a_problem",
    ),
    words(
        "a-hook-hides-the-refusal",
        "src/http/words.rs",
        "    response.extensions_mut().insert(problem.refusal);\n",
        "",
        "a_hook_says_every_problem",
    ),
    words(
        "left-out-headers-are-stored",
        STORED,
        "filter.is_none_or(|filter| filter.lets_through(name) ",
        "filter.is_none_or(|filter| true || filter.lets_through(name) ",
        "retries_get_the_header_fields",
    ),
    words(
        "retention-of-a-response-does-not-count",
        "src/engine/attempt/reached.rs",
        "Retention::said(said).unwrap_or(self.limits.retention)",
        "Retention::said(said).filter(|_| false).unwrap_or(self.limits.retention)",
        "a_response_is_kept_for_as_long",
    ),
    redaction(
        "what-a-hook-failed-on-is-stored",
        "src/http/redaction.rs",
        "catch_unwind(AssertUnwindSafe(|| hook(message))).is_ok()",
        "catch_unwind(AssertUnwindSafe(|| hook(message))).is_ok() || true",
        "nothing_is_stored_that_a_hook",
    ),
    redaction(
        "a-request-is-stored-as-it-came",
        STORED,
        "let kept = own(request.body, &body.bytes);",
        "let kept = body.bytes.clone();",
        "a_completer_gets_what_is_stored",
    ),
    redaction(
        "a-response-is-stored-as-it-came",
        STORED,
        "Some(body) => Ok(own(body, &before)),",
        "Some(_) => Ok(before),",
        "the_first_client_gets",
    ),
    redaction(
        "the-first-client-is-not-told-of-a-redaction",
        RECORD,
        "stored.as_ref().and_then(|stored| stored.not_retained())",
        "stored.as_ref().and_then(|stored| stored.not_retained()).filter(|why| *why != NotRetained::Redacted)",
        "both_clients_are_told",
    ),
    outcomes(
        "a-4xx-after-a-step-is-forgotten",
        OUTCOMES,
        " && !self.reached_step() && ",
        " && ",
        "once_a_step_was_reached",
    ),
    outcomes(
        "a-4xx-that-no-client-saw-is-forgotten",
        OUTCOMES,
        " && !detached::is_left()",
        "",
        "a_4xx_whose_client_left",
    ),
    outcomes(
        "a-4xx-of-a-later-attempt-is-retried",
        OUTCOMES,
        "self.attempt.claimed().starts_here() && ",
        "",
        "after_another_attempt",
    ),
    outcomes(
        "a-4xx-of-what-was-accepted-is-retried",
        "src/core/record/mod.rs",
        "self.attempts == 1 && self.has_no_past() && !self.accepted",
        "self.attempts == 1",
        "what_was_accepted",
    ),
    outcomes(
        "an-invalid-request-keeps-its-key",
        OUTCOMES,
        "Mode::Resumable if self.status.is_client_error() && self.can_free_key()",
        "Mode::Resumable if false",
        "a_corrected_request",
    ),
    outcomes(
        "success-only-runs-a-failure-again",
        OUTCOMES,
        "(Outcome::Final, Mode::AtMostOnce) => Outcome::Retryable,",
        "(Outcome::Final, Mode::AtMostOnce) => Outcome::NothingHappened,",
        "each_ready_made_rule",
    ),
    outcomes(
        "server-errors-count-by-the-rule",
        OUTCOMES,
        "self.server_errors.filter(|_| response.has_failed())",
        "self.server_errors.filter(|_| false)",
        "server_errors_are_stored",
    ),
    outcomes(
        "a-rule-counts-more-than-the-handler",
        OUTCOMES,
        "said.unwrap_or_else(|| self.judge(response))",
        "said.filter(|_| false).unwrap_or_else(|| self.judge(response))",
        "what_the_handler_says",
    ),
    lease(
        "retry-after-does-not-grow",
        "src/http/guarded/respond.rs",
        "if is_overdue { left } else { retry_after(met.age) }",
        "if is_overdue { left } else { retry_after(met.age.min(left)) }",
        "a_busy_client_is_told_to_ask",
    ),
    lease(
        "the-age-of-the-operation-counts",
        "src/core/record/history.rs",
        "claim.or(self.created_at).unwrap_or(self.written_at)",
        "self.created_at.or(claim).unwrap_or(self.written_at)",
        "a_busy_client_is_told_to_ask",
    ),
    waiting(
        "those-that-wait-ask-the-store",
        WAITING,
        "room.state.send_replace(State::Held);",
        "room.state.send_replace(State::Elsewhere);",
        "ten_thousand_wait",
    ),
    waiting(
        "all-that-wait-ask-the-store",
        WAITING,
        "turn: Semaphore::new(1)",
        "turn: Semaphore::new(1_000)",
        "for_another_process",
    ),
    waiting(
        "a-holder-that-died-keeps-them-waiting",
        WAITING,
        "*state = State::Elsewhere;",
        "*state = State::Held;",
        "a_holder_that_panics",
    ),
    waiting(
        "what-is-not-stored-is-not-told",
        RECORD,
        "is_final || is_awaited && content.is_ok()",
        "is_final",
        "they_get_the_one_response",
    ),
    waiting(
        "those-that-wait-keep-their-places",
        RUN,
        "drop((permit, body));",
        "std::mem::forget(permit);\n                drop(body);",
        "those_that_wait_keep_none",
    ),
    waiting(
        "those-that-wait-keep-the-service",
        RUN,
        "let context = self.into_context();\n                Worked::GoesOn(Boxed::new(async move { Ok(context.",
        "let Self { service, context, .. } = *self;\n                Worked::GoesOn(Boxed::new(async move { Ok((service, context).1.",
        "those_that_wait_hold_neither",
    ),
    waiting(
        "the-client-waits-longer-than-the-limit",
        WAIT,
        ".map_or(limit, |wished| wished.min(limit))",
        ".unwrap_or(limit)",
        "after_the_limit",
    ),
    waiting("a-client-that-left-goes-on-waiting", WAIT, "match is_left() {", "match false {", "so_many_wait"),
    streams(
        "the-time-of-a-stream-is-not-what-was-set",
        RUN,
        "patience(&parts.headers, policy.stream_after)",
        "patience(&parts.headers, std::time::Duration::from_secs(5))",
        "a_response_is_held_back",
    ),
    streams(
        "what-says-that-it-is-a-stream-is-read-first",
        RUN,
        "} else if is_stream {",
        "} else if is_stream && false {",
        "what_says_that_it_is_a_stream",
    ),
];
