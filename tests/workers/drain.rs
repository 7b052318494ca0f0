//! What a drain is to those that work beside the requests.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tower_idempotency::core::Status;
use tower_idempotency::{Callback, CompleterError, Runner};

use crate::support::lab::{Lab, completer, gated, post, reply, secs, send, serve, stored_key};
use crate::support::{Count, settle};

/// A layer with a released operation under each of these keys, behind a door that is shut.
async fn released(lab: &Lab, keys: &[&str]) {
    let layer = lab.layer().resumable();
    let app = serve(&layer, |_| async { Ok(reply(503, "later")) });
    for key in keys {
        send(&app, post(key)).await.assert_first(503, "later");
    }
    tokio::time::sleep(secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_completer_finishes_what_it_has_and_takes_nothing_new() {
    let lab = Lab::new();
    released(&lab, &["a", "b"]).await;
    let layer = lab.layer().resumable();
    let (app, runs, door) = gated(&layer, |_| reply(201, "paid"));
    let running = completer(&layer, &app).concurrency(1);
    let by_hand = completer(&layer, &app);
    let completing = tokio::spawn(async move { running.run(std::future::pending()).await });
    settle().await;
    assert_eq!(runs.get(), 1);
    let drain = tokio::spawn(layer.drain(secs(20)));
    settle().await;
    assert!(!completing.is_finished() && !drain.is_finished(), "one runs");
    door.add_permits(10);
    let completing = tokio::time::timeout(secs(3600), completing).await.expect("it ends");
    let ended: Result<(), CompleterError> = completing.unwrap();
    ended.unwrap();
    assert!(drain.await.unwrap().is_empty());
    assert_eq!(runs.get(), 1, "the other one is not begun");
    assert_eq!(by_hand.run_once().await.unwrap().found, 0);
    // A completer of another process has time for it.
    let other = lab.layer().resumable();
    let (app, others, door) = gated(&other, |_| reply(201, "paid"));
    door.add_permits(10);
    assert_eq!(completer(&other, &app).run_once().await.unwrap().completed, 1);
    assert_eq!((runs.get(), others.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_completer_runs_at_the_deadline_is_left() {
    let lab = Lab::new();
    released(&lab, &["k"]).await;
    let layer = lab.layer().resumable();
    let (app, _, _door) = gated(&layer, |_| reply(201, "paid"));
    let running = completer(&layer, &app);
    let completing = tokio::spawn(async move { running.run(std::future::pending()).await });
    settle().await;
    let left = layer.drain(secs(5)).await;
    let named: Vec<_> = left.operations.iter().map(|left| (left.key, left.attempt)).collect();
    assert_eq!((named, left.others), (vec![(stored_key("k"), 2)], 0));
    completing.abort();
}

/// The receiver has it; that it has is to be on record.
#[tokio::test(start_paused = true)]
async fn it_waits_for_a_callback_that_is_being_made() {
    let lab = Lab::new();
    let (calls, door) = (Count::default(), Arc::new(Semaphore::new(0)));
    let (called, wait) = (calls.clone(), Arc::clone(&door));
    let callback = Callback::new(move |_| {
        called.up();
        let wait = Arc::clone(&wait);
        async move {
            wait.acquire().await.unwrap().forget();
            Ok::<_, String>(())
        }
    });
    let layer = lab.layer().resumable().callback(callback);
    let app = serve(&layer, |_| async { Ok(reply(201, "paid")) });
    let running = completer(&layer, &app);
    let completing = tokio::spawn(async move { running.run(std::future::pending()).await });
    settle().await;
    send(&app, post("k")).await.assert_first(201, "paid");
    settle().await;
    assert_eq!(calls.get(), 1);
    let drain = tokio::spawn(layer.drain(secs(20)));
    settle().await;
    assert!(!drain.is_finished());
    door.add_permits(1);
    assert!(drain.await.unwrap().is_empty());
    completing.await.unwrap().unwrap();
    let record = lab.store.peek(&stored_key("k")).await.unwrap();
    assert_eq!((record.status(), lab.events.count("CallbackDelivered")), (Status::Complete, 1));
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_the_work_of_a_runner() {
    let lab = Lab::new();
    let layer = lab.layer();
    let runner = Runner::new(&layer);
    let door = Arc::new(Semaphore::new(0));
    let wait = Arc::clone(&door);
    let work = runner.run("jobs", "17", "", move |_| async move {
        wait.acquire().await.unwrap().forget();
        Ok::<_, String>(42)
    });
    let job = tokio::spawn(work);
    settle().await;
    let drain = tokio::spawn(layer.drain(secs(20)));
    settle().await;
    assert!(!drain.is_finished());
    door.add_permits(1);
    assert!(drain.await.unwrap().is_empty());
    assert_eq!(job.await.unwrap().unwrap(), 42);
    // What is done is given, and nothing new is begun.
    let again = |key: &'static str| runner.run("jobs", key, "", |_| async { Ok::<u32, String>(1) });
    assert_eq!(again("17").await.unwrap(), 42);
    assert!(matches!(again("18").await, Err(tower_idempotency::RunError::Draining)));
}
