//! Calls that must be made.

use super::Mutant;

planted_under!(outbox, "--test client", "outbox");
planted_under!(driver, "--test client", "outbox::driver");
planted_under!(listed, "--test client", "outbox::listed");
planted_under!(core, "--lib", "core::tests::submit");
planted_under!(answer, "--lib", "outbox::answer::tests");

pub(super) const MUTANTS: &[Mutant] = &[
    core(
        "a-completer-takes-a-call-of-an-outbox",
        "src/core/command/resume.rs",
        "unfinished.filter(|record| record.outgoing == self.outgoing)",
        "unfinished.filter(|record| record.outgoing || !self.outgoing)",
        "what_is_outgoing",
    ),
    core(
        "a-call-is-filed-where-completers-look",
        "src/core/record/mod.rs",
        "if is_to_be_sent { rest.saturating_add(OUTGOING) } else { rest }",
        "if is_to_be_sent { rest } else { rest }",
        "what_is_outgoing",
    ),
    core(
        "a-call-is-held-for-fifty-years",
        "src/core/record/mod.rs",
        "Hold::Leased { .. } => Some(self.falls_due().since(now))",
        "Hold::Leased { .. } => Some(self.due().since(now))",
        "what_is_outgoing",
    ),
    driver(
        "a-completer-knows-no-calls",
        "src/outbox/settings.rs",
        "            outgoing: true,\n",
        "            outgoing: false,\n",
        "a_completer_and_an_outbox",
    ),
    outbox(
        "another-call-under-one-key-is-taken-for-the-same",
        "src/outbox/settings.rs",
        "Submitted::Mismatch => Err(SendLaterError::KeyReused),",
        "Submitted::Mismatch => Ok(id),",
        "the_same_call",
    ),
    outbox(
        "a-call-is-told-by-its-body-alone",
        "src/outbox/settings.rs",
        "Fingerprint::of(parts.into_iter().chain(types))",
        "Fingerprint::of(parts.into_iter().skip(3).chain(types))",
        "the_same_call",
    ),
    outbox(
        "a-call-goes-to-a-server-that-is-not-declared",
        "src/outbox/settings.rs",
        "if !self.sender.serves(&head.uri) || head.method",
        "if head.method",
        "what_can_not_be_sent",
    ),
    outbox(
        "credentials-of-calls-are-kept",
        "src/core/message.rs",
        "let may = keeps_credentials || name",
        "let may = true || keeps_credentials || name",
        "credentials",
    ),
    outbox(
        "each-attempt-has-a-key-of-its-own",
        "src/outbox/attempt.rs",
        "    request.extensions_mut().insert(key);\n",
        "    drop(key);\n",
        "a_call_is_sent_once",
    ),
    outbox(
        "a-response-that-decides-nothing-is-dropped",
        "src/outbox/attempt.rs",
        "                if let Some(answer) = answer {\n",
        "                if let Some(answer) = answer.filter(|_| false) {\n",
        "a_response_that_decides",
    ),
    answer(
        "a-500-is-the-end-of-a-call",
        "src/outbox/answer.rs",
        "_ if status.is_server_error() =>",
        "_ if status.is_server_error() && status != StatusCode::INTERNAL_SERVER_ERROR =>",
        "what_is_not_known",
    ),
    answer(
        "a-server-is-asked-again-before-it-wants-to-be",
        "src/outbox/answer.rs",
        "rest: asked.unwrap_or_default().min(LONGEST_REST)",
        "rest: asked.unwrap_or_default().min(LONGEST_REST / 100)",
        "what_may_pass",
    ),
    driver(
        "a-call-rests-for-the-back-off-alone",
        "src/engine/attempt/outcome.rs",
        ".max(self.rest_asked())",
        "",
        "what_is_put_off",
    ),
    driver(
        "what-was-accepted-waits-for-the-next-look",
        "src/outbox/settings.rs",
        "                self.state.fresh.put(id);\n",
        "",
        "what_a_process_accepts",
    ),
    driver(
        "what-is-put-off-waits-for-the-next-look",
        "src/outbox/attempt.rs",
        "                self.state.due.set(after(attempt.retry_in().await));\n",
        "",
        "what_is_put_off",
    ),
    driver(
        "an-outbox-sends-the-calls-of-another",
        "src/outbox/settings.rs",
        "record.is_outgoing() && record.labels().has(&self.label())",
        "record.is_outgoing()",
        "outboxes_of_two_names",
    ),
    driver(
        "strangers-are-looked-at-each-time",
        "src/outbox/attempt.rs",
        "                self.state.add_stranger(id);\n                return",
        "                return",
        "outboxes_of_two_names",
    ),
    driver(
        "a-response-is-tried-to-be-stored-for-as-long-as-an-attempt-may-take",
        "src/outbox/attempt.rs",
        "max_execution: limits.max_execution.max(self.settings.deadline)",
        "max_execution: self.settings.deadline",
        "a_response_that_can_not",
    ),
    driver(
        "calls-go-out-in-a-window",
        "src/outbox/driver.rs",
        "self.engine.is_draining() || self.rests().await",
        "self.engine.is_draining()",
        "calls_rest_for_a_window",
    ),
    driver(
        "a-process-that-ends-leaves-what-it-sends",
        "src/outbox/driver.rs",
        "        }\n        round.finish().await;\n    }\n",
        "        }\n        round.running.detach_all();\n    }\n",
        "asked_to_stop",
    ),
    driver(
        "an-outbox-looks-in-the-index-of-labels-alone",
        "src/outbox/driver.rs",
        "Query::new(Filter::Unfinished, PAGE).after(place);\n",
        "Query::new(Filter::Unfinished, PAGE).after(place);\n        if self.engine.indexes_labels() {\n            query = query.label(self.label());\n        }\n",
        "a_call_is_sent_whether",
    ),
    driver(
        "a-round-sends-its-first-page-alone",
        "src/outbox/driver.rs",
        "                Some(next) => query = query.after(next),\n",
        "                Some(_) => return Ok(false),\n",
        "a_long_line",
    ),
    outbox(
        "calls-are-kept-for-a-day",
        "src/outbox/settings.rs",
        "engine.into().retention_at_least(Duration::from_secs(30 * DAY))",
        "engine.into()",
        "a_call_is_forgotten",
    ),
    listed(
        "operators-see-where-a-call-is-filed",
        "src/operator/json.rs",
        "Some(record.falls_due())",
        "Some(record.due())",
        "operators_find",
    ),
];
