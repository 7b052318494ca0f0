//! Clients that hang up: hyper drops the response future, and that is all the
//! layer ever hears of it. (Peer bugs 2, 3 and 9, faults B1 to B5.)

use std::sync::Arc;

use tokio::sync::Semaphore;
use tower_idempotency::core::Status;
use tower_idempotency::store::StoreErrorKind;

use crate::support::bodies::{Part, data, script};
use crate::support::lab::{App, Lab, post, reply, secs, send, send_now, serve, spawn};
use crate::support::store::{Call, Fault};
use crate::support::{Count, settle};

/// A handler with a first and a second half, and a door between them.
fn halves(lab: &Lab) -> (App, Count, Count, Arc<Semaphore>) {
    let (begun, ended, gate) = (Count::default(), Count::default(), Arc::new(Semaphore::new(0)));
    let (begin, end, wait) = (begun.clone(), ended.clone(), gate.clone());
    let app = serve(&lab.layer(), move |_| {
        let number = begin.up();
        let (end, wait) = (end.clone(), wait.clone());
        async move {
            wait.acquire().await.unwrap().forget();
            end.up();
            Ok(reply(201, format!("charge {number}")))
        }
    });
    (app, begun, ended, gate)
}

#[tokio::test]
async fn while_the_body_is_read_nothing_is_claimed_or_stored() {
    let lab = Lab::new();
    let (app, begun, _, gate) = halves(&lab);
    let mut slow = post("k");
    *slow.body_mut() = script([data(b"{\"amount\":"), Part::Stall]);
    let client = spawn(&app, slow);
    settle().await;
    client.abort();
    settle().await;
    assert_eq!((begun.get(), lab.store.calls()), (0, 0));
    gate.add_permits(1);
    send(&app, post("k")).await.assert_first(201, "charge 1");
}

#[tokio::test]
async fn while_the_handler_runs_it_goes_on_and_the_retry_gets_its_answer() {
    let lab = Lab::new();
    let (app, begun, ended, gate) = halves(&lab);
    let client = spawn(&app, post("k"));
    settle().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    gate.add_permits(1);
    settle().await;
    assert_eq!((begun.get(), ended.get()), (1, 1));
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(begun.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_answers_body_is_read_it_is_read_to_the_end() {
    let lab = Lab::new();
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer(), move |_| {
        count.up();
        async { Ok(http::Response::new(script([data(b"one "), Part::Wait(secs(1)), data(b"two")]))) }
    });
    let client = spawn(&app, post("k"));
    settle().await;
    assert_eq!(runs.get(), 1);
    client.abort();
    tokio::time::sleep(secs(2)).await;
    send(&app, post("k")).await.assert_replay(200, "one two");
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_claim_is_on_its_way_it_runs_all_the_same() {
    let lab = Lab::new();
    let (app, begun, _, gate) = halves(&lab);
    lab.store.fail_once(Call::Swap(Status::Pending), Fault::Slow(secs(1)));
    let client = spawn(&app, post("k"));
    settle().await;
    client.abort();
    settle().await;
    assert_eq!((begun.get(), lab.store.swaps()), (0, 1));
    gate.add_permits(1);
    tokio::time::sleep(secs(2)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
}

#[tokio::test(start_paused = true)]
async fn while_the_answer_is_stored_it_is_stored_all_the_same() {
    let lab = Lab::new();
    let (app, begun, _, gate) = halves(&lab);
    gate.add_permits(1);
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::Slow(secs(1)));
    let client = spawn(&app, post("k"));
    settle().await;
    assert_eq!((begun.get(), lab.store.swaps()), (1, 2));
    client.abort();
    tokio::time::sleep(secs(2)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(begun.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_down_the_answer_is_saved_later() {
    let lab = Lab::new();
    let (app, begun, _, gate) = halves(&lab);
    let client = spawn(&app, post("k"));
    settle().await;
    client.abort();
    settle().await;
    lab.store.fail(|call| match call {
        Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    gate.add_permits(1);
    settle().await;
    lab.store.heal();
    tokio::time::sleep(secs(5)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(begun.get(), 1);
}

/// At every single poll, whatever the layer is doing then.
#[tokio::test]
async fn at_any_poll_a_started_handler_finishes_and_runs_once() {
    use crate::support::poll_once;
    use tower::ServiceExt;
    for polls in 0..12 {
        let lab = Lab::new();
        let runs = Count::default();
        let count = runs.clone();
        let app = serve(&lab.layer(), move |_| {
            let number = count.up();
            async move {
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
                Ok(reply(201, format!("charge {number}")))
            }
        });
        let mut future = Box::pin(app.clone().oneshot(post("k")));
        for _ in 0..polls {
            if poll_once(&mut future).await.is_some() {
                break;
            }
        }
        drop(future);
        settle().await;
        let started = runs.get() == 1;
        let answer = send(&app, post("k")).await;
        assert_eq!(answer.is_replay(), started, "after {polls} polls");
        answer.assert_is(201, "charge 1");
        assert_eq!(runs.get(), 1);
    }
}
