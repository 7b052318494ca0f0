//! Settings, policies and triggers that others put on the database: they do no
//! harm, or nothing runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tower_idempotency::store::{PostgresStore, Store};
use tower_idempotency::{Engine, RunError, Runner, StepError};

use crate::tenant::{Tenant, runs};

type Failed = StepError<tokio_postgres::Error>;

/// Pays under `key`: how it ended, and how often money moved.
async fn pays(store: &PostgresStore, key: &str) -> (Result<(), RunError<Failed>>, u32) {
    let paid = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&paid);
    // A write that can not be made is tried for as long as the lease.
    let runner = Runner::new(Engine::new(store.clone()).lease(Duration::from_millis(900)));
    let outcome = runner.run("s", key, "", move |op| async move {
        op.pay("charge", |_| async move {
            seen.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .await
    });
    (outcome.await, paid.load(Ordering::Relaxed))
}

/// Nothing was begun: the store refused.
async fn is_refused(store: &PostgresStore, says: &str) {
    let (outcome, paid) = pays(store, "k").await;
    assert_eq!(paid, 0, "it was paid");
    let Err(RunError::Store(error)) = outcome else { panic!("not refused: {outcome:?}") };
    assert!(error.to_string().contains(says), "{says:?} is missing: {error}");
}

#[tokio::test]
async fn a_database_that_is_read_only_by_default_is_refused() {
    let tenant = Tenant::new().await;
    tenant.sql(&format!("ALTER ROLE {} SET default_transaction_read_only = on", tenant.name));
    is_refused(&tenant.store(), "read-only").await;
}

#[tokio::test]
async fn a_search_path_full_of_traps_changes_nothing() {
    let tenant = Tenant::new().await;
    tenant.sql(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO public; \
         CREATE TABLE evil.records (n int); CREATE TABLE evil.steps (n int); CREATE TABLE evil.meta (layout int); \
         CREATE FUNCTION evil.date_part(text, timestamptz) RETURNS float8 LANGUAGE sql AS 'SELECT 0::float8'; \
         CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'; \
         CREATE FUNCTION evil.count() RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'; \
         CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT NULL::text'",
    );
    for (path, key) in [("evil, pg_catalog", "traps"), ("''", "empty")] {
        tenant.sql(&format!("ALTER ROLE {} SET search_path = {path}", tenant.name));
        let store = tenant.store();
        let (outcome, paid) = pays(&store, key).await;
        outcome.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        assert_eq!(paid, 1, "{path}");
        let (outcome, paid) = pays(&store, key).await;
        outcome.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        assert_eq!(paid, 0, "{path}: paid again");
        store.durability().await.expect("settings");
        store.sweep(10).await.expect("a sweep");
    }
    assert_eq!(tenant.sql("SELECT count(*) FROM idempotency.records WHERE due > 1000000000000"), "2");
}

/// Row-level security that hides rows, or forbids them, hides no claim.
#[tokio::test]
async fn row_level_security_makes_nobody_pay_twice() {
    let tenant = Tenant::new().await;
    let all = |table| format!("CREATE POLICY all_{table} ON idempotency.{table} USING (true) WITH CHECK (true)");
    let secure = |table| format!("ALTER TABLE idempotency.{table} ENABLE ROW LEVEL SECURITY");
    // No row may be written, or be seen.
    tenant.sql(&secure("records"));
    is_refused(&tenant.store(), "row-level security").await;
    // Claims may be written, steps may not.
    tenant.sql(&format!("{}; {}", all("records"), secure("steps")));
    let (outcome, paid) = pays(&tenant.store(), "no-steps").await;
    assert_eq!(paid, 0, "it was paid, and nobody will know: {outcome:?}");
    outcome.expect_err("its intent could not be stored");
    // All may be done.
    tenant.sql(&format!("{}; {}; {}", all("steps"), secure("meta"), all("meta")));
    let (outcome, paid) = pays(&tenant.store(), "paid").await;
    outcome.expect("policies allow it");
    assert_eq!(paid, 1);
    // What was claimed is hidden: it is no free key.
    tenant.sql("ALTER POLICY all_records ON idempotency.records USING (false)");
    let (outcome, paid) = pays(&tenant.store(), "paid").await;
    assert_eq!(paid, 0, "paid again");
    outcome.expect_err("what is there can't be seen");
}

#[tokio::test]
async fn a_short_statement_timeout_refuses() {
    let tenant = Tenant::new().await;
    runs(&tenant.store(), "warm-up").await.0.expect("it runs");
    tenant.sql(&format!("ALTER ROLE {} SET statement_timeout = '100ms'", tenant.name));
    let url = tenant.server.url_of("postgres", &tenant.name);
    let (mut other, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("connects");
    tokio::spawn(connection);
    let lock = other.transaction().await.expect("a transaction");
    lock.batch_execute("LOCK idempotency.records IN EXCLUSIVE MODE").await.expect("a lock");
    is_refused(&tenant.store(), "statement timeout").await;
    lock.rollback().await.expect("it ends");
    assert_eq!(pays(&tenant.store(), "k").await.1, 1, "it is free now");
}

/// The server ends a session whose transaction waits for its client: its rows
/// are not there, and the next attempt makes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_the_server_ended_left_nothing() {
    let tenant = Tenant::new().await;
    tenant.sql(&format!(
        "CREATE TABLE orders (id bigserial PRIMARY KEY); GRANT ALL ON orders, orders_id_seq TO {}",
        tenant.name
    ));
    for (limit, rows) in [("50ms", "0"), ("0", "1")] {
        tenant.sql(&format!("ALTER ROLE {} SET idle_in_transaction_session_timeout = '{limit}'", tenant.name));
        let store = tenant.store();
        let shop = store.transactions();
        let (server, name) = (tenant.server, tenant.name.clone());
        let outcome = Runner::new(store).run("s", "order", "", move |op| async move {
            op.transaction(&shop, "order", move |tx| {
                Box::pin(async move {
                    tx.batch_execute("INSERT INTO orders DEFAULT VALUES").await?;
                    if rows == "0" {
                        let idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                                    AND state = 'idle in transaction'";
                        servers::wait_until("the server to end it", || server.sql_in(&name, idle) == "0");
                    }
                    Ok(())
                })
            })
            .await
        });
        let outcome: Result<(), RunError<Failed>> = outcome.await;
        assert_eq!(outcome.is_err(), rows == "0", "{outcome:?}");
        assert_eq!(tenant.sql("SELECT count(*) FROM orders"), rows);
    }
}

/// A trigger that drops the claim, or makes another of it.
#[tokio::test]
async fn a_trigger_that_changes_the_record_lets_nobody_pay_twice() {
    let tenant = Tenant::new().await;
    for (body, at_most) in [("RETURN NULL", 0), ("NEW.version = 7; RETURN NEW", 1), ("NEW.head = 'x'; RETURN NEW", 1)] {
        tenant.sql(&format!(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$; \
             CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON idempotency.records \
             FOR EACH ROW EXECUTE FUNCTION meddle()"
        ));
        let store = tenant.store();
        let (first, paid) = pays(&store, "k").await;
        let (then, again) = pays(&store, "k").await;
        assert!(paid + again <= at_most, "{body}: paid {paid} times, and {again} times: {first:?}");
        then.expect_err("what is there is not ours");
        tenant.sql("DROP FUNCTION meddle CASCADE; DELETE FROM idempotency.records");
    }
}
