//! A failover behind one name: the old primary is up, and read-only.

use std::any::TypeId;
use std::net::SocketAddr;

use servers::{Postgres, Proxy};
use tower_idempotency::store::PostgresStore;
use tower_idempotency::store::postgres::{Enlisted, TransactionDriver};
use tower_idempotency::{Runner, StepError};

use crate::shop::{Driver, Failed, INSERT, Tokio};
use crate::with_both_drivers;

with_both_drivers! {
    transactions_go_on_after_a_failover_behind_one_name
}

fn address(server: &Postgres) -> SocketAddr {
    ([127, 0, 0, 1], server.port()).into()
}

/// A primary with orders, and a name that leads to it.
async fn shop() -> (Postgres, Proxy, String, PostgresStore) {
    let primary = Postgres::start();
    primary.sql("CREATE TABLE orders (id bigserial PRIMARY KEY)");
    let name = Proxy::to(address(&primary));
    let url = primary.url().replace(&primary.port().to_string(), &name.address().port().to_string());
    let store = PostgresStore::options().creating_schema().connect(&url).expect("a URL");
    (primary, name, url, store)
}

fn fail_over(primary: &Postgres, name: &Proxy) -> Postgres {
    let standby = primary.fail_over();
    name.redirect(address(&standby));
    standby
}

/// How many attempts it takes.
async fn attempts<D: Driver, P>(store: &PostgresStore, joined: &Enlisted<P>, key: &str) -> u32
where
    P: TransactionDriver<Handle = <D::Pool as TransactionDriver>::Handle>,
{
    for attempt in 1..=3 {
        let joined = joined.clone();
        let outcome = Runner::new(store.clone()).run("shop", key, "", move |op| async move {
            op.transaction(&joined, "order", |tx| D::run(tx, INSERT)).await
        });
        let outcome: Result<i64, tower_idempotency::RunError<StepError<Failed>>> = outcome.await;
        if outcome.is_ok() {
            return attempt;
        }
    }
    panic!("{key} does not come to an end");
}

/// Where the driver can tell before anything was done, the first one succeeds.
async fn transactions_go_on_after_a_failover_behind_one_name<D: Driver>() {
    let (primary, name, url, store) = shop().await;
    let joined = store.transactions_on(D::pool(&url));
    assert_eq!(attempts::<D, _>(&store, &joined, "before").await, 1);
    let standby = fail_over(&primary, &name);
    let first = attempts::<D, _>(&store, &joined, "first").await;
    assert!(first == 1 || (first == 2 && TypeId::of::<D>() != TypeId::of::<Tokio>()), "{first} attempts");
    assert_eq!(attempts::<D, _>(&store, &joined, "second").await, 1);
    assert_eq!(standby.sql("SELECT count(*) FROM orders"), "3");
    assert_eq!(primary.sql("SELECT count(*) FROM orders"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_transaction_on_the_stores_own_pool_succeeds_after_a_failover() {
    let (primary, name, _, store) = shop().await;
    let joined = store.transactions();
    assert_eq!(attempts::<Tokio, _>(&store, &joined, "before").await, 1);
    let standby = fail_over(&primary, &name);
    assert_eq!(attempts::<Tokio, _>(&store, &joined, "first").await, 1);
    assert_eq!(standby.sql("SELECT count(*) FROM orders"), "2");
}
