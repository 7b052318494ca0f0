//! The store fails in every way a store can, and the rows are there once.

use std::sync::Arc;
use std::time::Duration;

use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::store::conformance::{Fault, FaultyStore, Gate, Op};
use tower_idempotency::{Engine, RunError, Runner};

use super::{Error, Failed, Fixture, INSERT};

pub(crate) async fn whatever_the_store_does_there_is_one_row<S: Fixture>() {
    let shop = S::open().await;
    let mut expected = 0;
    for call in 1..=6 {
        for (name, op, fault) in faults() {
            let store = Arc::new(FaultyStore::new(shop.store()));
            let gates: Vec<Gate> = match &fault {
                Fault::Late(gate) => vec![gate.clone()],
                _ => Vec::new(),
            };
            store.faults().nth(op, call, fault.clone());
            let key = format!("{name}-{op:?}-{call}");
            let runner = Runner::new(Engine::new(Arc::clone(&store)).lease(Duration::from_millis(600)));
            let mut orders = Vec::new();
            // A few retries after the first success: they replay.
            while orders.len() < 2 {
                let enlisted = shop.enlisted();
                let outcome = runner.run("shop", &key, "", move |op| async move {
                    op.step("before", |_| async { Ok::<_, Failed>(1) }).await?;
                    let order = op.transaction(&enlisted, "order", |tx| S::run(tx, INSERT)).await?;
                    op.step("after", |_| async { Ok::<_, Failed>(2) }).await?;
                    // Its rows are there already.
                    if op.is_resumed() { Ok::<i64, Error>(order) } else { Err(Error::Retry("died".into())) }
                });
                match outcome.await {
                    Ok(order) => orders.push(order),
                    Err(RunError::Busy(_) | RunError::Store(_) | RunError::Work(_)) => {
                        gates.iter().for_each(Gate::open);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => panic!("{key}: {error:?}"),
                }
            }
            gates.iter().for_each(Gate::open);
            expected += 1;
            assert_eq!(orders[0], orders[1], "{key}");
            assert_eq!(shop.orders(), expected, "{key}");
        }
    }
}

fn faults() -> Vec<(&'static str, Op, Fault)> {
    let mut faults = Vec::new();
    for op in [Op::Load, Op::Swap] {
        faults.extend([
            ("before", op, Fault::Before),
            ("after", op, Fault::After),
            ("twice", op, Fault::Twice),
            ("late", op, Fault::Late(Gate::new())),
            ("full", op, Fault::Refused(StoreErrorKind::Full)),
        ]);
    }
    faults
}
