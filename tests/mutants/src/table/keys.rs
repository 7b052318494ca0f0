//! Where the key comes from, and what it counts for.

use super::Mutant;

planted_under!(routes, "--test http", "routes");

pub(super) const MUTANTS: &[Mutant] = &[
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
];
