//! Results that JSON can't carry: what was done is not done again because of it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_idempotency::core::{Hold, Mode};
use tower_idempotency::{Operation, Reconciled, RunError, Runner, StepError, StepFuture};

use crate::support::Count;
use crate::support::bodies::Failure;
use crate::support::lab::{App, Lab, operation, post, reply, send, serve, stored_key};

fn tuple_keys() -> BTreeMap<(u8, u8), u8> {
    BTreeMap::from([((1, 2), 3)])
}

/// A service whose only step is made by `step`; it says what became of it.
fn service<T, F>(lab: &Lab, step: F) -> App
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    F: Fn(&Operation) -> StepFuture<'static, T, Failure> + Clone + Send + Sync + 'static,
{
    serve(&lab.layer().resumable(), move |request| {
        let step = step(&operation(&request));
        async move {
            let said = match step.await {
                Ok(_) => "ok".to_owned(),
                Err(StepError::Unreadable { step, .. }) => format!("{step}: unreadable"),
                Err(error) => error.to_string(),
            };
            Ok(reply(503, said))
        }
    })
}

/// The attempt that has the result is told. The next one, which needs it, parks
/// the operation; the effect happened once.
async fn done_once_and_parked<T, F>(step: F)
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    F: Fn(&Operation, Count) -> StepFuture<'static, T, Failure> + Clone + Send + Sync + 'static,
{
    let (lab, effects) = (Lab::new(), Count::default());
    let counted = effects.clone();
    let app = service(&lab, move |op| step(op, counted.clone()));
    send(&app, post("k")).await.assert_first(503, "s: unreadable");
    assert_eq!(effects.get(), 1);
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(effects.get(), 1, "the effect was repeated");
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    let Hold::Parked { why } = record.hold() else { panic!("not parked: {:?}", record.hold()) };
    assert!(why.contains("\"s\""), "it names the step: {why}");
}

#[tokio::test]
async fn a_result_that_does_not_read_back_is_done_and_not_repeated() {
    let nan = |effects: Count| async move {
        effects.up();
        Ok(f64::NAN)
    };
    done_once_and_parked(move |op, effects| op.step("s", move |_| nan(effects))).await;
    done_once_and_parked(move |op, effects| op.pay("s", move |_| nan(effects))).await;
    done_once_and_parked(move |op, effects| op.once("s", move || nan(effects))).await;
}

#[tokio::test]
async fn a_result_that_can_not_be_written_is_done_and_not_repeated() {
    let map = |effects: Count| async move {
        effects.up();
        Ok(tuple_keys())
    };
    done_once_and_parked(move |op, effects| op.step("s", move |_| map(effects))).await;
    done_once_and_parked(move |op, effects| op.pay("s", move |_| map(effects))).await;
    done_once_and_parked(move |op, effects| op.once("s", move || map(effects))).await;
}

/// The same for a result that a reconciler finds out.
#[tokio::test]
async fn a_reconciled_result_that_does_not_read_back_is_done() {
    let (lab, effects) = (Lab::new(), Count::default());
    let counted = effects.clone();
    let app = service(&lab, move |op| {
        let effects = counted.clone();
        let work = move || async move {
            effects.up();
            Err(Failure("timed out"))
        };
        op.once("s", work).reconcile(|| async { Reconciled::Happened(f64::NAN) })
    });
    send(&app, post("k")).await.assert_first(503, "timed out");
    send(&app, post("k")).await.assert_first(503, "s: unreadable");
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(effects.get(), 1);
}

#[derive(Debug, Serialize, serde::Deserialize)]
struct Declined(BTreeMap<(u8, u8), u8>);

/// And for a final error: what was refused for good is not asked for again.
#[tokio::test]
async fn a_final_error_that_can_not_be_written_is_final() {
    let (lab, effects) = (Lab::new(), Count::default());
    let counted = effects.clone();
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, effects) = (operation(&request), counted.clone());
        async move {
            let work = move |_| async move {
                effects.up();
                Err::<u8, _>(Declined(tuple_keys()))
            };
            let said = match op.pay("s", work).final_when(|_| true).await {
                Err(StepError::Unreadable { step, .. }) => format!("{step}: unreadable"),
                other => format!("{other:?}"),
            };
            Ok(reply(503, said))
        }
    });
    send(&app, post("k")).await.assert_first(503, "s: unreadable");
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(effects.get(), 1);
}

/// A result of another type than is asked for, as another release wrote it: not
/// run again, and not parked. The release that can read it may come next.
#[tokio::test]
async fn a_result_of_another_release_waits_for_one_that_reads_it() {
    let (lab, runs) = (Lab::new(), Count::default());
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, run) = (operation(&request), runs.up());
        async move {
            if run == 2 {
                let result = op.step("s", |_| async { Ok::<u8, Failure>(1) }).await;
                assert!(matches!(result, Err(StepError::Unreadable { .. })), "{result:?}");
                return Ok(reply(503, "later"));
            }
            let text = op.step("s", |_| async { Ok::<_, Failure>("text".to_owned()) }).await.unwrap();
            Ok(reply(if run == 1 { 503 } else { 200 }, text))
        }
    });
    send(&app, post("k")).await.assert_first(503, "text");
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(200, "text");
}

/// The closure of a runner is a step in this: done, whatever its result is.
#[tokio::test]
async fn a_runners_result_that_json_can_not_carry_is_done() {
    for mode in [Mode::Resumable, Mode::AtMostOnce] {
        let runner = Runner::new(Lab::new().store);
        let runner = if mode == Mode::Resumable { runner } else { runner.at_most_once() };
        let runs = Count::default();
        for _ in 0..3 {
            let (nan, map) = (runs.clone(), runs.clone());
            let nan = runner.run("s", "nan", "", move |_| async move {
                nan.up();
                Ok::<_, Failure>(f64::NAN)
            });
            assert!(matches!(nan.await, Err(RunError::Json(_))));
            let map = runner.run("s", "map", "", move |_| async move {
                map.up();
                Ok::<_, Failure>(tuple_keys())
            });
            assert!(matches!(map.await, Err(RunError::Json(_))));
        }
        assert_eq!(runs.get(), 2, "each ran once: {mode:?}");
    }
}
