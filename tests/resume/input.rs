//! A step that is asked another question does not give the old answer.

use tower_idempotency::StepError;

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
