//! <https://docs.stripe.com/api-v2-overview>.

use crate::support::Count;
use crate::support::bodies::Failure;
use crate::support::lab::{Lab, gated, numbered, operation, post, post_body, reply, request, secs, send, serve, spawn};

const DAY: u64 = 24 * 60 * 60;

#[tokio::test]
async fn a_failed_request_is_executed_again_and_what_succeeded_of_it_is_not() {
    let (charges, runs) = (Count::default(), Count::default());
    let (charged, count) = (charges.clone(), runs.clone());
    let app = serve(&Lab::new().layer().stripe_v2(), move |request| {
        let (operation, number, charged) = (operation(&request), count.up(), charged.clone());
        async move {
            let charge = operation.step("charge", |_| async move { Ok::<_, Failure>(charged.up()) }).await.unwrap();
            Ok(if number < 3 { reply(500 + number as u16, "no") } else { reply(201, format!("charge {charge}")) })
        }
    });
    send(&app, post("k")).await.assert_first(501, "no");
    send(&app, post("k")).await.assert_first(502, "no");
    send(&app, post("k")).await.assert_first(201, "charge 1");
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!((charges.get(), runs.get()), (1, 3));
}

#[tokio::test]
async fn a_request_that_failed_before_it_began_may_be_corrected() {
    let (app, _) = numbered(&Lab::new().layer().stripe_v2());
    let refusing = serve(&Lab::new().layer().stripe_v2(), |_| async { Ok(reply(400, "no")) });
    for body in ["one", "other"] {
        send(&refusing, post_body("k", body)).await.assert_first(400, "no");
    }
    send(&app, post("k")).await.assert_first(201, "charge 1");
}

#[tokio::test]
async fn post_and_delete_accept_keys_and_each_api_has_its_own() {
    let (app, runs) = numbered(&Lab::new().layer().stripe_v2());
    for (number, method, path) in [(1, "POST", "/accounts"), (2, "DELETE", "/accounts"), (3, "POST", "/payouts")] {
        send(&app, request(method, path, "k", "{}")).await.assert_first(201, &format!("charge {number}"));
        send(&app, request(method, path, "k", "{}")).await.assert_replay(201, &format!("charge {number}"));
    }
    send(&app, request("PATCH", "/accounts", "k", "{}")).await.assert_first(201, "charge 4");
    send(&app, request("PATCH", "/accounts", "k", "{}")).await.assert_first(201, "charge 5");
    assert_eq!(runs.get(), 5);
}

#[tokio::test]
async fn other_parameters_are_400_and_what_runs_already_is_409() {
    let (app, _, gate) = gated(&Lab::new().layer().stripe_v2(), |_| reply(201, "done"));
    let first = spawn(&app, post("k"));
    crate::support::settle().await;
    send(&app, post_body("k", "other")).await.assert_problem("key-reused", 400);
    send(&app, post("k")).await.assert_problem("in-progress", 409);
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "done");
}

#[tokio::test]
async fn a_key_is_remembered_for_30_days() {
    let (lab, clock) = Lab::manual();
    let (app, _) = numbered(&lab.layer().stripe_v2());
    send(&app, post("k")).await.assert_first(201, "charge 1");
    clock.advance(secs(30 * DAY - 1));
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    clock.advance(secs(2));
    send(&app, post("k")).await.assert_first(201, "charge 2");
}
