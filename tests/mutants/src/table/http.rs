//! The layer: what a client is promised.

use super::{Mutant, TRANSITION};

const ATTEMPT: &str = "src/attempt.rs";
const BODY: &str = "src/body.rs";
const DETACH: &str = "src/detach.rs";
const KEY: &str = "src/core/key.rs";
const MESSAGE: &str = "src/core/message.rs";
const RESPONSE: &str = "src/response.rs";
const RUN: &str = "src/run.rs";
const SCOPE: &str = "src/scope.rs";
const SERVICE: &str = "src/service.rs";
const UPLOAD: &str = "src/upload.rs";

planted_under!(http, "--test http");

pub(super) const MUTANTS: &[Mutant] = &[
    http(
        "retry-after-ignores-the-rest",
        "src/service/answer.rs",
        "attempt.rests().await",
        "{\n            attempt.rests().await;\n            Duration::ZERO\n        }",
        "panics::what_was_interrupted",
    ),
    http(
        "retry-after-ignores-the-lease",
        "src/service/answer.rs",
        "if left < lease / 2 { left }",
        "if left < lease / 20 { left }",
        "lease::a_busy_client",
    ),
    http(
        "dies-with-its-client",
        DETACH,
        "self.work.take().filter(|_| !self.stays)",
        "self.work.take().filter(|_| self.stays)",
        "hangup::while_the_handler_runs",
    ),
    http(
        "replay-marker-on-the-first-answer",
        SERVICE,
        "End::Stored | End::Unsaved(_) => Response::from_parts(parts, body),",
        "End::Stored | End::Unsaved(_) => {\n                let mut first = Response::from_parts(parts, body);\n                first.headers_mut().insert(\"idempotent-replayed\", http::HeaderValue::from_static(\"true\"));\n                first\n            }",
        "replay::the_first_request",
    ),
    http(
        "replay-marker-missing",
        RESPONSE,
        "    let mut response = given(stored, body);\n    response.headers_mut().insert(REPLAYED, HeaderValue::from_static(\"true\"));",
        "    let response = given(stored, body);",
        "replay::the_first_request",
    ),
    http(
        "busy-told-before-mismatch",
        TRANSITION,
        "        // Before \"busy\": a wrong body is never cured by waiting.\n",
        "        if let Some(left) = current.lease_left(stamp.now) {\n            return Decision::keep(Claimed::Busy(left));\n        }\n",
        "replay::a_mismatch_is_told",
    ),
    http(
        "set-cookie-replayed",
        MESSAGE,
        "[DATE, AGE, SET_COOKIE, AUTHORIZATION",
        "[DATE, AGE, AUTHORIZATION",
        "fidelity::what_belongs",
    ),
    http(
        "connection-named-header-replayed",
        MESSAGE,
        "&& !is_of_one_delivery(name) && !named.contains(name);",
        "&& !is_of_one_delivery(name) && !(named.contains(name) && false);",
        "fidelity::what_belongs",
    ),
    http(
        "duplicate-headers-collapse",
        RESPONSE,
        "    for (name, value) in stored.headers() {\n        headers.append(",
        "    for (name, value) in stored.headers() {\n        headers.insert(",
        "fidelity::headers_keep",
    ),
    http("permit-dropped-early", SERVICE, "let Ok(_permit) = shared", "let Ok(_) = shared", "admission::above_the_cap"),
    http(
        "answered-before-it-is-stored",
        SERVICE,
        "let end = attempt.end(change).await;\n        match (&end, outcome)",
        "let late = Arc::clone(attempt);\n        tokio::spawn(async move { late.end(change).await });\n        let end = End::Stored;\n        match (&end, outcome)",
        "replay::the_first_request",
    ),
    http(
        "not-saved-late",
        ATTEMPT,
        "tokio::spawn(Arc::clone(self).save_late(exchange));",
        "drop(exchange);",
        "outage::an_answer_that_can_not_be_stored",
    ),
    http(
        "claim-never-disowned",
        RUN,
        "let Some(permit) = ledger.may_disown() else",
        "let Some(permit) = ledger.may_disown().filter(|_| false) else",
        "outage::a_claim_that_",
    ),
    http(
        "keeper-never-started",
        RUN,
        "output.is_pending() && this.keeper.0.is_none()",
        "output.is_pending() && this.keeper.0.is_none() && false",
        "lease::a_long_handler",
    ),
    http(
        "keeper-outlives-its-handler",
        RUN,
        "this.keeper.0.take().inspect(JoinHandle::abort);",
        "this.keeper.0.take();",
        "lease::renewals_end",
    ),
    http(
        "stuck-renewal-holds-back-the-answer",
        ATTEMPT,
        "        self.ending.give();\n",
        "",
        "outage::a_store_that_went_down_at_a_renewal",
    ),
    http(
        "longest-execution-ignored",
        ATTEMPT,
        "started.elapsed() >= self.limits.max_execution",
        "started.elapsed() >= self.limits.max_execution.saturating_mul(1000)",
        "lease::renewals_stop",
    ),
    http(
        "zombie-answers-its-own",
        SERVICE,
        "            End::Lost(found) => self.lost(attempt, fingerprint, found),\n            End::Parked =>",
        "            End::Lost(found) if false => self.lost(attempt, fingerprint, found),\n            End::Lost(_) => Response::from_parts(parts, body),\n            End::Parked =>",
        "lease::resumable_a_lapsed",
    ),
    http(
        "zombie-gets-a-strangers-answer",
        RUN,
        "found.filter(|found| found.fingerprint().matches(&fingerprint))",
        "found.filter(|found| found.fingerprint().matches(&fingerprint) || true)",
        "lease::a_zombie_of_a_forgotten",
    ),
    http(
        "panic-withdraws",
        SERVICE,
        "Ok(match release(&attempt).await {",
        "Ok(match attempt.end(Change::Withdraw).await {",
        "panics::at_most_once",
    ),
    http(
        "inner-error-withdraws",
        SERVICE,
        "release(&attempt).await;\n                Err(error)",
        "attempt.end(Change::Withdraw).await;\n                Err(error)",
        "outcome::an_error_of_the_inner",
    ),
    http(
        "invalid-key-passes-unprotected",
        SERVICE,
        "Some(key) => key.map_err(|_| Refusal::InvalidKey)?,",
        "Some(Err(_)) => return Ok(None),\n            Some(Ok(key)) => key,",
        "keys::an_invalid_key",
    ),
    http(
        "first-of-two-header-lines-taken",
        SERVICE,
        "if lines.next().is_some() {",
        "if lines.next().is_some() && false {",
        "keys::two_header_lines",
    ),
    http(
        "upload-not-counted",
        BODY,
        "+ data.len() > self.limit {",
        "+ data.len() > self.limit.saturating_mul(1000) {",
        "admission::a_length_in_the_head",
    ),
    http(
        "broken-body-taken-for-whole",
        BODY,
        "Some(Some(Err(error))) => return Read::Broken(self.begun(Some(error))),",
        "Some(Some(Err(_))) => return self.whole(),",
        "oversize::a_body_that_breaks_off",
    ),
    http(
        "oversize-answer-runs-again",
        "src/service/undo.rs",
        "            outcome => outcome,\n",
        "            Outcome::Final if matches!(body, Read::Open(_)) => Outcome::NothingHappened,\n            outcome => outcome,\n",
        "oversize::a_body_of_the_cap",
    ),
    http(
        "event-stream-held-back",
        SERVICE,
        "if is_endless(&parts.headers) {",
        "if is_endless(&parts.headers) && false {",
        "oversize::an_event_stream",
    ),
    http(
        "unready-clone-called",
        SERVICE,
        "let clone = self.inner.clone();\n                let service = std::mem::replace(&mut self.inner, clone);",
        "let service = self.inner.clone();",
        "ready::the_service_that_was_polled",
    ),
    http(
        "scope-not-in-the-key",
        KEY,
        "update_framed(&mut hash, scope.as_bytes());",
        "let _ = scope;",
        "scope::two_callers",
    ),
    http(
        "empty-scope-taken",
        SCOPE,
        ".filter(|scope| !scope.trim().is_empty())",
        ".filter(|_| true)",
        "scope::a_scope_that_is_empty",
    ),
    http(
        "uploads-without-a-budget",
        UPLOAD,
        "held.all.saturating_add(more) > self.most || ",
        "",
        "uploads::above_the_budget",
    ),
    http(
        "one-scope-takes-the-whole-budget",
        UPLOAD,
        " || of_scope.saturating_add(more) > self.most_of_scope",
        "",
        "uploads::one_scope",
    ),
    http(
        "shared-scope-gets-a-share-only",
        UPLOAD,
        "            _ if scope.is_empty() => most,\n",
        "",
        "uploads::callers_that_share",
    ),
    http(
        "upload-budget-not-given-back",
        UPLOAD,
        "held.all = held.all.saturating_sub(self.bytes);",
        "",
        "uploads::above_the_budget",
    ),
    http(
        "upload-time-starts-anew-with-each-pause",
        UPLOAD,
        "            Patience::Until(_) => {}",
        "            Patience::Until(time) => time.set(sleep(self.timeout)),",
        "uploads::a_body_that_takes_too_long",
    ),
    Mutant {
        name: "siblings-share-answers",
        file: "src/extract.rs",
        text: "parts.extensions.get::<axum::extract::OriginalUri>().map_or(&parts.uri, |original| &original.0)",
        instead: "&parts.uri",
        target: "--test axum",
        filter: "siblings_with_the_same",
    },
];
