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
    tool(
        "who-reads-no-more-is-told-that-all-is-done",
        "idempotency/src/failure.rs",
        "return Self::new(PIPE_CLOSED, \"\");",
        "return Self::new(DONE, \"\");",
        "terminal::a_closed_pipe",
    ),
    tool(
        "a-yes-is-about-a-window-that-was-not-seen",
        "idempotency/src/commands/maintenance.rs",
        "            operator.end(&seen).await?;",
        "            operator.end(&self::seen(&operator, &change.id).await?.0).await?;",
        "terminal::a_window_that_changed",
    ),
    tool(
        "sweeps-in-a-window",
        "idempotency/src/commands/sweep.rs",
        "rests_until(&target.engine).await.map_or(",
        "rests_until(&target.engine).await.filter(|_| false).map_or(",
        "windows::the_program_says",
    ),
    tool(
        "watches-silently-in-a-window",
        "idempotency/src/commands/watch.rs",
        "        if rests != rested {",
        "        if rests != rested && rested.is_some() {",
        "windows::the_program_says",
    ),
    tool(
        "the-cookie-of-the-page-goes-to-all-ports",
        "idempotency/src/commands/serve.rs",
        "SameSite=Strict; Path={}\", access.token, access.path);",
        "SameSite=Strict; Path=/\", access.token);",
        "the_page_is_for_the_one_who_has_the_link",
    ),
    tool(
        "an-empty-name-space-seems-to-be-well",
        "idempotency/src/commands/doctor.rs",
        "epoch.mark < NEW",
        "epoch.mark > NEW",
        "the_url_names_the_prefix",
    ),
];
