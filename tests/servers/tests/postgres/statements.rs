//! How many statements a call takes, and that the guess by which a claim asks first decides nothing.

use super::*;

/// Statements that the server has run. Less the looks at the record of maintenance windows: one for each
/// engine, and one every few seconds. Its key begins with eight bytes of zero.
fn executed(server: &Postgres) -> usize {
    let log = std::fs::read_to_string(server.log()).expect("a log");
    log.matches("LOG:  execute ").count() - log.matches("$1 = '\\x0000000000000000").count()
}

/// How many there were since it was asked before.
fn counter(server: &Postgres) -> impl FnMut() -> usize {
    let mut before = executed(server);
    move || {
        let was = std::mem::replace(&mut before, executed(server));
        before - was
    }
}

#[tokio::test]
async fn a_first_call_takes_two_and_a_replay_one() {
    let server = Postgres::start_with(&["log_statement=all"]);
    for prepared in [true, false] {
        let open = || PostgresStore::options().prepared(prepared).creating_schema().connect(&server.url());
        let (store, another) = (open().expect("a URL"), open().expect("a URL"));
        runs(&store, "warm-up").await.expect("it runs");
        runs(&another, "warm-up").await.expect("it replays");
        let mut took = counter(&server);
        let name = if prepared { "a" } else { "b" };
        runs(&store, name).await.expect("it runs");
        assert_eq!(took(), 2, "a first call: claim, complete");
        runs(&store, name).await.expect("it replays");
        assert_eq!(took(), 1, "a replay: what is there");
        runs(&another, name).await.expect("it replays");
        assert_eq!(took(), 2, "a key that this process has not met: no claim, and what is there");
        runs(&another, name).await.expect("it replays");
        assert_eq!(took(), 1, "now it has met the key");
        let steps = Runner::new(store.clone()).run("steps", name, "", |op| async move {
            op.step("one", |_| async { Ok::<_, std::io::Error>(1) }).await?;
            op.pay("two", |_| async { Ok::<_, std::io::Error>(2) }).await
        });
        steps.await.expect("it runs");
        assert_eq!(took(), 5, "a step is one more, a payment two");
        assert_eq!(server.sql("SELECT count(*) FROM idempotency.steps"), "0", "a complete record has no steps");
    }
}

#[tokio::test]
async fn a_key_that_was_met_and_is_gone_is_claimed() {
    let (server, name, store) = fresh().await;
    puts(&store, 0).await;
    server.sql_in(&name, "DELETE FROM idempotency.records");
    let swapped = store.swap(&key(0), None, &first_claim(&key(0)).await).await.expect("it answers");
    assert!(matches!(swapped, Swap::Stored), "{swapped:?}");
}

/// The old primary still has what the new one has not any more, and its connections work.
#[tokio::test]
async fn what_a_server_shows_that_takes_no_more_writes_is_in_no_claims_way() {
    let primary = Postgres::start();
    let (name, url) = by_name(&primary);
    let store = PostgresStore::options().creating_schema().connect(&url).expect("a URL");
    puts(&store, 0).await;
    let standby = primary.fail_over();
    name.redirect(address(&standby));
    standby.sql("DELETE FROM idempotency.records");
    let swapped = store.swap(&key(0), None, &first_claim(&key(0)).await).await.expect("it moves on");
    assert!(matches!(swapped, Swap::Stored), "{swapped:?}");
    assert_eq!(standby.sql("SELECT count(*) FROM idempotency.records"), "1");
}
