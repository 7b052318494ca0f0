//! Tables in partitions: each statement names one, and all processes have the same ones.

use super::*;

fn options(count: u16) -> tower_idempotency::store::PostgresStoreOptions {
    PostgresStore::options().partitions(count)
}

fn on(count: u16, server: &Postgres) -> PostgresStore {
    options(count).connect(&server.url()).expect("a URL")
}

/// Keys over the whole range of them.
async fn puts_over_all(store: &PostgresStore) {
    for n in 0..32 {
        puts(store, 4 + 8 * n).await;
    }
}

#[tokio::test]
async fn a_statement_names_the_partition_of_its_key() {
    let server = Postgres::start_with(&["log_statement=all"]);
    let store = on(16, &server);
    store.create_schema().await.expect("a schema");
    puts_over_all(&store).await;
    let places = "SELECT count(*), min(n), max(n) FROM (SELECT count(*) AS n FROM idempotency.records \
                  GROUP BY tableoid) AS each";
    assert_eq!(server.sql(places), "16|2|2");
    let before = std::fs::read_to_string(server.log()).expect("a log").len();
    let steps = Runner::new(store.clone()).run("steps", "k", "", |op| async move {
        op.step("one", |_| async { Ok::<_, std::io::Error>(1) }).await?;
        op.pay("two", |_| async { Ok::<_, std::io::Error>(2) }).await
    });
    steps.await.expect("it runs");
    runs(&store, "l").await.expect("it runs");
    runs(&store, "l").await.expect("it replays");
    let shop = store.transactions();
    let order = Runner::new(store.clone()).run("orders", "k", "", move |op| async move {
        let work = op.transaction(&shop, "order", |tx| {
            Box::pin(async move {
                let row = tx.query_one("SELECT 7", &[]).await.map_err(std::io::Error::other)?;
                Ok::<i32, std::io::Error>(row.get(0))
            })
        });
        work.await
    });
    assert_eq!(order.await.expect("it commits"), 7);
    for n in 0..32 {
        let found = store.load(&key(4 + 8 * n)).await.expect("it answers").record.expect("a record");
        assert!(store.remove(&key(4 + 8 * n), found.version()).await.expect("it answers"));
    }
    let log = std::fs::read_to_string(server.log()).expect("a log").split_off(before);
    let statements: Vec<_> = log.lines().filter(|line| line.contains("LOG:  execute ")).collect();
    assert!(statements.len() > 70, "{log}");
    let whole: Vec<_> = statements.iter().filter(|line| line.contains("\"records\"")).collect();
    assert!(whole.is_empty(), "they look into each partition: {whole:?}");
}

#[tokio::test]
async fn tables_that_are_made_otherwise_are_refused() {
    let server = Postgres::start();
    on(4, &server).create_schema().await.expect("a schema");
    on(4, &server).create_schema().await.expect("it is there");
    puts(&on(4, &server), 1).await;
    for told in [1, 2, 8] {
        let error = on(told, &server).load(&key(1)).await.expect_err("it would look elsewhere").to_string();
        assert!(error.contains("set partitions(4)"), "{told}: {error}");
    }
    on(8, &server).create_schema().await.expect_err("the number can't be changed");
    assert_eq!(server.sql("SELECT count(*) FROM pg_inherits WHERE inhparent = 'idempotency.records'::regclass"), "4");
    let url = format!("{}?partitions=4", server.url());
    let found = PostgresStore::connect(&url).expect("a URL").load(&key(1)).await.expect("it is told as many");
    assert!(found.record.is_some());

    let whole = PostgresStore::options().schema("whole");
    let undivided = whole.clone().connect(&server.url()).expect("a URL");
    undivided.create_schema().await.expect("a schema");
    let divided = whole.partitions(4).connect(&server.url()).expect("a URL");
    let error = divided.load(&key(1)).await.expect_err("there are none").to_string();
    assert!(error.contains("set partitions(1)"), "{error}");
    let error = divided.create_schema().await.expect_err("they are there").to_string();
    assert!(error.contains("another number of partitions"), "{error}");
    puts(&undivided, 1).await;
}

/// Without, it would find out at the first key of that partition.
#[tokio::test]
async fn a_role_needs_its_rights_on_each_partition() {
    let server = Postgres::start();
    on(4, &server).create_schema().await.expect("a schema");
    server.sql(
        "CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA idempotency TO app; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA idempotency TO app; \
         REVOKE DELETE ON idempotency.steps_3 FROM app",
    );
    let store = || options(4).connect(&server.url_of("app", "postgres")).expect("a URL");
    let error = store().load(&key(1)).await.expect_err("one right is missing").to_string();
    assert!(error.contains("on each partition"), "{error}");
    server.sql("GRANT DELETE ON idempotency.steps_3 TO app");
    puts(&store(), 1).await;
}

#[tokio::test]
async fn a_sweep_goes_through_all_partitions() {
    let server = Postgres::start();
    let store = on(8, &server);
    store.create_schema().await.expect("a schema");
    puts_over_all(&store).await;
    server.sql("UPDATE idempotency.records SET status = 2, due = 0 WHERE get_byte(key, 0) <> 4");
    assert_eq!(store.sweep(0).await.expect("a sweep"), 0);
    assert_eq!(store.sweep(6).await.expect("a sweep"), 6, "no more than it was told");
    let (one, other) = tokio::join!(store.sweep(100), store.sweep(100));
    assert_eq!(one.expect("a sweep") + other.expect("a sweep"), 25);
    assert_eq!(store.scan(&Query::new(Filter::Unfinished, 100)).await.expect("a scan").found.len(), 1);
}

/// Names may have all that Postgres lets them have, and texts what an old setting makes of them.
#[tokio::test]
async fn names_and_bounds_are_what_they_are_whatever_strings_mean() {
    let server = Postgres::start();
    for (database, conforming) in [("usual", "on"), ("old", "off")] {
        let url = server.database(database);
        server.sql(&format!("ALTER DATABASE {database} SET standard_conforming_strings = {conforming}"));
        let options = options(3).schema("my \"odd\" 'sch\\ema'.%s$1").table_prefix("P\\ 'r-\"x\".");
        let store = options.connect(&url).expect("a URL");
        store.create_schema().await.expect("a schema");
        let bounds = server.sql_in(
            database,
            "SET standard_conforming_strings = on; SELECT pg_get_expr(relpartbound, oid) FROM pg_class \
            WHERE relispartition AND relkind = 'r' AND relname LIKE '%records%' ORDER BY relname",
        );
        let bound = |number| ["'\\x5556'", "'\\xaaab'"][number];
        let (first, second) = (bound(0), bound(1));
        let expected = format!(
            "FOR VALUES FROM (MINVALUE) TO ({first})\nFOR VALUES FROM ({first}) TO ({second})\n\
             FOR VALUES FROM ({second}) TO (MAXVALUE)"
        );
        assert_eq!(bounds, expected, "{database}");
        puts_over_all(&store).await;
        for n in 0..32 {
            assert!(store.load(&key(4 + 8 * n)).await.expect("it answers").record.is_some(), "{database}");
        }
        assert_eq!(store.scan(&Query::new(Filter::Unfinished, 100)).await.expect("a scan").found.len(), 32);
    }
}

/// To be told fewer, as the tables have now, would not bring back what was in it.
#[tokio::test]
async fn a_partition_that_was_taken_away_is_to_be_put_back() {
    let server = Postgres::start();
    on(4, &server).create_schema().await.expect("a schema");
    server.sql("ALTER TABLE idempotency.records DETACH PARTITION idempotency.records_1");
    let error = on(4, &server).load(&key(1)).await.expect_err("one is missing").to_string();
    assert!(error.contains("put back those that are missing"), "{error}");
}

/// What the guide tells an operator to run.
fn of_the_guide() -> &'static str {
    const PAGE: &str = include_str!("../../../../src/guide/operations.md");
    let (_, section) = PAGE.split_once("# Partitions on Postgres").expect("a section");
    let (_, block) = section.split_once("```sql\n").expect("a block");
    block.split_once("```").expect("its end").0
}

/// Tables of an earlier release have the same columns in another order.
#[tokio::test]
async fn what_was_copied_as_the_guide_says_is_there() {
    const KEY: &str = "    key      bytea    NOT NULL PRIMARY KEY,\n";
    const TABLE: &str = "\"records\" (\n";
    let server = Postgres::start();
    let store = on(1, &server);
    let earlier = store.migration().replacen(KEY, "", 1).replacen(TABLE, &format!("{TABLE}{KEY}"), 1);
    assert_ne!(earlier, store.migration());
    server.sql(&earlier);
    puts_over_all(&store).await;
    runs(&store, "a").await.expect("it runs");
    let begun = Runner::new(store.clone()).run("steps", "k", "", |op| async move {
        op.step("one", |_| async { Ok::<_, std::io::Error>(1) }).await?;
        op.step("two", |_| async { Err::<i32, _>(std::io::Error::other("not now")) }).await
    });
    assert!(begun.await.is_err());
    let moved = options(4).schema("new_schema").connect(&server.url()).expect("a URL");
    moved.create_schema().await.expect("a schema");
    server.sql(of_the_guide());
    let mut found = Vec::new();
    for filter in [Filter::Unfinished, Filter::Complete] {
        found.extend(store.scan(&Query::new(filter, 100)).await.expect("it answers").found);
    }
    assert_eq!((found.len(), server.sql("SELECT count(*) FROM new_schema.steps")), (34, "1".into()));
    for found in found {
        let [before, after] = [store.load(&found.key).await, moved.load(&found.key).await]
            .map(|loaded| loaded.expect("it answers").record);
        assert_eq!(after, before);
        assert!(after.is_some());
    }
}
