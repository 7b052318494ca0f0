//! Where the key comes from, and what it counts for.

use super::Mutant;

planted_under!(member, "--test http", "key_member");
planted_under!(routes, "--test http", "routes");
planted_under!(webhooks, "--test http", "webhooks");

pub(super) const MUTANTS: &[Mutant] = &[
    webhooks(
        "a-body-made-anew-is-another-event",
        "src/http/layer/webhooks.rs",
        "FingerprintRules::new().ignore_body()",
        "FingerprintRules::new()",
        "an_event_counts_once",
    ),
    webhooks(
        "a-webhook-that-failed-is-answered-so-for-ever",
        "src/http/layer/webhooks.rs",
        "Outcomes::new().retry_server_errors()",
        "Outcomes::new()",
        "a_failure_of_the_server",
    ),
    routes(
        "route-is-not-part-of-the-key",
        "src/core/key.rs",
        "let parts = [method.as_str(), route, scope, idempotency_key.as_str()];",
        "let parts = [method.as_str(), &route[..0], scope, idempotency_key.as_str()];",
        "a_key_counts_for_one_endpoint",
    ),
    routes(
        "route-is-not-known-further-in",
        "src/http/guarded/admit.rs",
        "parts.extensions.insert(route);",
        "drop(route);",
        "two_layers_around_one_route",
    ),
    routes(
        "route-is-the-path",
        "src/http/route.rs",
        "matched_path(parts).filter(|_| !is_sent_on)",
        "matched_path(parts).filter(|_| false)",
        "of_axum_it_is_the_route",
    ),
    routes(
        "route-stays-with-what-is-sent-on",
        "src/http/route.rs",
        "matched_path(parts).filter(|_| !is_sent_on)",
        "matched_path(parts)",
        "what_a_handler_sends_on",
    ),
    routes(
        "status-forgets-the-route",
        "src/http/status.rs",
        "if !self.shared.policy.scope.is_per_route() {",
        "if self.shared.policy.scope.is_per_route() {",
        "the_status_resource_answers",
    ),
    member(
        "what-a-driven-handler-sends-on-passes",
        "src/http/guarded/admit.rs",
        "(&driven.method, &driven.uri) == (&parts.method, &parts.uri) && driven.scope.is_same(scope)",
        "driven.scope.is_same(scope)",
        "a_completer_drives_through",
    ),
    member(
        "header-and-body-may-differ",
        "src/http/coverage.rs",
        "(Some(one), Some(other)) if one != other => Err(InvalidKey::Differs),",
        "",
        "what_is_no_key_is_refused",
    ),
    member(
        "second-member-counts-for-nothing",
        "src/http/key_member.rs",
        "found = Some(Found::Twice);",
        "",
        "what_is_no_key_is_refused",
    ),
    member(
        "no-member-needs-no-key",
        "src/http/guarded/unread.rs",
        "return match shared.without_key(&mut request) {",
        "return match Ok(()) {",
        "without_the_member_there_is_no_key",
    ),
    member(
        "what-follows-the-json-is-passed-over",
        "src/http/key_member.rs",
        "        body.end().ok()?;\n",
        "",
        "without_the_member_there_is_no_key",
    ),
];
