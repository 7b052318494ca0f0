//! Which calls of gRPC are guarded, and how they are refused.

use super::Mutant;

const ADMIT: &str = "src/http/guarded/admit.rs";
const GRPC: &str = "src/http/grpc.rs";

planted_under!(grpc, "--test http", "grpc");

pub(super) const MUTANTS: &[Mutant] = &[
    grpc(
        "a-stream-of-grpc-is-read-first",
        ADMIT,
        "Some(_) if self.policy.coverage.is_unnamed_call(request) =>",
        "Some(_) if false && self.policy.coverage.is_unnamed_call(request) =>",
        "a_call_that_is_not_named_is_not_read",
    ),
    grpc(
        "a-call-passes-unguarded-where-a-key-is-required",
        ADMIT,
        "return Err(Refusal::GrpcMethodNotNamed);",
        "return Ok(());",
        "where_a_key_is_required",
    ),
    grpc(
        "a-call-is-refused-as-http-is",
        "src/http/words.rs",
        "(None, Some(refusal)) if self.is_grpc =>",
        "(None, Some(refusal)) if false && self.is_grpc =>",
        "a_refusal_of_a_call_is_a_status",
    ),
    grpc(
        "a-call-is-accepted-for-later",
        ADMIT,
        ".filter(|_| !is_call(parts.version, &parts.headers));",
        ".filter(|_| true || !is_call(parts.version, &parts.headers));",
        "hooks_and_the_background",
    ),
    grpc(
        "grpc-web-passes-unguarded",
        GRPC,
        "rest.first().is_none_or(|next| b\"+; \\t\".contains(next))",
        "rest.first().is_none_or(|next| b\"+; \\t-\".contains(next))",
        "what_is_no_call_of_grpc",
    ),
    grpc(
        "a-stream-of-a-descriptor-set-is-named",
        GRPC,
        "!all.client_streaming() && !all.server_streaming()",
        "!all.client_streaming() || !all.server_streaming()",
        "descriptors::the_unary_methods",
    ),
];
