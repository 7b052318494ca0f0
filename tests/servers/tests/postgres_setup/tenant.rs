//! A database, a role that may use its tables, and work with a step.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use servers::Postgres;
use tower_idempotency::store::{PostgresStore, StoreError};
use tower_idempotency::{RunError, Runner, StepError};

/// A database with the tables and a role that may use them.
pub struct Tenant {
    pub server: &'static Postgres,
    pub name: String,
}

impl Tenant {
    pub async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = Postgres::shared();
        let name = format!("tenant_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let store = PostgresStore::connect(&server.database(&name)).expect("a URL");
        store.create_schema().await.expect("a schema");
        let tenant = Self { server, name };
        tenant.sql(&format!("CREATE ROLE {0} LOGIN; GRANT USAGE ON SCHEMA idempotency TO {0}", tenant.name));
        tenant.grants();
        tenant
    }

    pub fn grants(&self) {
        let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA idempotency TO";
        self.sql(&format!("{grant} {}", self.name));
    }

    pub fn sql(&self, sql: &str) -> String {
        self.server.sql_in(&self.name, sql)
    }

    pub fn store(&self) -> PostgresStore {
        PostgresStore::connect(&self.server.url_of(&self.name, &self.name)).expect("a URL")
    }
}

/// Runs work with a step under `key`: what it gave, and how often it ran.
pub async fn runs(store: &PostgresStore, key: &str) -> (Result<(), StoreError>, u32) {
    let ran = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&ran);
    let outcome = Runner::new(store.clone()).run("s", key, "", move |op| async move {
        op.step("effect", |_| async move {
            seen.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(())
        })
        .await
    });
    let outcome = outcome.await.map_err(|error: RunError<StepError<std::io::Error>>| match error {
        RunError::Store(error) => error,
        RunError::Work(error) => panic!("it ran: {error}"),
        other => panic!("{other:?}"),
    });
    (outcome, ran.load(Ordering::Relaxed))
}
