//! Replays from the memory of the process.

use super::Mutant;

planted_under!(near, "--test http", "near_cache");

pub(super) const MUTANTS: &[Mutant] = &[
    near(
        "what-is-kept-is-never-too-old",
        "src/engine/near/records.rs",
        "if age >= self.max_age || seen.record",
        "if seen.record",
        "what_another_process_forgot",
    ),
    near(
        "what-is-kept-stands-still",
        "src/engine/near/records.rs",
        "let now = seen.now.after(age);",
        "let now = seen.now;",
        "what_is_kept_expires",
    ),
    near(
        "what-is-kept-judges-another-request",
        "src/engine/near/records.rs",
        "seen.record.fingerprint().matches(fingerprint) &&",
        "Some(fingerprint).is_some() &&",
        "another_request",
    ),
    near(
        "what-others-decrypted-is-replayed",
        "src/engine/near/records.rs",
        " && seen.readers == readers",
        "",
        "what_an_engine_can_not_decrypt",
    ),
    near(
        "what-this-process-removed-is-kept",
        "src/engine/near/mod.rs",
        "self.near.drop_one(&self.key);",
        "let _ = (self.near, &self.key);",
        "what_this_process_changed",
    ),
    near(
        "a-dropped-call-has-changed-nothing",
        "src/engine/mod.rs",
        "let _change = self.near().change(key);\n        self.drive_claim(key, exchange).await",
        "let driven = self.drive_claim(key, exchange).await;\n        drop(self.near().change(key));\n        driven",
        "an_acknowledgement_that_is_dropped",
    ),
    near(
        "a-write-that-is-not-found-has-changed-nothing",
        "src/engine/mod.rs",
        "let _change = self.near().change(key);\n        self.drive_claim(key, exchange).await",
        "let driven = self.drive_claim(key, exchange).await;\n        \
         exchange.writes().is_some().then(|| self.near().change(key));\n        driven",
        "an_acknowledgement_may_be_stored",
    ),
    near(
        "a-claim-that-meets-another-record-drops-nothing",
        "src/engine/claim.rs",
        "if let (Claimed::Replay(..), Some(record), Some(look)) = (&done.output, &done.record, look) {",
        "if matches!(done.output, Claimed::Mismatch) {\n            std::mem::forget(look);\n        \
         } else if let (Claimed::Replay(..), Some(record), Some(look)) = (&done.output, &done.record, look) {",
        "what_another_process_forgot_is_gone",
    ),
    near(
        "a-late-reply-is-kept",
        "src/engine/near/records.rs",
        "if *drops == asked.drops {",
        "if *drops >= asked.drops {",
        "a_reply_that_is_older",
    ),
    near(
        "a-write-of-any-key-keeps-replies-away",
        "src/engine/near/records.rs",
        "usize::from(key.as_bytes()[0]) % GROUPS",
        "usize::from(key.as_bytes()[0]) % 1",
        "a_write_of_another_key",
    ),
    near(
        "a-reply-is-as-young-as-its-arrival",
        "src/engine/near/records.rs",
        "at: asked.at, readers",
        "at: Instant::now(), readers",
        "a_reply_is_as_old",
    ),
    near(
        "what-is-kept-has-no-bound",
        "src/engine/near/records.rs",
        "settings.max_bytes, Weight",
        "settings.max_bytes << 30, Weight",
        "what_is_kept_is_bounded",
    ),
];
