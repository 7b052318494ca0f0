//! Clients.

use super::Mutant;

planted_under!(retries, "--test client", "retries");
planted_under!(keys, "--test client", "keys");
planted_under!(bodies, "--test client", "bodies");
planted_under!(follow, "--test client", "follow");

pub(super) const MUTANTS: &[Mutant] = &[
    keys(
        "a-client-makes-a-new-key-for-each-try",
        "src/client/call.rs",
        "            call.tries += 1;\n",
        "            call.tries += 1;\n            if call.tries > 1 {\n                call.head.headers.remove(\"idempotency-key\");\n                let _ = put_key(&mut call.head, call.attempts.policy());\n            }\n",
        "each_call",
    ),
    keys(
        "a-client-passes-over-a-derived-key",
        "src/client/key.rs",
        "match head.extensions.get::<IdempotencyKey>() {",
        "match head.extensions.get::<IdempotencyKey>().filter(|_| false) {",
        "a_derived_key",
    ),
    keys(
        "a-client-sends-an-empty-body-the-second-time",
        "src/client/call.rs",
        "call.attempts.send(&call.head, &call.body)",
        "call.attempts.send(&call.head, &std::mem::take(&mut call.body))",
        "every_try",
    ),
    retries(
        "a-client-retries-an-unkeyed-post",
        "src/client/call.rs",
        "if !policy.serves(request.uri()) || request.method()",
        "if request.method()",
        "another_server",
    ),
    retries(
        "a-client-gives-up-at-a-409-in-progress",
        "src/client/verdict.rs",
        "409 | 423 | 500 => body()",
        "423 | 500 => body()",
        "what_may_pass",
    ),
    retries(
        "a-client-retries-every-500",
        "src/client/verdict.rs",
        "408 | 425 | 429 | 502..=504 => true,",
        "408 | 425 | 429 | 500 | 502..=504 => true,",
        "what_is_final",
    ),
    retries(
        "a-client-takes-its-key-to-another-origin",
        "src/client/verdict.rs",
        ".filter(|place| Origin::of(uri).is_of(place))",
        ".filter(|_| true)",
        "a_redirect",
    ),
    retries(
        "a-client-waits-as-long-as-a-server-wants",
        "src/client/attempts.rs",
        "asked.unwrap_or_default().min(self.policy.retry_after_limit)",
        "asked.unwrap_or_default()",
        "retry_after",
    ),
    retries(
        "a-client-does-not-wait-for-retry-after",
        "src/client/attempts.rs",
        "after(asked.saturating_add(self.policy.backoff.pause(tries)))",
        "after(self.policy.backoff.pause(tries))",
        "retry_after",
    ),
    retries(
        "a-client-has-no-budget",
        "src/client/attempts.rs",
        "tries < self.policy.max_tries && self.policy.budget.withdraw()",
        "tries < self.policy.max_tries",
        "retries_of_all",
    ),
    retries(
        "a-client-begins-a-pause-that-outlasts-its-deadline",
        "src/client/attempts.rs",
        "if self.deadline.is_some_and(|deadline| end >= deadline) {",
        "if false {",
        "the_deadline",
    ),
    retries(
        "a-client-begins-its-deadline-anew-with-each-try",
        "src/client/attempts.rs",
        "let deadline = *self.deadline.get_or_insert_with(",
        "self.deadline = None;\n        let deadline = *self.deadline.get_or_insert_with(",
        "the_deadline",
    ),
    retries(
        "a-client-gives-a-try-a-minute-more",
        "src/client/attempts.rs",
        "unconstrained(sleep_until(*this.end))",
        "unconstrained(sleep_until(*this.end + Duration::from_secs(60)))",
        "a_try_that_hangs",
    ),
    retries(
        "a-client-asks-no-timer-beside-a-flood",
        "src/client/attempts.rs",
        "this.timer.as_pin_mut().map(",
        "this.timer.as_pin_mut().filter(|_| tokio::task::coop::has_budget_remaining()).map(",
        "a_try_that_always",
    ),
    retries(
        "a-client-reads-in-one-turn-what-has-no-end",
        "src/client/body.rs",
        "                consume_budget().await;\n",
        "",
        "a_try_that_always",
    ),
    bodies(
        "a-client-swaps-the-pieces-of-a-response",
        "src/client/body.rs",
        "self.first.take().map(Frame::data).or_else(|| self.more.pop_front())",
        "self.more.pop_front().or_else(|| self.first.take().map(Frame::data))",
        "a_response_is_given_on",
    ),
    retries(
        "a-client-does-not-heed-the-advice-of-a-server",
        "src/client/verdict.rs",
        "advice(headers).unwrap_or_else(",
        "advice(headers).filter(|_| false).unwrap_or_else(",
        "what_the_server_advises",
    ),
    bodies(
        "a-client-sends-what-it-cannot-send-again",
        "src/client/body.rs",
        "if data.remaining() > limit.saturating_sub(first.len() + more.len()) {",
        "if false {",
        "a_body_that_cannot",
    ),
    bodies(
        "a-client-hands-on-a-response-that-may-break-off",
        "src/client/body.rs",
        "rest.as_mut().filter(|_| size <= limit)",
        "rest.as_mut().filter(|_| false && size <= limit)",
        "a_response_that_breaks_off",
    ),
    follow(
        "a-client-sends-again-what-its-server-has-forgotten",
        "src/client/follow.rs",
        "_ => Err(ClientErrorKind::NotFollowed(status)),",
        "_ => Ok(Look::Progress(Progress::read(br#\"{\"state\":\"complete\"}\"#).ok_or(ClientErrorKind::TimedOut)?)),",
        "a_status_resource",
    ),
    follow(
        "a-client-gives-up-an-operation-that-still-runs",
        "src/client/progress.rs",
        "matches!(self.state(), \"complete\" | \"parked\")",
        "!self.state().is_empty()",
        "a_202_is_followed",
    ),
    retries(
        "a-client-tries-again-what-no-retry-can-mend",
        "src/client/call.rs",
        "Err(kind) if self.attempts.policy().ends_with(kind) => return Next::Done,",
        "Err(kind) if self.attempts.policy().ends_with(kind) && self.tries > 99 => return Next::Done,",
        "an_error_that_no_retry_can_mend_ends_a_call",
    ),
    retries(
        "a-client-looks-for-final-errors-in-sources-alone",
        "src/client/policy.rs",
        "within.is_some_and(|within| any_cause(within, is))",
        "within.is_some_and(|within| any_cause(within, is) && false)",
        "an_error_that_no_retry_can_mend_ends_a_call",
    ),
    bodies(
        "a-client-reads-events-to-their-end-by-the-case-of-their-name",
        "src/client/body.rs",
        "kind.eq_ignore_ascii_case(events)",
        "kind == events",
        "a_large_response_and_a_stream_of_events_come_as_they_come",
    ),
];
