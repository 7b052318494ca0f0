//! The completer: what is finished without its client, and what is not.

use super::Mutant;

const ATTEMPT: &str = "src/attempt.rs";
const DRIVE: &str = "src/completer/drive.rs";
const LEDGER: &str = "src/ledger.rs";
const LOOP: &str = "src/completer/mod.rs";
const RECORD: &str = "src/core/record.rs";
const ROUND: &str = "src/completer/round.rs";
const SERVICE: &str = "src/service.rs";

planted_under!(completer, "--test completer");
planted_under!(in_hand, "--test in_hand");

pub(super) const MUTANTS: &[Mutant] = &[
    in_hand(
        "unsaved-taken-by-its-own-completer",
        ATTEMPT,
        "            self.hold_on();\n            self.ledger.unsaved()",
        "            self.ledger.unsaved()",
        "a_completer_does_not_take_what_its_process_still_has",
    ),
    in_hand(
        "unsaved-run-again-by-a-duplicate",
        "src/core/in_hand.rs",
        "if self.in_hand && leased && abandoned {",
        "if self.in_hand && leased && abandoned && false {",
        "duplicates_of_what",
    ),
    in_hand(
        "running-taken-by-its-own-completer",
        ATTEMPT,
        "            self.hold_on_while_it_runs();\n",
        "",
        "a_completer_does_not_take_what_its_process_still_runs",
    ),
    in_hand(
        "given-up-and-still-in-hand",
        ATTEMPT,
        "self.limits.max_execution).await;\n        self.let_go();",
        "self.limits.max_execution).await;",
        "what_can_not_be_saved_at_all",
    ),
    completer(
        "decision-shown-as-its-last-holders",
        "src/core/resolve.rs",
        "        next.past.set_by(stamp.by);\n",
        "",
        "the_history_of_an_operation",
    ),
    completer(
        "client-takes-headers-from-the-rerun",
        "src/core/message.rs",
        "let keep = |name: &HeaderName| !is_of_connection(name) && !is_credential(name);",
        "let named = named_by_connection(headers);\n        let keep = |name: &HeaderName| !is_of_connection(name) && !is_credential(name) && !named.contains(name);",
        "the_stored_request_comes_back",
    ),
    completer(
        "back-off-not-stored",
        ATTEMPT,
        "changes.extend(retry_in.map(|retry_in| Change::Postpone { retry_in }));",
        "",
        "the_back_off_is_kept",
    ),
    completer(
        "back-off-does-not-grow",
        ATTEMPT,
        "self.limits.backoff.pause(self.claimed.tries())",
        "self.limits.backoff.pause(1)",
        "the_back_off_is_kept",
    ),
    completer(
        "parked-found-again",
        RECORD,
        "(_, Hold::Parked { .. }, _) => NEVER,",
        "(_, Hold::Parked { .. }, _) => Duration::ZERO,",
        "at_most_once_a_reconciler",
    ),
    completer(
        "decision-forgives-nothing",
        "src/core/resolve.rs",
        "next.forgiven = next.attempts;",
        "",
        "what_fails_too_often",
    ),
    completer(
        "lost-request-found-again",
        RECORD,
        "(_, Hold::Cleared, _) | (_, Hold::Free, Mode::Resumable) if only_its_caller => NEVER,",
        "(_, Hold::Cleared, _) if only_its_caller => NEVER,",
        "what_has_no_request",
    ),
    completer(
        "spent-ticket-passes",
        SERVICE,
        "return ResponseFuture::refused(self.shared.policy.problems.refuse(Refusal::InProgress));",
        "return ResponseFuture::theirs(self.inner.call(request.map(RequestBody::theirs)));",
        "a_claim_is_run_once",
    ),
    completer(
        "unreached-claim-kept",
        DRIVE,
        "if !attempt.has_ended() {",
        "if attempt.has_ended() && false {",
        "an_answer_from_before",
    ),
    completer(
        "large-request-driven",
        DRIVE,
        "if request.body().len() > policy.request_limit =>",
        "if request.body().len() > policy.request_limit && false =>",
        "a_stored_request_that_is_too_large",
    ),
    completer(
        "hook-not-asked",
        DRIVE,
        "Some(prepare) => prepare(parts).await,",
        "Some(_) => Ok(parts),",
        "a_hook_puts_back",
    ),
    completer(
        "no-deadline",
        DRIVE,
        "match timeout(self.settings.deadline, &mut call)",
        "match timeout(self.settings.deadline * 1000, &mut call)",
        "an_attempt_that_hangs",
    ),
    completer(
        "cut-off-work-goes-on",
        "src/detach.rs",
        "attached.stays = true;",
        "attached.stays = false;",
        "an_attempt_that_hangs",
    ),
    completer("unreadable-told-every-time", DRIVE, "            self.shun(key, SHUN);\n", "", "what_can_not_be_read"),
    completer(
        "no-bound-at-once",
        ROUND,
        "let most = u32::try_from(concurrency).unwrap_or(u32::MAX);",
        "let most = u32::try_from(concurrency * 2).unwrap_or(u32::MAX);",
        "no_more_run_at_once",
    ),
    completer(
        "deadline-cuts-off-the-end",
        DRIVE,
        "Err(_) if attempt.has_ended() =>",
        "Err(_) if attempt.has_ended() && false =>",
        "a_deadline_does_not_cut_off_the_end",
    ),
    completer(
        "route-deadline-cuts-off-the-end",
        "src/service.rs",
        "Err(_) if attempt.has_ended() =>",
        "Err(_) if attempt.has_ended() && false =>",
        "a_deadline_does_not_cut_off_the_end",
    ),
    completer(
        "waits-for-what-hangs-after-the-end",
        DRIVE,
        "                _ = attempt.current() => {}\n",
        "",
        "what_hangs_after_the_end",
    ),
    completer("rests-though-there-is-more", LOOP, "if go_on {", "if go_on && false {", "more_than_one_round_starts"),
    completer(
        "waits-for-the-slowest",
        LOOP,
        "            outages = if scanned.is_ok()",
        "            round.finish().await;\n            outages = if scanned.is_ok()",
        "others_go_on_while",
    ),
    completer(
        "release-wakes-nobody",
        ATTEMPT,
        "self.ledger.due().set(Instant::now() + retry_in);",
        "let _ = (self.ledger.due(), Instant::now() + retry_in);",
        "what_this_process_releases",
    ),
    completer(
        "outage-told-every-time",
        LOOP,
        "if let (Err(error), 1) = (scanned, outages) {",
        "if let (Err(error), _) = (scanned, outages) {",
        "a_store_that_is_away",
    ),
    completer(
        "outage-asked-at-every-poll",
        LOOP,
        "_ => self.settings.poll.max(OUTAGE.longest(outages))",
        "_ => self.settings.poll",
        "a_store_that_is_away",
    ),
    completer(
        "panicking-reconciler-lets-it-run",
        DRIVE,
        "Ok(Err(_)) => Resolution::Park { why: \"its reconciler panicked\".into() },",
        "Ok(Err(_)) => Resolution::RunAgain,",
        "a_reconciler_that_panics",
    ),
    completer(
        "sweeper-forgets-what-lapsed",
        "src/sweeper.rs",
        "Query::new(Filter::Expired, PAGE)",
        "Query::new(Filter::Lapsed, PAGE)",
        "the_sweeper_removes",
    ),
    Mutant {
        name: "contradiction-believed",
        file: LEDGER,
        text: "Swap::Conflict(found) if found.record.as_ref().map(Record::version) == expected => return Err(stale()),",
        instead: "",
        target: "--test ledger",
        filter: "a_store_that_contradicts",
    },
];
