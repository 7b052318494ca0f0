//! A role without a right, a table without a column, another layout: refused
//! before any handler runs, and what is there stays as it is.

use tower_idempotency::store::{PostgresStore, StoreError, StoreErrorKind};

use crate::tenant::{Tenant, runs};

/// Refused, on the first call of a store and on the next.
async fn is_refused(tenant: &Tenant, says: &[&str]) -> StoreError {
    let store = tenant.store();
    let (_, first) = runs(&store, "k").await;
    let (outcome, again) = runs(&store, "k").await;
    let error = outcome.expect_err("it is refused");
    assert_eq!((first, again), (0, 0), "it ran: {error}");
    for word in says {
        assert!(error.to_string().contains(word), "{word:?} is missing: {error}");
    }
    error
}

#[tokio::test]
async fn every_right_is_asked_for_before_anything_runs() {
    let tenant = Tenant::new().await;
    let needed = [
        ("records", ["SELECT", "INSERT", "UPDATE", "DELETE"].as_slice()),
        ("steps", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
        ("meta", &["SELECT", "UPDATE"]),
    ];
    for (table, rights) in needed {
        for right in rights {
            tenant.sql(&format!("REVOKE {right} ON idempotency.{table} FROM {}", tenant.name));
            let error = is_refused(&tenant, &["permission denied", "USAGE on the schema", right]).await;
            assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{right} on {table}");
            assert_eq!(tenant.sql("SELECT count(*) FROM idempotency.records"), "0", "{right} on {table}");
            tenant.grants();
        }
    }
    tenant.sql(&format!("REVOKE USAGE ON SCHEMA idempotency FROM {}", tenant.name));
    is_refused(&tenant, &["permission denied", "USAGE"]).await;
    tenant.sql(&format!("GRANT USAGE ON SCHEMA idempotency TO {}", tenant.name));
    let (outcome, ran) = runs(&tenant.store(), "k").await;
    outcome.expect("nothing more is needed");
    assert_eq!(ran, 1);
}

#[tokio::test]
async fn every_column_is_looked_for_before_anything_runs() {
    let tenant = Tenant::new().await;
    let columns = "SELECT table_name || '.' || column_name FROM information_schema.columns \
                   WHERE table_schema = 'idempotency' AND column_name <> 'one'";
    let columns = tenant.sql(columns);
    assert_eq!(columns.lines().count(), 17, "{columns}");
    for column in columns.lines() {
        let (table, column) = column.split_once('.').expect("a table");
        tenant.sql(&format!("ALTER TABLE idempotency.{table} RENAME {column} TO was"));
        is_refused(&tenant, &[column, "not ours"]).await;
        assert_eq!(tenant.sql("SELECT count(*) FROM idempotency.records"), "0", "{column} of {table}");
        tenant.sql(&format!("ALTER TABLE idempotency.{table} RENAME was TO {column}"));
    }
    runs(&tenant.store(), "k").await.0.expect("all is there again");
}

#[tokio::test]
async fn every_table_is_looked_for_before_anything_runs() {
    let tenant = Tenant::new().await;
    for table in ["records", "steps", "meta"] {
        tenant.sql(&format!("ALTER TABLE idempotency.{table} RENAME TO was"));
        is_refused(&tenant, &["create_schema"]).await;
        tenant.sql(&format!("ALTER TABLE idempotency.was RENAME TO {table}"));
    }
    assert_eq!(tenant.sql("SELECT count(*) FROM idempotency.records"), "0");
    // Whoever may make them makes them.
    tenant.sql("DROP TABLE idempotency.steps");
    let url = tenant.server.url_of("postgres", &tenant.name);
    let makes = PostgresStore::options().creating_schema().connect(&url).expect("a URL");
    runs(&makes, "k").await.0.expect("it runs");
}

#[tokio::test]
async fn another_layout_is_refused_before_anything_runs() {
    let tenant = Tenant::new().await;
    tenant.sql("UPDATE idempotency.meta SET layout = 2");
    let error = is_refused(&tenant, &["layout 2", "works with 1"]).await;
    assert_eq!(error.kind(), StoreErrorKind::NewerFormat);
    tenant.sql("DELETE FROM idempotency.meta");
    let error = is_refused(&tenant, &["meta table is empty"]).await;
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert_eq!(tenant.sql("SELECT count(*) FROM idempotency.records"), "0");
    tenant.sql("INSERT INTO idempotency.meta (layout) VALUES (1)");
    let (outcome, ran) = runs(&tenant.store(), "k").await;
    outcome.expect("it is ours again");
    assert_eq!(ran, 1);
}

/// A check that failed is made again, and the store works when it passes.
#[tokio::test]
async fn what_is_put_right_is_noticed() {
    let tenant = Tenant::new().await;
    let store = tenant.store();
    tenant.sql(&format!("REVOKE INSERT ON idempotency.steps FROM {}", tenant.name));
    assert!(runs(&store, "k").await.0.is_err());
    tenant.grants();
    runs(&store, "k").await.0.expect("it has the right now");
}

/// Rights to make the tables: on the database, or on the schema that is there.
#[tokio::test]
async fn whoever_may_make_the_tables_makes_them() {
    let tenant = Tenant::new().await;
    tenant.sql("DROP SCHEMA idempotency CASCADE");
    let error = tenant.store().create_schema().await.expect_err("it may not");
    for word in ["permission denied", "CREATE on the database", "on the schema"] {
        assert!(error.to_string().contains(word), "{word:?} is missing: {error}");
    }
    tenant.sql("CREATE SCHEMA idempotency");
    tenant.store().create_schema().await.expect_err("it may not here either");
    tenant.sql(&format!("ALTER SCHEMA idempotency OWNER TO {}", tenant.name));
    tenant.store().create_schema().await.expect("the schema is its own");
    tenant.store().create_schema().await.expect("nothing is missing");
    runs(&tenant.store(), "k").await.0.expect("it runs");
}
