//! Callbacks: whom the end of an operation is told.

use super::Mutant;

const CORE: &str = "src/core/command/callback.rs";
const DRIVE: &str = "src/workers/completer/drive.rs";
const ENGINE: &str = "src/engine/mod.rs";
const MAKER: &str = "src/workers/completer/callback.rs";
const RECORD: &str = "src/core/record/mod.rs";

planted_under!(callback, "--test workers", "callback");

pub(super) const MUTANTS: &[Mutant] = &[
    callback(
        "completion-owes-no-callback",
        super::MOVES,
        "        self.remember_steps();\n        self.want_callback();\n",
        "        self.remember_steps();\n",
        "ends::a_completion_is_told",
    ),
    callback(
        "park-owes-no-callback",
        super::MOVES,
        "        self.hold = Hold::Parked { why: Arc::clone(why) };\n        self.want_callback();\n",
        "        self.hold = Hold::Parked { why: Arc::clone(why) };\n",
        "ends::a_parked_operation_is_told",
    ),
    callback(
        "callback-by-who-looked-earlier",
        CORE,
        "(pending.id, pending.tries) == (self.id, self.tries)",
        "pending.id == self.id",
        "room::two_completers_never_call",
    ),
    callback("callback-not-claimed", CORE, "rest: lease,\n", "rest: lease * 0,\n", "crashes::a_crash_in_the_call"),
    callback(
        "callback-made-before-the-call",
        CORE,
        "let mut next = found.clone();\n",
        "let mut next = found.clone();\n        if let CallbackStep::Begin { .. } = self.step {\n            next.callback = \
         Some(Box::new(Callback::Delivered(pending.id)));\n            next.version = stamp.nonce;\n            return \
         Decision::put(next, true);\n        }\n",
        "crashes::a_crash_in_the_call",
    ),
    callback(
        "every-call-has-its-own-id",
        CORE,
        "rest: lease,\n                ..pending.clone()",
        "rest: lease,\n                id: stamp.nonce,",
        "failures::a_hook_that_fails_is_called_again",
    ),
    callback(
        "id-of-the-key-alone",
        "src/core/record/callback.rs",
        ", &self.id.get().to_be_bytes()])",
        "])",
        "ends::a_new_operation_under_an_old_key",
    ),
    callback(
        "failed-callback-forgotten",
        MAKER,
        "CallbackStep::Failed { rest } };",
        "CallbackStep::Delivered };",
        "failures::a_hook_that_fails_is_called_again",
    ),
    callback(
        "callback-never-given-up",
        MAKER,
        "let given_up = call >= callback.max_tries;",
        "let given_up = call > callback.max_tries + 9;",
        "failures::a_hook_that_always_fails",
    ),
    callback(
        "deadly-callback-never-given-up",
        MAKER,
        "if tries >= callback.max_tries {",
        "if tries > callback.max_tries + 9 {",
        "failures::calls_of_which_nobody_heard",
    ),
    callback(
        "callback-wakes-nobody",
        ENGINE,
        "if written.is_some_and(Record::owes_since_now) {",
        "if written.is_some_and(Record::owes_since_now) && false {",
        "ends::in_the_same_process",
    ),
    callback(
        "callback-for-all",
        ENGINE,
        "            callback: false,\n",
        "            callback: true,\n",
        "ends::without_a_callback",
    ),
    callback(
        "undelivered-callback-expires",
        RECORD,
        "self.index_class() == Status::Complete && now",
        "self.status() == Status::Complete && now",
        "ends::what_is_to_be_told_does_not_expire",
    ),
    callback(
        "undelivered-callback-filed-as-complete",
        "src/core/record/mod.rs",
        "Status::Complete if self.pending_callback().is_some() => Status::Paid,",
        "Status::Complete if self.pending_callback().is_some() && false => Status::Paid,",
        "crashes::a_crash_before_the_call",
    ),
    callback(
        "stale-news-told",
        super::MOVES,
        "if !ended && self.callback.is_some() {",
        "if !ended && self.callback.is_some() && false {",
        "ends::what_went_on_before_it_was_told",
    ),
    callback(
        "own-end-not-told-at-once",
        DRIVE,
        "did.is_end() && self.shared.policy.callback.is_some()",
        "did.is_end() && self.shared.policy.callback.is_some() && false",
        "ends::work_in_the_background",
    ),
    callback(
        "callback-of-others-in-the-way",
        MAKER,
        "            self.quarantine(key, NOT_OURS);\n",
        "",
        "room::who_has_no_callback",
    ),
    callback(
        "told-end-taken-for-another-one",
        "src/core/record/mod.rs",
        "self.version == version || ended == Some(version)",
        "self.version == version || ended == Some(version) && false",
        "crashes::an_answer_that_was_told_of",
    ),
    callback(
        "owed-callbacks-fill-the-queue",
        "src/http/queue.rs",
        ".filter(|found| found.status == Status::Pending).map(|found| found.key)",
        ".map(|found| found.key)",
        "room::what_only_owes_a_callback",
    ),
    callback(
        "callback-in-the-slot-of-its-operation",
        DRIVE,
        "        drop(place);\n        let told",
        "        let _place = place;\n        let told",
        "room::a_hook_that_hangs_keeps_no_operation",
    ),
    callback(
        "waiting-callbacks-made-at-the-stop",
        "src/workers/completer/run.rs",
        "        round.calls.close();\n",
        "",
        "room::a_completer_that_stops_makes_no_more_callbacks",
    ),
    callback("time-of-the-end-forgotten", CORE, "            next.remember_end();\n", "", "ends::the_history_has_both"),
];
