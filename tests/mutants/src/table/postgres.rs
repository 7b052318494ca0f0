//! The store on Postgres, on real servers.

use super::Mutant;

planted_under!(tls, "-p servers --test postgres_setup", "tls");
planted_under!(labels, "-p servers --test postgres", "labels");
planted_under!(partitions, "-p servers --test postgres", "partitions");
planted_under!(statements, "-p servers --test postgres", "statements");
planted_under!(sweep, "-p servers --test postgres", "sweep");

planted_under!(sqlx, "-p servers --test sqlx_pool", "sqlx_09");

const CERTIFICATES: &str = "src/store/postgres/certificates.rs";
const HOSTS: &str = "src/store/postgres/hosts.rs";
const PARTITIONS: &str = "src/store/postgres/partitions.rs";
const SHARED: &str = "src/store/postgres/shared.rs";
const SQLX: &str = "src/store/postgres/sqlx/either.rs";
const TLS: &str = "src/store/postgres/tls.rs";

pub(super) const MUTANTS: &[Mutant] = &[
    partitions(
        "postgres-takes-a-key-to-be-in-another-partition",
        PARTITIONS,
        "* count / (1 << 16)",
        "* count / (1 << 17)",
        "a_statement_names_the_partition_of_its_key",
    ),
    partitions(
        "postgres-works-on-tables-with-other-partitions",
        PARTITIONS,
        "if there != wanted {",
        "if there < 0 {",
        "tables_that_are_made_otherwise_are_refused",
    ),
    partitions(
        "postgres-finds-out-late-that-a-partition-is-not-its-to-use",
        PARTITIONS,
        "if usable != 2 * wanted {",
        "if usable < 0 {",
        "a_role_needs_its_rights_on_each_partition",
    ),
    partitions(
        "postgres-sweeps-one-partition",
        "src/store/postgres/store.rs",
        "for sweep in from.iter().chain(before) {",
        "for sweep in from.iter().chain(before).take(1) {",
        "a_sweep_goes_through_all_partitions",
    ),
    sweep(
        "postgres-sweeps-without-a-rest",
        "src/store/postgres/store.rs",
        "const RESTS: u32 = 3;",
        "const RESTS: u32 = 0;",
        "a_sweep_takes_a_hundred_at_once",
    ),
    sweep(
        "postgres-sweeps-all-by-one-statement",
        "src/store/postgres/store.rs",
        "left.min(SWEPT_AT_ONCE)",
        "left",
        "a_sweep_takes_a_hundred_at_once",
    ),
    sweep(
        "postgres-sweeps-more-than-it-was-told",
        "src/store/postgres/store.rs",
        "left.min(SWEPT_AT_ONCE)",
        "left.max(SWEPT_AT_ONCE)",
        "a_sweep_takes_a_hundred_at_once",
    ),
    partitions(
        "postgres-has-bounds-as-backslashes-are-read",
        PARTITIONS,
        "format!(\"E'\\\\\\\\x{:04x}'\",",
        "format!(\"'\\\\x{:04x}'\",",
        "names_and_bounds_are_what_they_are",
    ),
    partitions(
        "postgres-advises-to-do-without-a-partition",
        PARTITIONS,
        "let is_missing = there > 0 && there < wanted;",
        "let is_missing = there > wanted;",
        "a_partition_that_was_taken_away",
    ),
    statements(
        "postgres-forgets-which-keys-it-has-met",
        "src/store/postgres/met.rs",
        "self.0[slot].store(tag, Ordering::Relaxed);",
        "let _ = (slot, tag);",
        "a_first_call_takes_two_and_a_replay_one",
    ),
    statements(
        "postgres-trusts-that-a-key-it-has-met-is-there",
        "src/store/postgres/store.rs",
        "None if self.0.met.has(key) => self.look(&self.0.sql.of(key).look_on_primary, key).await,",
        "None if self.0.met.has(key) => self.load(key).await.map(Some),",
        "a_key_that_was_met_and_is_gone_is_claimed",
    ),
    statements(
        "postgres-guesses-by-a-server-that-writes-have-left",
        "src/store/postgres/sql.rs",
        "look_on_primary: format!(\"{look} AND {TAKES_WRITES}\"),",
        "look_on_primary: look.clone(),",
        "what_a_server_shows_that_takes_no_more_writes_is_in_no_claims_way",
    ),
    labels(
        "postgres-keeps-a-label-that-was-replaced",
        "src/store/postgres/sql.rs",
        "l.tag <> ALL ($13::bytea[])",
        "l.tag <> ALL ($13::bytea[]) AND false",
        "a_row_goes_with_its_record",
    ),
    labels(
        "postgres-leaves-a-label-where-its-record-was",
        "src/store/postgres/sql.rs",
        "DO UPDATE SET complete = excluded.complete, due = excluded.due",
        "DO UPDATE SET due = excluded.due",
        "it_costs_no_statement",
    ),
    sqlx(
        "a-store-on-sqlx-writes-into-a-transaction-that-was-left-open",
        SQLX,
        "match statements.is_in_transaction().await {",
        "match Ok::<bool, Error>(false) {",
        "a_transaction_that_was_left_open_takes_no_write_with_it",
    ),
    sqlx(
        "a-store-on-sqlx-takes-a-failed-transaction-for-none",
        SQLX,
        r#"begin_with("SELECT")"#,
        r#"begin_with("")"#,
        "connections_with_a_failed_transaction_cost_no_call",
    ),
    sqlx(
        "a-transaction-on-sqlx-begins-where-one-has-failed",
        SQLX,
        "Err(error) if has_failed_before(&error) => {}",
        "Err(error) if has_failed_before(&error) => return Err(error),",
        "connections_with_a_failed_transaction_cost_no_call",
    ),
    sqlx(
        "a-dropped-transaction-on-sqlx-keeps-its-connection",
        SQLX,
        "if let Some(connection) = self.0.take() {",
        "if let Some(connection) = self.0.take().filter(|_| false) {",
        "a_dropped_transaction_that_waits_takes_no_connection_of_the_others",
    ),
    sqlx(
        "sqlx-ends-a-savepoint-in-place-of-the-transaction",
        SQLX,
        "if !self.is_at_its_end() {",
        "if !self.is_at_its_end() && false {",
        "a_savepoint_that_is_left_open_commits_nothing",
    ),
    sqlx(
        "a-store-on-sqlx-closes-one-connection-after-a-failover",
        SQLX,
        "self.of.pool.try_acquire() {",
        "self.of.pool.try_acquire().filter(|_| false) {",
        "the_store_and_its_transactions_go_on_after_a_failover_behind_one_name",
    ),
    sqlx(
        "transactions-on-a-shared-pool-take-all-its-connections",
        SHARED,
        "let slot = self.free.take().await?;",
        "let slot = None;",
        "transactions_that_share_the_pool_leave_two_connections",
    ),
    tls(
        "verify-full-takes-any-name",
        CERTIFICATES,
        "Some(roots) if tls.mode == Mode::VerifyFull => {",
        "Some(roots) if tls.mode < Mode::Prefer => {",
        "each_mode_takes_the_certificates_that_libpq_takes",
    ),
    tls(
        "verify-ca-looks-at-no-ca",
        CERTIFICATES,
        "if let Some(roots) = &self.roots {",
        "if let Some(roots) = self.roots.as_ref().filter(|_| false) {",
        "each_mode_takes_the_certificates_that_libpq_takes",
    ),
    tls(
        "require-with-a-root-looks-at-no-ca",
        TLS,
        "(Some(Mode::Require), Some(path)) => (Mode::VerifyCa, Trusted::File(path)),",
        "(Some(Mode::Require), Some(_)) => (Mode::Require, Trusted::Unchecked),",
        "each_mode_takes_the_certificates_that_libpq_takes",
    ),
    tls(
        "require-falls-back-to-plain-text",
        HOSTS,
        "if self.mode == Mode::Prefer &&",
        "if self.mode >= Mode::Prefer &&",
        "who_is_let_in_by_the_server_is_what_it_asks_for",
    ),
    tls(
        "verify-full-trusts-all-without-a-root",
        TLS,
        "(Some(Mode::VerifyFull), None) => (Mode::VerifyFull, Trusted::System),",
        "(Some(Mode::VerifyFull), None) => (Mode::VerifyFull, Trusted::Unchecked),",
        "who_is_let_in_by_the_server_is_what_it_asks_for",
    ),
];
