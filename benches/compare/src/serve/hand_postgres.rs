//! By hand, on Postgres.

use std::sync::Arc;

use deadpool_postgres::{Manager, ManagerConfig, Pool};
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};
use tower_idempotency::store::PostgresStore;

use super::hand::{Books, HEAD, RETENTION_MILLIS, SPAN_MILLIS, version};
use crate::Failure;

/// As many connections as the store has by itself.
const CONNECTIONS: usize = 16;

async fn pool(url: &str, schema: &str) -> Result<Arc<Pool>, Failure> {
    let manager = Manager::from_config(url.parse()?, NoTls, ManagerConfig::default());
    let pool = Pool::builder(manager).max_size(CONNECTIONS).build()?;
    pool.get().await?.batch_execute(schema).await?;
    Ok(Arc::new(pool))
}

async fn query(pool: &Pool, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
    let client = pool.get().await.expect("a connection");
    let statement = client.prepare_cached(sql).await.expect("a statement");
    client.query(&statement, parameters).await.expect("postgres answers")
}

async fn execute(pool: &Pool, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> bool {
    let client = pool.get().await.expect("a connection");
    let statement = client.prepare_cached(sql).await.expect("a statement");
    client.execute(&statement, parameters).await.expect("postgres answers") == 1
}

#[derive(Clone)]
pub(super) struct UnfencedPostgres(Arc<Pool>);

impl UnfencedPostgres {
    pub(super) async fn connect(url: &str) -> Result<Self, Failure> {
        let table = "CREATE TABLE by_hand (key text PRIMARY KEY, created timestamptz DEFAULT now(), answer bytea)";
        Ok(Self(pool(url, table).await?))
    }
}

impl Books for UnfencedPostgres {
    type Claim = ();

    async fn claim(&self, key: &str) -> Result<(), Vec<u8>> {
        let insert = "INSERT INTO by_hand (key) VALUES ($1) ON CONFLICT DO NOTHING";
        if execute(&self.0, insert, &[&key]).await {
            return Ok(());
        }
        let found = query(&self.0, "SELECT answer FROM by_hand WHERE key = $1", &[&key]).await;
        Err(found[0].get::<_, Option<Vec<u8>>>(0).unwrap_or_default())
    }

    async fn keep(&self, key: &str, (): (), answer: &[u8]) {
        execute(&self.0, "UPDATE by_hand SET answer = $2 WHERE key = $1", &[&key, &answer]).await;
    }
}

/// In tables like the store's, with their indexes.
#[derive(Clone)]
pub(super) struct SamePostgres(Arc<Pool>);

impl SamePostgres {
    pub(super) async fn connect(url: &str) -> Result<Self, Failure> {
        let schema = PostgresStore::MIGRATION.replace("\"idempotency\"", "\"by_hand_too\"");
        Ok(Self(pool(url, &schema).await?))
    }
}

impl Books for SamePostgres {
    type Claim = i64;

    async fn claim(&self, key: &str) -> Result<i64, Vec<u8>> {
        let version = version();
        let insert = "INSERT INTO by_hand_too.records (key, version, status, created, due, span, steps, head) \
             SELECT $1, $2, 0, now, now + $3, $3, 0, $4 \
             FROM (SELECT (date_part('epoch', clock_timestamp()) * 1000)::int8 AS now) AS clock \
             ON CONFLICT (key) DO NOTHING";
        if execute(&self.0, insert, &[&key.as_bytes(), &version, &SPAN_MILLIS, &HEAD]).await {
            return Ok(version);
        }
        let select = "SELECT version, created, due - span, head, response FROM by_hand_too.records WHERE key = $1";
        let found = query(&self.0, select, &[&key.as_bytes()]).await;
        Err(found[0].get::<_, Option<Vec<u8>>>("response").unwrap_or_default())
    }

    async fn keep(&self, key: &str, claim: i64, answer: &[u8]) {
        let update = "UPDATE by_hand_too.records SET version = $2, status = 2, \
             due = (date_part('epoch', clock_timestamp()) * 1000)::int8 + $3, span = $3, head = $4, response = $5 \
             WHERE key = $1 AND version = $6";
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&key.as_bytes(), &version(), &RETENTION_MILLIS, &HEAD, &answer, &claim];
        assert!(execute(&self.0, update, &parameters).await, "the claim is lost");
    }
}
