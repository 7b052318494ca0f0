//! What of a request counts, and what of it is kept.

use super::Mutant;

const FINGERPRINT: &str = "src/core/fingerprint.rs";
const FORM: &str = "src/http/fingerprint/form.rs";
const GRPC: &str = "src/core/grpc.rs";
const TARGET: &str = "src/http/target.rs";

const UPLOAD: &str = "src/http/upload.rs";

planted_under!(http, "--test http");

pub(super) const MUTANTS: &[Mutant] = &[
    http(
        "redirects-are-results",
        "src/engine/outcome.rs",
        "[u16; 8] = [307, 308, 401,",
        "[u16; 8] = [401, 401, 401,",
        "outcome::a_redirect_can_be_followed",
    ),
    http(
        "moved-patch-is-a-result",
        "src/engine/outcome.rs",
        "MOVED: [u16; 2] = [301, 302];",
        "MOVED: [u16; 2] = [303, 303];",
        "outcome::a_patch_that_is_redirected",
    ),
    http(
        "moved-post-is-routing",
        "src/engine/outcomes.rs",
        "let moved = !self.is_post && MOVED.contains(&number);",
        "let moved = MOVED.contains(&number);",
        "outcome::at_most_once_every",
    ),
    http(
        "status-of-grpc-ignored",
        GRPC,
        "if status != StatusCode::OK {",
        "if status != StatusCode::ACCEPTED {",
        "outcome::a_status_of_grpc",
    ),
    http(
        "status-of-grpc-in-trailers-ignored",
        GRPC,
        "head.into_iter().chain(trailers);",
        "head.into_iter().chain(trailers.into_iter().take(0));",
        "outcome::a_status_of_grpc",
    ),
    http(
        "status-of-grpc-judges-any-answer",
        GRPC,
        "if !kind.is_some_and(|(_, kind)| is_grpc(kind.as_bytes())) {",
        "if kind.is_none() {",
        "outcome::only_a_200_of_grpc",
    ),
    http(
        "replay-mark-in-a-trailer-passes",
        "src/http/body/response.rs",
        "match unmarked(frame).into_data() {",
        "match frame.into_data() {",
        "trailers::a_handler_can_not_call",
    ),
    http(
        "replay-mark-in-a-late-trailer-passes",
        "src/http/body/response.rs",
        ".poll_frame(cx).map_ok(unmarked);",
        ".poll_frame(cx);",
        "trailers::a_handler_can_not_call",
    ),
    http(
        "upload-of-empty-frames-has-no-end",
        UPLOAD,
        "if empty > EMPTY_FRAMES {",
        "if empty > usize::MAX - EMPTY_FRAMES {",
        "uploads::an_upload_of_empty_frames",
    ),
    http(
        "upload-of-empty-trailers-has-no-end",
        UPLOAD,
        "                    empty += 1;\n",
        "",
        "uploads::an_upload_of_empty_frames",
    ),
    http(
        "trailers-of-grpc-do-not-count",
        TARGET,
        "rules.trailers || lines.content_type.is_some_and(is_grpc)",
        "rules.trailers",
        "fingerprint::trailers_of_a_request_count",
    ),
    http(
        "trailers-count-unasked",
        TARGET,
        "rules.trailers || lines.content_type.is_some_and(is_grpc)",
        "rules.trailers || lines.content_type.is_some()",
        "fingerprint::trailers_of_a_request_count",
    ),
    http(
        "trailers-that-were-lost-are-missed",
        FINGERPRINT,
        "self.trailers().zip(other.trailers()).is_none_or(|(one, other)| one == other)",
        "(self.trailers() == other.trailers())",
        "fingerprint::trailers_are_compared_only",
    ),
    http(
        "trailers-of-one-delivery-count",
        TARGET,
        ".filter(|(name, _)| is_of_request(name))",
        "",
        "fingerprint::trailers_that_belong",
    ),
    http(
        "order-of-trailers-counts",
        TARGET,
        "    lines.sort_by_key(|(name, _)| name.as_str());\n",
        "",
        "fingerprint::trailers_of_a_request_count",
    ),
    http(
        "replay-mark-of-an-upstream-passes",
        "src/http/problem.rs",
        "        parts.headers.remove(replayed);\n",
        "",
        "outcome::a_handler_can_not_call",
    ),
    http(
        "switch-of-protocols-is-replayed",
        "src/http/guarded/run.rs",
        "if parts.status.is_informational() {",
        "if parts.status.is_informational() && parts.status.is_success() {",
        "outcome::a_switch_of_protocols",
    ),
    http(
        "dropped-credentials-told-each-time",
        "src/engine/dropped.rs",
        "told.len() < MOST && !told.contains(name) && told.insert(name.clone())",
        "told.len() < MOST && (told.contains(name) || told.insert(name.clone()))",
        "events::a_field_that_is_taken",
    ),
    http(
        "authority-forgotten",
        TARGET,
        "plain.unwrap_or(host)",
        "&plain.unwrap_or(host)[..0]",
        "fingerprint::another_authority",
    ),
    http(
        "host-before-the-target",
        TARGET,
        "named.map_or_else(|| host.unwrap_or_default(), str::as_bytes)",
        "host.unwrap_or_else(|| named.unwrap_or_default().as_bytes())",
        "fingerprint::one_authority",
    ),
    http(
        "further-content-types-forgotten",
        TARGET,
        "lines.has_more |= lines.content_type.is_some();",
        "",
        "fingerprint::every_content_type",
    ),
    http(
        "records-of-the-release-before-refused",
        FINGERPRINT,
        "self.added.zip(other.added).is_none_or(",
        "self.added.zip(other.added).is_some_and(",
        "fingerprint::a_record_of_the_release_before",
    ),
    http(
        "switched-processes-refuse-each-other",
        FINGERPRINT,
        "self.authority.zip(other.authority).is_none_or(",
        "self.authority.zip(other.authority).is_some_and(",
        "fingerprint::processes_with_different_switches",
    ),
    http(
        "boundary-of-multipart-counts",
        FORM,
        "let spelled = spelled.filter(|_| boundary.is_none() || taken_apart.is_some());",
        "let spelled = spelled.filter(|_| boundary.is_none());",
        "fingerprint_rules::multipart_is_compared",
    ),
    http(
        "parts-of-multipart-do-not-count",
        FORM,
        "Some(marked(b\"multipart\", pieces.into_iter().map(Cow::from)))",
        "Some(marked(b\"multipart\", pieces.into_iter().map(Cow::from).take(1)))",
        "fingerprint_rules::multipart_is_compared",
    ),
    http(
        "header-fields-run-together",
        FORM,
        "    counts.push(lines.len().to_string().into_bytes().into());\n",
        "",
        "fingerprint_rules::query_and_header_fields",
    ),
    http(
        "other-rules-refuse-a-retry",
        FINGERPRINT,
        "            false => first,\n",
        "            false => false,\n",
        "fingerprint_rules::a_retry_of_the_same_bytes",
    ),
    http(
        "other-rules-are-compared",
        FINGERPRINT,
        "match rules == others {",
        "match rules == others || rules != others {",
        "fingerprint_rules::a_retry_of_the_same_bytes",
    ),
];
