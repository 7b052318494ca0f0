//! A step that is asked another question does not give the old answer.

use std::collections::BTreeMap;

use tower_idempotency::core::Hold;
use tower_idempotency::{Operation, RunError, Runner, StepError, StepFuture};

use crate::support::Count;
use crate::support::bodies::Failure;
use crate::support::lab::{Lab, operation, post, reply, send, serve, stored_key};

/// Both kinds of step, done or only begun.
#[tokio::test]
async fn a_changed_input_is_an_error_that_names_both() {
    let (lab, runs, works) = (Lab::new(), Count::default(), Count::default());
    let (counted, layer) = (works.clone(), lab.layer().resumable());
    let app = serve(&layer, move |request| {
        let (op, run, works) = (operation(&request), runs.up(), counted.clone());
        async move {
            let amount = if run == 3 { 200 } else { 100 };
            let work = |fails: bool| {
                let works = works.clone();
                move |_| async move {
                    works.up();
                    if fails { Err(Failure("no")) } else { Ok(1) }
                }
            };
            let order = op.step("order", work(false)).input(&("EUR", amount)).await;
            let charge = op.pay("charge", work(run < 4)).input(&amount).await;
            let said = |step: &Result<i32, StepError<Failure>>| match step {
                Ok(_) => "ok".to_owned(),
                Err(StepError::Retry(_)) => "failed".to_owned(),
                Err(error) => error.to_string(),
            };
            Ok(reply(if run == 4 { 200 } else { 503 }, format!("{} / {}", said(&order), said(&charge))))
        }
    });
    send(&app, post("k")).await.assert_first(503, "ok / failed");
    send(&app, post("k")).await.assert_first(503, "ok / failed");
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    let [order, charge] = ["order", "charge"].map(|name| record.step(name).unwrap().input().unwrap());
    assert_eq!(works.get(), 3);
    let changed = send(&app, post("k")).await;
    assert_eq!(changed.status, 503);
    let text = changed.text();
    for (step, hash) in [("order", order), ("charge", charge)] {
        assert!(
            text.contains(&format!("step {step:?} has another input: attempt 1 ran it with {hash:016x}")),
            "{text}"
        );
    }
    assert_eq!(works.get(), 3, "neither was run");
    send(&app, post("k")).await.assert_first(200, "ok / ok");
}

/// A release that knows other steps: the old ones stay, the new ones run. And
/// one that names an input for the first time has nothing to compare with.
#[tokio::test]
async fn steps_of_another_release_stay_readable() {
    let (lab, runs) = (Lab::new(), Count::default());
    let layer = lab.layer().resumable();
    let app = serve(&layer, move |request| {
        let (op, run) = (operation(&request), runs.up());
        async move {
            if run == 1 {
                op.step("old", |_| async { Ok::<_, Failure>("kept".to_owned()) }).await.unwrap();
                op.step("both", |_| async { Ok::<_, Failure>(1) }).await.unwrap();
                return Ok(reply(503, "later"));
            }
            let both = op.step("both", |_| async { Ok::<_, Failure>(2) }).input("now named").await.unwrap();
            let new = op.step("new", |_| async { Ok::<_, Failure>(3) }).await.unwrap();
            if run == 2 {
                return Ok(reply(503, "later"));
            }
            let old = op.step("old", |_| async { Ok::<_, Failure>("again".to_owned()) }).await.unwrap();
            Ok(reply(200, format!("{both} {new} {old}")))
        }
    });
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_first(200, "1 3 kept");
}

/// Two maps with the same entries, and another order of them.
fn maps() -> [std::collections::HashMap<String, u64>; 2] {
    let entries = |n: u64| (format!("item-{n}"), n);
    let one: std::collections::HashMap<_, _> = (0..32).map(entries).collect();
    loop {
        // Each has an order of its own.
        let other: std::collections::HashMap<_, _> = (0..32).map(entries).collect();
        if !one.iter().eq(other.iter()) {
            return [one, other];
        }
    }
}

#[tokio::test]
async fn equal_inputs_in_another_order_are_equal() {
    let (lab, runs) = (Lab::new(), Count::default());
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, run) = (operation(&request), runs.up());
        async move {
            let [one, other] = maps();
            let input = if run == 1 { one } else { other };
            let order = op.step("order", |_| async { Ok::<_, Failure>(1) }).input(&input).await;
            Ok(reply(if run == 1 { 503 } else { 200 }, format!("{order:?}")))
        }
    });
    send(&app, post("k")).await.assert_first(503, "Ok(1)");
    send(&app, post("k")).await.assert_first(200, "Ok(1)");
}

/// What JSON does not have, or would write as something else.
type Odd = fn(StepFuture<'static, i32, Failure>) -> StepFuture<'static, i32, Failure>;

const ODD: [(&str, Odd); 5] = [
    ("a map with tuple keys", |step| step.input(&BTreeMap::from([((1, 1), 17)]))),
    ("NaN", |step| step.input(&f64::NAN)),
    ("infinity", |step| step.input(&f32::INFINITY)),
    ("infinity below", |step| step.input(&("EUR", Some(f64::NEG_INFINITY)))),
    ("a map with NaN in it", |step| step.input(&BTreeMap::from([("amount", [None, Some(f64::NAN)])]))),
];

fn step(op: &Operation, kind: &str, works: &Count) -> StepFuture<'static, i32, Failure> {
    let works = works.clone();
    let work = move || async move {
        works.up();
        Ok(17)
    };
    match kind {
        "step" => op.step("charge", |_| work()),
        "pay" => op.pay("charge", |_| work()),
        _ => op.once("charge", work),
    }
}

/// All that JSON can't carry would have one hash, and the check would be off without
/// a word: it is an error, and nothing is begun.
#[tokio::test]
async fn an_input_that_json_can_not_carry_is_an_error_and_nothing_is_begun() {
    for (what, odd) in ODD {
        for (kind, resumable) in ["step", "pay", "once"].into_iter().flat_map(|kind| [(kind, true), (kind, false)]) {
            let (lab, works) = (Lab::new(), Count::default());
            let counted = works.clone();
            let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
            let app = serve(&layer, move |request| {
                let (op, works) = (operation(&request), counted.clone());
                async move {
                    let error = odd(step(&op, kind, &works)).await.unwrap_err();
                    assert!(matches!(&error, StepError::Unreadable { step, .. } if step == "charge"), "{error:?}");
                    // The name is free: with an input that is one it runs.
                    let then = step(&op, kind, &works).input(&17).await;
                    Ok(reply(200, format!("{error} / {then:?}")))
                }
            });
            let said = "the input of step \"charge\" can't be written as JSON, or its result can't be read back from JSON / Ok(17)";
            send(&app, post("k")).await.assert_first(200, said);
            assert_eq!(works.get(), 1, "{what} {kind}");
            assert_eq!(
                (lab.events.count("StepBegun"), lab.events.count("StepSaved")),
                (usize::from(kind != "step"), 1)
            );
        }
    }
}

/// Nor is it taken for the input that is on record, and the answer to another question
/// is not given. And who asks like that has not come to the step: its failure
/// would hide what was paid.
#[tokio::test]
async fn an_input_that_json_can_not_carry_is_not_taken_for_another_one() {
    for (what, odd) in ODD {
        let (lab, works) = (Lab::new(), Count::default());
        let counted = works.clone();
        let app = serve(&lab.layer().resumable(), move |request| {
            let (op, works) = (operation(&request), counted.clone());
            async move {
                let charge = step(&op, "pay", &works);
                if !op.is_resumed() {
                    charge.input(&None::<f64>).await.unwrap();
                    return Ok(reply(503, "later"));
                }
                let charge = odd(charge).await;
                assert!(matches!(charge, Err(StepError::Unreadable { .. })), "{charge:?}");
                Ok(reply(400, "no"))
            }
        });
        send(&app, post("k")).await.assert_first(503, "later");
        send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
        let record = lab.store.peek(&stored_key("k")).await.unwrap();
        assert!(matches!(record.hold(), Hold::Parked { why } if why.contains("charge")), "{what}: {record:?}");
        assert_eq!(works.get(), 1);
    }
}

/// A runner's input is what its key stands for.
#[tokio::test]
async fn a_runner_is_not_started_with_an_input_that_json_can_not_carry() {
    let lab = Lab::new();
    for runner in [Runner::new(lab.store.clone()), Runner::new(lab.store.clone()).at_most_once()] {
        let runs = Count::default();
        let work = || {
            let runs = runs.clone();
            |_| async move { Ok::<_, Failure>(runs.up()) }
        };
        let map = BTreeMap::from([((1, 1), 17)]);
        for refused in [
            runner.run("jobs", "k", &f64::NAN, work()).await,
            runner.run("jobs", "k", &[Some(f32::INFINITY), None], work()).await,
            runner.run("jobs", "k", &map, work()).await,
        ] {
            assert!(matches!(refused, Err(RunError::Json(_))), "{refused:?}");
        }
        assert_eq!((runs.get(), lab.store.len()), (0, 0));
    }
}
