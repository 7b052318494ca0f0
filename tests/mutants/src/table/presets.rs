//! Presets, and the settings that were made for them.

use super::Mutant;

planted_under!(retries, "--test http", "retries");
planted_under!(hook, "--test http", "replay_hook");
planted_under!(presets, "--test http", "presets");

pub(super) const MUTANTS: &[Mutant] = &[
    retries(
        "a-failure-does-not-say-whether-to-retry",
        "src/http/guarded/record.rs",
        "            advice.tell(&mut parts.headers, may_help);\n",
        "",
        "failures_say_it",
    ),
    retries(
        "a-retry-helps-where-nothing-is-resumed",
        "src/http/retry_advice.rs",
        "Outcome::Retryable => Some(mode == Mode::Resumable)",
        "Outcome::Retryable => Some(true)",
        "failures_say_it",
    ),
    retries(
        "what-the-handler-says-of-a-retry-is-lost",
        "src/http/retry_advice.rs",
        "is_told && !headers.contains_key(&self.name)",
        "is_told",
        "what_the_handler_says",
    ),
    retries(
        "no-replay-names-the-first-request",
        "src/http/first_request.rs",
        "let id = headers.get(&self.id)",
        "let id = headers.get(&self.name)",
        "a_replay_names",
    ),
    hook(
        "what-was-accepted-replays-without-its-hook",
        "src/http/accept.rs",
        "self.respond_as_hooked(Claimed::Replay(stored, left), attempt).await",
        "self.respond(Claimed::Replay(stored, left), attempt)",
        "every_replay",
    ),
    hook(
        "a-hook-frames-the-message",
        "src/http/guarded/replay.rs",
        "        response.headers_mut().remove(CONTENT_LENGTH);\n",
        "        let _ = CONTENT_LENGTH;\n",
        "what_the_hook_gives",
    ),
    hook(
        "a-hook-answers-with-an-interim-response",
        "src/http/guarded/replay.rs",
        ".filter(|response| !response.status().is_informational())",
        "",
        "a_hook_that_fails",
    ),
    presets(
        "a-transient-error-keeps-the-key",
        "src/http/presets/adyen.rs",
        "_ if is_transient && response.can_free_key()",
        "_ if is_transient && response.status().is_success()",
        "adyen::after_a_transient",
    ),
    presets(
        "paypal-creates-again",
        "src/http/presets/paypal.rs",
        "*response.status_mut() = StatusCode::OK;",
        "*response.status_mut() = StatusCode::CREATED;",
        "paypal::a_replay",
    ),
    presets(
        "a-failure-is-the-result-of-stripe-v2",
        "src/http/presets/stripe_v2.rs",
        "Outcomes::success_only()",
        "Outcomes::store_everything()",
        "stripe_v2::a_failed_request",
    ),
    presets(
        "an-old-request-runs-anew",
        "src/http/guarded/age.rs",
        "return Some(self.refuse(Refusal::TooOld));",
        "return None;",
        "oasis::a_request_older",
    ),
    presets(
        "what-is-known-is-too-old",
        "src/http/guarded/age.rs",
        ".filter(|record| !record.is_expired(loaded.now))",
        ".filter(|record| record.response().is_none())",
        "oasis::a_request_older",
    ),
    presets(
        "an-expired-record-is-known",
        "src/http/guarded/age.rs",
        ".filter(|record| !record.is_expired(loaded.now))",
        "",
        "oasis::a_request_older",
    ),
    presets(
        "a-time-alone-passes",
        "src/http/guarded/admit.rs",
        "None if self.policy.coverage.says_first_sent(request.headers()) => Err(Refusal::FirstSentInvalid),",
        "",
        "oasis::one_of_the_two",
    ),
    presets(
        "any-date-is-a-time",
        "src/http/first_sent.rs",
        ".filter(|time| fmt_http_date(*time) == text)",
        "",
        "oasis::a_first_sent_time",
    ),
    presets(
        "what-is-skipped-runs-with-a-key",
        "src/http/guarded/admit.rs",
        "return if self.policy.coverage.refuses(request) { Err(Refusal::NotGuarded) } else { Ok(None) };",
        "return Ok(None);",
        "oasis::what_can_not",
    ),
    presets(
        "another-method-runs-with-a-key",
        "src/http/service.rs",
        "if self.shared.policy.coverage.refuses(&request) {",
        "if false {",
        "oasis::what_can_not",
    ),
    presets(
        "what-may-have-run-is-rejected",
        "src/http/acceptance.rs",
        "Refusal::Interrupted | Refusal::OutcomeUnknown | Refusal::NotRetained => Some(true)",
        "Refusal::Interrupted | Refusal::NotRetained => Some(true)",
        "oasis::what_may_have",
    ),
    presets(
        "case-counts-of-oasis-ids",
        "src/http/key_rules.rs",
        "if self.ignores_case { key.to_lower_case() } else { key }",
        "key",
        "oasis::ids_are_uuids",
    ),
    presets(
        "the-draft-takes-bare-keys",
        "src/http/presets/ietf.rs",
        "KeyRules::new().strict()",
        "KeyRules::new()",
        "ietf::a_key_is",
    ),
    presets(
        "stripe-runs-again-after-a-500",
        "src/http/presets/stripe_v1.rs",
        ".outcomes(Outcomes::store_everything())",
        ".outcomes(Outcomes::new())",
        "stripe_v1::every_response",
    ),
    presets(
        "a-preset-shortens-the-retention",
        "src/engine/mod.rs",
        "shared.limits.retention.max(retention)",
        "retention",
        "stripe_v1::a_key_is_remembered",
    ),
];
