//! The program for operators.

use super::Mutant;

planted_under!(tool, "-p idempotency --test tool");

pub(super) const MUTANTS: &[Mutant] = &[
    tool(
        "the-tool-decides-without-asking",
        "idempotency/src/confirm.rs",
        "if yes {",
        "if yes || !io::stdin().is_terminal() {",
        "an_operator_sees_and_decides_on_sqlite_beside_the_service",
    ),
    tool(
        "the-tool-decides-about-what-was-not-seen",
        "idempotency/src/commands/decide.rs",
        "*seen != version(&shown.record)",
        "seen.is_empty()",
        "an_operator_sees_and_decides_on_sqlite_beside_the_service",
    ),
    tool(
        "names-of-steps-steer-the-terminal",
        "idempotency/src/text.rs",
        "_ if steers(character) => plain.extend(character.escape_unicode()),",
        "",
        "an_operator_sees_and_decides_on_sqlite_beside_the_service",
    ),
    tool(
        "the-page-is-served-to-all",
        "idempotency/src/commands/serve.rs",
        "if known { Ok(who) }",
        "if known || true { Ok(who) }",
        "the_page_is_for_the_one_who_has_the_link",
    ),
];
