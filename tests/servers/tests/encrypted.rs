//! What is encrypted is not on the servers.

#[path = "../../support/secrets.rs"]
mod secrets;

use std::sync::Arc;

use servers::{Postgres, Redis};
use tokio_postgres::NoTls;
use tower_idempotency::store::{PostgresStore, RedisStore, Store};
use tower_idempotency::{Engine, Operator};

use secrets::{SECRETS, fill, found_in, is_in, key, keys, ring};

/// Looks at what a store has after it was filled, in clear and encrypted.
async fn look(stores: [Arc<dyn Store>; 2], dump: impl AsyncFn(usize) -> Vec<u8>) {
    let [clear, sealed] = stores;
    fill(&Engine::new(Arc::clone(&clear))).await;
    assert_eq!(found_in(&dump(0).await), SECRETS, "this test would see it");
    let fingerprint = *clear.load(&key("done")).await.unwrap().record.unwrap().fingerprint().as_bytes();
    assert!(is_in(&dump(0).await, &fingerprint));

    let engine = Engine::new(Arc::clone(&sealed)).encryption(ring());
    fill(&engine).await;
    assert_eq!(found_in(&dump(1).await), Vec::<&str>::new());
    assert!(!is_in(&dump(1).await, &fingerprint), "a small body could be guessed");
    for key in keys() {
        assert_eq!(sealed.load(&key).await.unwrap().record.unwrap().sealed_with(), Some("first"));
    }
    let shown = Operator::new(engine).find("", "undoing").await.unwrap();
    assert_eq!(shown.record.left_to_undo().collect::<Vec<_>>(), ["secret-of-a-step-name"]);
    assert_eq!(shown.record.request().unwrap().body().as_ref(), br#"{"card":"secret-of-the-body"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_has_nothing_of_what_was_said() {
    let redis = Redis::start();
    let open = |prefix: &str| -> Arc<dyn Store> {
        Arc::new(RedisStore::options().prefix(prefix).connect(&redis.url()).unwrap())
    };
    let url = redis.url();
    let dump = async |nth: usize| {
        let client = redis::Client::open(url.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let pattern = format!("*{}*", ["clear", "sealed"][nth]);
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await.unwrap();
        let mut dump = names.concat();
        for name in names {
            let kind: String = redis::cmd("TYPE").arg(&name).query_async(&mut connection).await.unwrap();
            let command = match kind.as_str() {
                "string" => "GET",
                "hash" => "HVALS",
                _ => continue,
            };
            let value: redis::Value = redis::cmd(command).arg(&name).query_async(&mut connection).await.unwrap();
            let values = if let redis::Value::Array(values) = value { values } else { vec![value] };
            values.iter().for_each(|value| match value {
                redis::Value::BulkString(bytes) => dump.extend_from_slice(bytes),
                other => panic!("{other:?}"),
            });
        }
        dump
    };
    look([open("clear"), open("sealed")], dump).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_has_nothing_of_what_was_said() {
    let server = Postgres::shared();
    let urls = ["encrypted_clear", "encrypted_sealed"].map(|name| server.database(name));
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for url in &urls {
        let store = PostgresStore::connect(url).unwrap();
        store.create_schema().await.unwrap();
        stores.push(Arc::new(store));
    }
    let dump = async |nth: usize| {
        let (client, connection) = tokio_postgres::connect(&urls[nth], NoTls).await.unwrap();
        tokio::spawn(connection);
        let tables = "SELECT format('SELECT t::text FROM %I.%I t', schemaname, tablename) FROM pg_tables \
                      WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
        let mut dump = Vec::new();
        for table in client.query(tables, &[]).await.unwrap() {
            let rows = client.query(table.get::<_, &str>(0), &[]).await.unwrap();
            rows.iter().for_each(|row| dump.extend_from_slice(row.get::<_, String>(0).as_bytes()));
        }
        dump
    };
    let stores: [Arc<dyn Store>; 2] = stores.try_into().unwrap();
    look(stores, dump).await;
}
