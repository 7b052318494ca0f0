//! The engine without HTTP: a closure under a key.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Count, settle};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::core::{IdempotencyKey, Key};
use tower_idempotency::store::conformance::{Fault, FaultyStore, Op};
use tower_idempotency::store::{MemoryStore, Store};
use tower_idempotency::{Engine, IdempotencyLayer, Operation, RunError, Runner, Scope, StepError};

type Step = StepError<String>;

fn runner() -> (Runner, Arc<MemoryStore>) {
    let (engine, store) = engine();
    (Runner::new(engine), store)
}

fn engine() -> (Engine, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    (Engine::new(Arc::clone(&store)), store)
}

/// Charges, then fails as often as it is told to.
async fn charge(op: Operation, charges: Count, failures: usize) -> Result<String, Step> {
    let charged = charges.clone();
    let charge = op.pay("charge", move |_| async move { Ok::<_, String>(charged.up()) }).await?;
    if usize::try_from(op.attempt()).unwrap() <= failures {
        return Err(StepError::Retry("mail is down".to_owned()));
    }
    Ok(format!("charge {charge} in attempt {}", op.attempt()))
}

#[tokio::test]
async fn a_second_call_gets_the_first_ones_result() {
    let (runner, _) = runner();
    let charges = Count::default();
    for _ in 0..3 {
        let counted = charges.clone();
        let result = runner.run("jobs", "j1", "input", |op| charge(op, counted, 0)).await;
        assert_eq!(result.unwrap(), "charge 1 in attempt 1");
    }
    let counted = charges.clone();
    let other = runner.run("jobs", "j2", "input", |op| charge(op, counted, 0)).await;
    assert_eq!(other.unwrap(), "charge 2 in attempt 1");
    let counted = charges.clone();
    let elsewhere = runner.run("other jobs", "j1", "input", |op| charge(op, counted, 0)).await;
    assert_eq!(elsewhere.unwrap(), "charge 3 in attempt 1");
}

#[tokio::test]
async fn the_history_names_who_ran_it() {
    let (engine, store) = engine();
    let runner = Runner::new(engine.instance("cron-1"));
    runner.run("jobs", "j", "", |op| charge(op, Count::default(), 0)).await.unwrap();
    let key = Key::of_runner("jobs", &IdempotencyKey::parse(b"j").unwrap());
    let record = store.load(&key).await.unwrap().record.unwrap();
    let by: Vec<_> = record.history().into_iter().map(|moment| moment.by).collect();
    assert_eq!(by, [Some("cron-1".into()), None, Some("cron-1".into())]);
}

#[tokio::test]
async fn after_an_error_the_next_call_resumes() {
    let (runner, _) = runner();
    let charges = Count::default();
    for _ in 0..2 {
        let counted = charges.clone();
        let failed = runner.run("jobs", "j", &17, |op| charge(op, counted, 2)).await;
        assert!(matches!(failed, Err(RunError::Work(StepError::Retry(_)))), "{failed:?}");
    }
    let counted = charges.clone();
    let done = runner.run("jobs", "j", &17, |op| charge(op, counted, 2)).await;
    assert_eq!(done.unwrap(), "charge 1 in attempt 3");
    assert_eq!(charges.get(), 1);
}

#[tokio::test]
async fn a_key_stands_for_one_input() {
    let (runner, _) = runner();
    let run = |input: u8| runner.run("jobs", "j", &input, |_| async { Ok::<_, String>(()) });
    assert!(run(1).await.is_ok());
    assert!(matches!(run(2).await, Err(RunError::InputChanged)));
    assert!(run(1).await.is_ok());
}

#[tokio::test]
async fn what_is_not_a_key_runs_nothing() {
    let (runner, store) = runner();
    for key in ["", " ", "a b", "a,b", "ключ", &"k".repeat(256)] {
        let runs = Count::default();
        let counted = runs.clone();
        let result = runner.run("jobs", key, "", |_| async move { Ok::<_, String>(counted.up()) }).await;
        assert!(matches!(result, Err(RunError::Key(_))), "{key:?}: {result:?}");
        assert_eq!(runs.get(), 0);
    }
    assert!(store.is_empty());
}

#[tokio::test]
async fn of_many_at_once_one_runs() {
    let (runner, _) = runner();
    let gate = Arc::new(Semaphore::new(0));
    let runs = Count::default();
    let call = || {
        let (runner, gate, runs) = (runner.clone(), Arc::clone(&gate), runs.clone());
        tokio::spawn(async move {
            let work = |_| async move {
                runs.up();
                gate.acquire().await.unwrap().forget();
                Ok::<_, String>("done".to_owned())
            };
            runner.run("jobs", "j", "", work).await
        })
    };
    let calls: Vec<_> = (0..32).map(|_| call()).collect();
    settle().await;
    gate.add_permits(1);
    let mut done = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(result) => {
                assert_eq!(result, "done");
                done += 1;
            }
            Err(error) => assert!(matches!(error, RunError::Busy(left) if !left.is_zero()), "{error:?}"),
        }
    }
    assert_eq!((done, runs.get()), (1, 1));
    assert_eq!(call().await.unwrap().unwrap(), "done");
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn at_most_once_an_error_leaves_the_outcome_unknown() {
    let (runner, _) = runner();
    let runner = runner.at_most_once();
    let fail = || runner.run("jobs", "j", "", |_| async { Err::<(), _>("lost the connection") });
    assert!(matches!(fail().await, Err(RunError::Work(_))));
    assert!(matches!(fail().await, Err(RunError::OutcomeUnknown)));
    assert!(matches!(fail().await, Err(RunError::OutcomeUnknown)));
}

#[tokio::test]
async fn where_nothing_happened_the_key_is_as_new() {
    let (runner, store) = runner();
    let runner = runner.at_most_once();
    let refused = |op: Operation| async move {
        op.nothing_happened();
        Err::<u8, _>("connection refused")
    };
    assert!(matches!(runner.run("jobs", "j", &1, refused).await, Err(RunError::Work(_))));
    assert!(store.is_empty());
    // Even for another input.
    assert_eq!(runner.run("jobs", "j", &2, |_| async { Ok::<_, String>(2_u8) }).await.unwrap(), 2);
}

#[tokio::test]
async fn nothing_happened_does_not_undo_a_charge() {
    let (runner, _) = runner();
    let charges = Count::default();
    let counted = charges.clone();
    let liar = |op: Operation| async move {
        let charge = op.pay("charge", |_| async move { Ok::<_, String>(counted.up()) }).await?;
        op.nothing_happened();
        Err::<String, Step>(StepError::Retry(format!("charge {charge}")))
    };
    assert!(runner.run("jobs", "j", "", liar).await.is_err());
    let counted = charges.clone();
    let resumed = runner.run("jobs", "j", "", |op| charge(op, counted, 0)).await;
    assert_eq!(resumed.unwrap(), "charge 1 in attempt 2");
}

#[tokio::test]
async fn a_panic_is_an_error_and_is_resumed() {
    let (runner, _) = runner();
    let charges = Count::default();
    let counted = charges.clone();
    let panics = |op: Operation| async move {
        op.pay("charge", |_| async move { Ok::<_, String>(counted.up()) }).await?;
        assert!(op.is_resumed(), "the first attempt panics");
        Ok::<_, Step>(String::new())
    };
    assert!(matches!(runner.run("jobs", "j", "", panics).await, Err(RunError::Panicked)));
    let counted = charges.clone();
    assert!(runner.run("jobs", "j", "", |op| charge(op, counted, 0)).await.is_ok());
    assert_eq!(charges.get(), 1);
}

#[tokio::test]
async fn dropped_after_the_claim_it_goes_on() {
    let (runner, _) = runner();
    let gate = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&gate);
    let called = runner.clone();
    let call = tokio::spawn(async move {
        let work = |_| async move {
            wait.acquire().await.unwrap().forget();
            Ok::<_, String>("done".to_owned())
        };
        called.run("jobs", "j", "", work).await
    });
    settle().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    gate.add_permits(1);
    settle().await;
    let again = runner.run("jobs", "j", "", |_| async { Err::<String, _>("ran again") }).await;
    assert_eq!(again.unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_long_job_keeps_its_lease() {
    let (engine, _) = engine();
    let runner = Runner::new(engine.lease(Duration::from_secs(1)));
    let long = runner.clone();
    let job = tokio::spawn(async move {
        let work = |_| async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            Ok::<_, String>("done".to_owned())
        };
        long.run("jobs", "j", "", work).await
    });
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let other = runner.run("jobs", "j", "", |_| async { Ok::<_, String>("ran twice".to_owned()) }).await;
        assert!(matches!(other, Err(RunError::Busy(_))), "{other:?}");
    }
    assert_eq!(job.await.unwrap().unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_result_is_remembered_for_its_retention() {
    let (engine, _) = engine();
    let runner = Runner::new(engine.retention(Duration::from_secs(60)));
    let runs = Count::default();
    let run = || {
        let runs = runs.clone();
        runner.run("jobs", "j", "", |_| async move { Ok::<_, String>(runs.up()) })
    };
    assert_eq!(run().await.unwrap(), 1);
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(run().await.unwrap(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(run().await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_runs_nothing() {
    let store = FaultyStore::new(MemoryStore::new());
    let faults = store.faults();
    let runner = Runner::new(store);
    faults.always(Op::Swap, Fault::Before);
    faults.always(Op::Load, Fault::Before);
    let runs = Count::default();
    let run = || {
        let runs = runs.clone();
        runner.run("jobs", "j", "", |_| async move { Ok::<_, String>(runs.up()) })
    };
    assert!(matches!(run().await, Err(RunError::Store(_))));
    assert_eq!(runs.get(), 0);
    faults.clear();
    assert_eq!(run().await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_can_not_be_stored_is_given_all_the_same_and_saved_later() {
    let store = FaultyStore::new(MemoryStore::new());
    let faults = store.faults();
    let runner = Runner::new(store);
    let down = faults.clone();
    let work = |_| async move {
        down.always(Op::Swap, Fault::Before);
        Ok::<_, String>("true".to_owned())
    };
    assert_eq!(runner.run("jobs", "j", "", work).await.unwrap(), "true");
    faults.clear();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let again = runner.run("jobs", "j", "", |_| async { Ok::<_, String>("ran again".to_owned()) }).await;
    assert_eq!(again.unwrap(), "true");
}

#[tokio::test]
async fn a_store_that_loses_every_acknowledgement_changes_nothing() {
    let store = FaultyStore::new(MemoryStore::new());
    store.faults().lose_every_acknowledgement();
    let runner = Runner::new(store);
    let charges = Count::default();
    for expected in [None, Some("charge 1 in attempt 2"), Some("charge 1 in attempt 2")] {
        let counted = charges.clone();
        let result = runner.run("jobs", "j", "", |op| charge(op, counted, 1)).await;
        assert_eq!(result.ok().as_deref(), expected);
    }
    assert_eq!(charges.get(), 1);
}

/// The runner and the layer may share a store: what is behind it is `dyn`.
#[tokio::test]
async fn it_takes_any_store() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let runner = Runner::new(store);
    assert!(runner.run("jobs", "j", "", |_| async { Ok::<_, String>(()) }).await.is_ok());
}

fn text(text: &'static str) -> Full<Bytes> {
    Full::new(Bytes::from_static(text.as_bytes()))
}

/// A tenant of the layer may be called as a queue is, and uses the same key.
#[tokio::test]
async fn a_runner_and_a_layer_over_one_store_share_no_names() {
    let (runner, store) = runner();
    let counted = Count::default();
    runner.run("jobs", "17", "", |op| charge(op, counted, 0)).await.unwrap();
    let layer = IdempotencyLayer::new(Arc::clone(&store), Scope::by(|_| Some("jobs".to_owned())));
    let app = layer.layer(service_fn(|_| async { Ok::<_, Infallible>(Response::new(text("the tenant's"))) }));
    let request = Request::post("/").header("idempotency-key", "17").body(text("")).unwrap();
    let response = app.oneshot(request).await.unwrap();
    assert!(!response.headers().contains_key("idempotent-replayed"));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "the tenant's");
}

#[tokio::test]
async fn equal_inputs_in_another_order_are_one_input() {
    let (runner, _) = runner();
    let charges = Count::default();
    // Each map has an order of its own.
    for _ in 0..8 {
        let order: HashMap<String, u64> = (0..32).map(|n| (format!("item-{n}"), n)).collect();
        let counted = charges.clone();
        let done = runner.run("jobs", "j", &order, |op| charge(op, counted, 0)).await;
        assert_eq!(done.unwrap(), "charge 1 in attempt 1");
    }
    // Two amounts that a double can't tell apart.
    let run = |amount: u64| runner.run("jobs", "amount", &amount, |_| async { Ok::<_, String>(()) });
    assert!(run(9_007_199_254_740_992).await.is_ok());
    assert!(matches!(run(9_007_199_254_740_993).await, Err(RunError::InputChanged)));
}
