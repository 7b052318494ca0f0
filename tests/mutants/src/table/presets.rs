//! Presets, and the settings that were made for them.

use super::Mutant;

planted_under!(retries, "--test http", "retries");
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
