//! A commit whose outcome is unknown is found out, never guessed.

use std::net::SocketAddr;
use std::time::Duration;

use servers::{Fault, Postgres, Proxy, Trap, Way, wait_until};
use tower_idempotency::{Engine, RunError, StepError};

use crate::shop::{Driver, Failed, INSERT, Shop, Sqlx, Tokio};
use crate::with_both_drivers;

with_both_drivers! {
    a_commit_whose_reply_is_lost_is_found_to_have_taken
    a_commit_that_never_arrived_is_found_not_to_have_taken
    a_commit_that_arrives_late_is_waited_for
    a_process_that_dies_before_its_commit_leaves_nothing
    a_link_that_falls_silent_holds_nobody_for_long
}

/// An order whose commit waits for a synchronous standby.
const INSERT_IN_SYNC: &str = "INSERT INTO orders (id) SELECT nextval('orders_id_seq') \
     FROM set_config('synchronous_commit', 'on', true) RETURNING id";

/// The commit is on disk, and waits for a standby that is not there; its client
/// is gone. A look at the record says that nothing was done; it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_waits_for_a_standby_is_waited_for() {
    // Only what asks for it waits.
    let server = Postgres::start_with(&["synchronous_commit=local"]);
    for how in ["the standby is given up", "the server ends the session"] {
        commit_in_sync::<Tokio>(&server, how).await;
        commit_in_sync::<Sqlx>(&server, how).await;
    }
}

fn set_standby(server: &Postgres, name: &str) {
    server.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"));
    server.sql("SELECT pg_reload_conf()");
    wait_until("the setting to be read", || server.sql("SHOW synchronous_standby_names") == name);
    // Who lets commits wait or go on is who makes checkpoints: it reads first.
    server.sql("CHECKPOINT");
}

async fn commit_in_sync<D: Driver>(server: &Postgres, how: &str) {
    set_standby(server, "nowhere");
    let link = proxy(server);
    let shop = Shop::<D>::open_through(server, link.address().port()).await;
    link.set_trap(Trap::after(Way::Requests, b"COMMIT", Fault::Cut));
    let joined = shop.joined.clone();
    let call = shop.runner().run("shop", "K", "", move |op| async move {
        op.transaction(&joined, "order", |tx| D::run(tx, INSERT_IN_SYNC)).await
    });
    let call = tokio::spawn(call);
    let count = |what: &str| {
        let from = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND";
        shop.sql(&format!("{from} {what}"))
    };
    tokio::task::block_in_place(|| {
        wait_until("the commit to wait for the standby", || count("wait_event = 'SyncRep'") == "1");
        wait_until("the step to be found out about", || call.is_finished() || count("wait_event_type = 'Lock'") == "1");
    });
    assert!(!call.is_finished(), "{how}: it was decided by what can be seen: {:?}", call.await);
    assert_eq!((shop.orders().as_str(), shop.sql("SELECT count(*) FROM idempotency.steps").as_str()), ("0", "0"));
    if how.contains("session") {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        assert_eq!(shop.sql(end), "t");
    } else {
        set_standby(server, "");
    }
    let outcome: Outcome = call.await.expect("no panic");
    outcome.unwrap_or_else(|error| panic!("{how}: it committed: {error:?}"));
    assert_eq!(shop.orders(), "1", "{how}");
    let again = order(&Shop { joined: shop.store.transactions_on(D::pool(&shop.url())), ..shop }).await;
    assert!(again.is_ok(), "{how}: {again:?}");
}

type Outcome = Result<i64, RunError<StepError<Failed>>>;

fn proxy(server: &Postgres) -> Proxy {
    Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port())))
}

/// Runs the step, and looks at what it says.
async fn order<D: Driver>(shop: &Shop<'_, D>) -> Outcome {
    let joined = shop.joined.clone();
    let call = shop
        .runner()
        .run("shop", "K", "", move |op| async move { op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await });
    call.await
}

async fn a_commit_whose_reply_is_lost_is_found_to_have_taken<D: Driver>() {
    let link = proxy(Postgres::shared());
    let shop = Shop::<D>::open_through(Postgres::shared(), link.address().port()).await;
    link.set_trap(Trap::after(Way::Requests, b"COMMIT", Fault::Lose(Way::Replies)));
    assert_eq!(order(&shop).await.expect("it committed"), 1);
    assert_eq!((link.sprung(), shop.orders().as_str()), (1, "1"));
}

async fn a_commit_that_never_arrived_is_found_not_to_have_taken<D: Driver>() {
    let link = proxy(Postgres::shared());
    let shop = Shop::<D>::open_through(Postgres::shared(), link.address().port()).await;
    link.set_trap(Trap::before(Way::Requests, b"COMMIT", Fault::Cut));
    let outcome = order(&shop).await;
    assert!(matches!(outcome, Err(RunError::Work(StepError::RolledBack(_)))), "{outcome:?}");
    assert_eq!((link.sprung(), shop.orders().as_str()), (1, "0"));
    link.heal();
    order(&shop).await.expect("the retry runs it");
    assert_eq!(shop.orders(), "1");
}

/// The commit is on its way when the client gives up, and a look at the record
/// would say that the step was not done.
async fn a_commit_that_arrives_late_is_waited_for<D: Driver>() {
    let link = proxy(Postgres::shared());
    let shop = Shop::<D>::open_through(Postgres::shared(), link.address().port()).await;
    link.set_trap(Trap::before(Way::Requests, b"COMMIT", Fault::Hold(Way::Requests)));
    let joined = shop.joined.clone();
    let call = shop
        .runner()
        .run("shop", "K", "", move |op| async move { op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await });
    let call = tokio::spawn(call);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let (server, database) = (shop.server, shop.database.clone());
    let waiting = move || wait_until("the write to wait for the lock", || server.sql_in(&database, waits) == "1");
    tokio::task::spawn_blocking(waiting).await.expect("it waits");
    link.heal();
    let outcome: Outcome = call.await.expect("no panic");
    // What the proxy held may be delivered or lost with the connection: either
    // way the answer is the truth.
    match outcome {
        Ok(_) => assert_eq!(shop.orders(), "1"),
        Err(RunError::Work(StepError::RolledBack(_))) => assert_eq!(shop.orders(), "0"),
        other => panic!("{other:?}"),
    }
}

async fn a_process_that_dies_before_its_commit_leaves_nothing<D: Driver>() {
    let link = proxy(Postgres::shared());
    let shop = Shop::<D>::open(Postgres::shared()).await;
    let through = format!("postgres://postgres@{}/{}", link.address(), shop.database);
    let lease = Duration::from_millis(500);
    link.set_trap(Trap::before(Way::Requests, b"COMMIT", Fault::Hold(Way::Requests)));
    // Dropping a runtime is what a crash is to all that runs in it.
    let url = shop.server.url_of("postgres", &shop.database);
    let crash = move || {
        let process = tokio::runtime::Runtime::new().expect("a runtime");
        let _inside = process.enter();
        let store = tower_idempotency::store::PostgresStore::connect(&url).expect("a URL");
        let joined = store.transactions_on(D::pool(&through));
        let runner = tower_idempotency::Runner::new(Engine::new(store).lease(lease));
        process.spawn(async move {
            let call = runner.run("shop", "K", "", move |op| async move {
                op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await
            });
            let _: Outcome = call.await;
        });
        wait_until("the commit", || link.sprung() == 1);
        process.shutdown_background();
        link
    };
    let link = tokio::task::spawn_blocking(crash).await.expect("it crashes");
    link.apply(Fault::Cut);
    let mut outcome = order(&shop).await;
    while let Err(RunError::Busy(_) | RunError::Store(_)) = outcome {
        tokio::time::sleep(Duration::from_millis(50)).await;
        outcome = order(&shop).await;
    }
    outcome.expect("the retry runs it");
    assert_eq!(shop.orders(), "1");
}

/// Nothing arrives any more, and no connection is reset. The transaction was
/// not committed, and whoever waits is told so, while renewals went on.
async fn a_link_that_falls_silent_holds_nobody_for_long<D: Driver>() {
    let silent = async |at: Option<&[u8]>| {
        let link = proxy(Postgres::shared());
        let shop = Shop::<D>::open_through(Postgres::shared(), link.address().port()).await;
        match at {
            Some(bytes) => link.set_trap(Trap::before(Way::Requests, bytes, Fault::HoldBoth)),
            None => link.apply(Fault::HoldBoth),
        }
        let outcome = tokio::time::timeout(Duration::from_secs(60), order(&shop)).await.expect("it ends");
        assert!(matches!(outcome, Err(RunError::Work(StepError::RolledBack(_)))), "{at:?}: {outcome:?}");
        link.apply(Fault::Cut);
        link.heal();
        let mut again = order(&shop).await;
        while let Err(RunError::Work(StepError::RolledBack(_)) | RunError::Busy(_) | RunError::Store(_)) = again {
            tokio::time::sleep(Duration::from_millis(50)).await;
            again = order(&shop).await;
        }
        again.expect("the retry runs it");
        assert_eq!(shop.orders(), "1", "{at:?}");
    };
    // Before it begins, as it begins, and with the rows written.
    tokio::join!(silent(None), silent(Some(b"BEGIN")), silent(Some(b"UPDATE")));
}
