//! The index of labels: what it costs, and that it follows its records.

use tower_idempotency::{Label, ListState, Listing, Operation, Operator};

use super::*;

fn order() -> Label {
    Label::new("order", 17)
}

async fn begin(store: &PostgresStore, n: u8) -> Record {
    let claim = Claim { labels: Labels::new().with("order", 17), ..claim() };
    Ledger::new(store.clone()).apply(&key(n), None, claim).await.expect("a claim").record.expect("a record")
}

async fn change(store: &PostgresStore, n: u8, begun: &Record, change: Change) {
    let fenced = Fenced { fence: tower_idempotency::core::Fence::of(begun.version()), changes: vec![change] };
    Ledger::new(store.clone()).apply(&key(n), None, fenced).await.expect("a change").output.expect("it is ours");
}

fn complete(retention: Duration) -> Change {
    let response = Arc::new(StoredResponse::capture(StatusCode::CREATED, &HeaderMap::new(), None));
    Change::Complete { response, retention, reached: Reached::All }
}

async fn found(store: &PostgresStore, filter: Filter) -> Vec<Key> {
    let page = store.scan(&Query::new(filter, 10).label(order())).await.expect("a page");
    page.found.iter().map(|found| found.key).collect()
}

/// The same database, by a store with the index.
async fn indexing(server: &Postgres, database: &str) -> PostgresStore {
    let store =
        PostgresStore::options().index_labels(true).connect(&server.url_of("postgres", database)).expect("a URL");
    store.create_schema().await.expect("tables");
    store
}

#[tokio::test]
async fn it_is_refused_without_its_table_and_asked_only_where_it_is_on() {
    let (server, name, plain) = fresh().await;
    let begun = begin(&plain, 1).await;
    change(&plain, 1, &begun, complete(HOUR)).await;
    let refused = plain.scan(&Query::new(Filter::Complete, 10).label(order())).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::NotIndexed, "{refused}");
    assert!(refused.to_string().contains("index_labels(true)"), "{refused}");
    let with = PostgresStore::options().index_labels(true).connect(&server.url_of("postgres", &name)).expect("a URL");
    let missing = with.load(&key(1)).await.unwrap_err();
    assert!(missing.to_string().contains("labels") && missing.to_string().contains("create_schema()"), "{missing}");
    with.create_schema().await.expect("tables");
    with.load(&key(1)).await.expect("it is there now");
    let by_url = format!("{}?index_labels=true", server.url_of("postgres", &name));
    let by_url = PostgresStore::connect(&by_url).expect("a URL");
    assert!(by_url.indexes_labels() && with.indexes_labels() && !plain.indexes_labels());
}

#[tokio::test]
async fn it_costs_no_statement_and_what_has_no_label_no_row() {
    let server = Postgres::start_with(&["log_statement=all"]);
    let executed = || std::fs::read_to_string(server.log()).expect("a log").matches("LOG:  execute ").count();
    let with = PostgresStore::options().index_labels(true).creating_schema().connect(&server.url()).expect("a URL");
    let bare = claimed(&with, &key(1)).await;
    change(&with, 1, &bare, complete(HOUR)).await;
    let before = executed();
    let bare = claimed(&with, &key(2)).await;
    change(&with, 2, &bare, complete(HOUR)).await;
    let between = executed();
    assert_eq!(server.sql("SELECT count(*) FROM idempotency.labels"), "0");
    let begun = begin(&with, 3).await;
    change(&with, 3, &begun, complete(HOUR)).await;
    assert_eq!(executed() - between, between - before);
    assert_eq!(found(&with, Filter::Complete).await, [key(3)]);
}

#[tokio::test]
async fn a_row_goes_with_its_record() {
    let (server, name, _) = fresh().await;
    let store = indexing(server, &name).await;
    let rows = || server.sql_in(&name, "SELECT count(*) FROM idempotency.labels");
    let (removed, expires, relabelled) = (begin(&store, 1).await, begin(&store, 2).await, begin(&store, 3).await);
    change(&store, 2, &expires, complete(Duration::from_millis(1))).await;
    change(&store, 3, &relabelled, Change::Label { label: Label::new("order", 18) }).await;
    assert_eq!((rows(), found(&store, Filter::Unfinished).await), ("3".to_owned(), vec![key(1)]));
    assert!(store.remove(&key(1), removed.version()).await.expect("it is removed"));
    wait_until("it has expired", || {
        server.sql_in(&name, "SELECT count(*) FROM idempotency.records WHERE due < extract(epoch from now()) * 1000")
            == "1"
    });
    assert_eq!(store.sweep(10).await.expect("a sweep"), 1);
    assert_eq!((rows(), found(&store, Filter::Unfinished).await), ("1".to_owned(), vec![]));
}

#[tokio::test]
async fn a_process_without_it_hides_nothing_from_a_walk_and_leaves_no_row_behind() {
    let (server, name, plain) = fresh().await;
    let with = indexing(server, &name).await;
    let (ended, removed) = (begin(&with, 1).await, begin(&with, 2).await);
    change(&plain, 1, &ended, complete(HOUR)).await;
    assert!(plain.remove(&key(2), removed.version()).await.expect("it is removed"));
    let older = begin(&plain, 3).await;
    let operator = Operator::new(with.clone());
    let listed = async |state, index| {
        let listing = Listing::new(state).label(order()).label_index(index);
        operator.list(&listing).await.expect("a page").operations.iter().map(|shown| shown.key).collect::<Vec<_>>()
    };
    assert_eq!(listed(ListState::Unfinished, true).await, [], "what has ended is not shown, wherever it lies");
    assert_eq!(listed(ListState::Unfinished, false).await, [key(3)]);
    assert_eq!(listed(ListState::Complete, false).await, [key(1)]);
    change(&with, 3, &older, Change::Renew).await;
    assert_eq!(listed(ListState::Unfinished, true).await, [key(3)]);
}

#[tokio::test]
async fn a_transaction_of_the_callers_writes_the_index_too() {
    let (server, name, _) = fresh().await;
    let store = indexing(server, &name).await;
    let transactions = store.transactions();
    let ran = Runner::new(store.clone()).run("s", "k", "", |op: Operation| async move {
        op.label("order", 17);
        let put =
            op.transaction(&transactions, "order", |tx| Box::pin(async move { tx.execute("SELECT 1", &[]).await }));
        put.await
    });
    assert_eq!(ran.await.expect("it ran"), 1);
    assert_eq!(found(&store, Filter::Complete).await.len(), 1);
}

#[tokio::test]
async fn a_row_takes_as_many_bytes_as_its_option_says() {
    let (server, name, _) = fresh().await;
    indexing(server, &name).await;
    let size =
        || server.sql_in(&name, "SELECT pg_total_relation_size('idempotency.labels')").parse::<u64>().expect("bytes");
    let before = size();
    server.sql_in(
        &name,
        "WITH r AS (INSERT INTO idempotency.records (key, version, status, created, due, span, steps, head) \
         SELECT sha256(n::text::bytea), n, 2, n, n, 1, 0, '' FROM generate_series(1, 20000) AS n RETURNING key, due) \
         INSERT INTO idempotency.labels SELECT key, substr(sha256(key), 1, 8), true, due FROM r",
    );
    let bytes = (size() - before) / 20_000;
    println!("{bytes} bytes a row");
    assert!(bytes <= 300, "{bytes} bytes a row");
}
