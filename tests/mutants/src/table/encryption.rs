//! What is encrypted, and what opens it.

use super::Mutant;

const HOLLOW: &str = "src/core/record/hollow.rs";
const KEYS: &str = "src/engine/encryption.rs";

planted_under!(core, "--lib", "core::tests::sealed");
planted_under!(engine, "--test engine", "encryption");
planted_under!(sqlite, "--test sqlite");

pub(super) const MUTANTS: &[Mutant] = &[
    engine(
        "a-fingerprint-stays-in-clear",
        HOLLOW,
        "hollow.fingerprint = Fingerprint::from_bytes([0; 32]);",
        "",
        "a_store_is_given_nothing",
    ),
    engine(
        "the-words-of-the-history-stay-in-clear",
        HOLLOW,
        "HistoryEntry { text: None, by: None, ..entry.clone() }",
        "entry.clone()",
        "a_store_is_given_nothing",
    ),
    engine(
        "nonces-repeat",
        KEYS,
        "getrandom::fill(&mut nonce)",
        "getrandom::fill(&mut nonce[..1])",
        "no_nonce_is_used_twice",
    ),
    engine(
        "a-changed-ciphertext-opens",
        KEYS,
        "opened.map_err(|_| refused())?;",
        "let _ = opened.map_err(|_| refused());",
        "a_piece_that_was_changed",
    ),
    engine(
        "without-a-key-a-placeholder-is-taken-for-the-record",
        "src/store/sealing.rs",
        "loaded.record.as_ref().is_some_and(Record::is_sealed)",
        "loaded.record.as_ref().is_some_and(|record| record.is_sealed() && record.attempts() == 0)",
        "without_its_key_nothing_runs",
    ),
    engine(
        "older-keys-open-nothing",
        KEYS,
        "self.keys.iter().map(|key| &*key.0)",
        "self.keys.iter().take(1).map(|key| &*key.0)",
        "a_rotation_replays",
    ),
    engine(
        "old-parts-are-encrypted-anew",
        "src/store/sealing.rs",
        "!self.store.keeps_parts()",
        "true",
        "a_store_that_keeps_parts",
    ),
    core(
        "a-step-opens-in-the-place-of-another",
        "src/core/sealed.rs",
        "&number.to_be_bytes()",
        "&(number & 0).to_be_bytes()",
        "no_piece_opens",
    ),
    core(
        "a-sealed-head-is-read-as-one-in-clear",
        "src/core/wire/seal.rs",
        "if head.known.is_encrypted() == is_encrypted {",
        "if head.known.is_encrypted() == is_encrypted || true {",
        "a_sealed_head_that_is_hurt",
    ),
    sqlite(
        "what-commits-with-rows-is-in-clear",
        "src/engine/ledger/joined.rs",
        "sealing.sealed(key, next, false)?",
        "sealing.sealed(key, next, false)?.filter(|_| false)",
        "what_commits_with_rows_is_encrypted",
    ),
];
