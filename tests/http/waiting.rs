//! Duplicates that wait for the request that runs.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_idempotency::{IdempotencyLayer, Outcome};

use crate::support::bodies::Failure;
use crate::support::lab::{Answer, App, Lab, gated, post, post_body, reply, secs, send, send_now, serve, spawn, with};
use crate::support::{Count, settle};

type Client = JoinHandle<Result<Answer, Failure>>;

/// A handler that answers once the door is open, and how often it ran.
fn behind_a_door(layer: &IdempotencyLayer, status: u16) -> (App, Count, Arc<Semaphore>) {
    gated(layer, move |number| reply(status, format!("run {number}")))
}

fn waiting(lab: &Lab) -> IdempotencyLayer {
    lab.layer().wait(secs(30))
}

/// So many clients with one key.
async fn clients(app: &App, count: usize) -> Vec<Client> {
    let clients = (0..count).map(|_| spawn(app, post("k"))).collect();
    settle().await;
    clients
}

async fn answer(client: Client) -> Answer {
    client.await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_wait_for_one_run_and_ask_the_store_for_nothing() {
    let lab = Lab::new();
    let (app, runs, door) = behind_a_door(&waiting(&lab), 201);
    let first = spawn(&app, post("k"));
    settle().await;
    let waiting = clients(&app, 10_000).await;
    let asked = lab.store.calls();
    tokio::time::sleep(secs(10)).await;
    assert_eq!(lab.store.calls(), asked, "they are woken");
    door.add_permits(10_001);
    answer(first).await.assert_first(201, "run 1");
    for client in waiting {
        answer(client).await.assert_replay(201, "run 1");
    }
    assert_eq!((runs.get(), lab.store.calls()), (1, asked + 1), "one write is all");
}

#[tokio::test(start_paused = true)]
async fn for_another_process_one_of_them_asks_the_store() {
    let lab = Lab::new();
    let (app, runs, door) = behind_a_door(&lab.layer(), 201);
    // An engine of its own.
    let (other, other_runs, _) = behind_a_door(&waiting(&lab), 201);
    let first = spawn(&app, post("k"));
    settle().await;
    let waiting = clients(&other, 1_000).await;
    let asked = lab.store.calls();
    tokio::time::sleep(secs(20)).await;
    let polls = lab.store.calls() - asked;
    assert!((10..60).contains(&polls), "with pauses, for all of them: {polls}");
    door.add_permits(1);
    answer(first).await.assert_first(201, "run 1");
    for client in waiting {
        answer(client).await.assert_replay(201, "run 1");
    }
    assert_eq!((runs.get(), other_runs.get()), (1, 0));
}

/// What is not stored is given to those who waited for it, and to no later one.
#[tokio::test(start_paused = true)]
async fn they_get_the_one_response_and_do_not_run_in_turn() {
    for (status, resumable) in [(422, true), (503, true), (429, false), (200, false)] {
        let lab = Lab::new();
        let layer = if resumable { waiting(&lab).resumable() } else { waiting(&lab) };
        let (app, runs, door) = behind_a_door(&layer, status);
        let first = spawn(&app, post("k"));
        settle().await;
        let waiting = clients(&app, 10).await;
        door.add_permits(20);
        answer(first).await.assert_first(status, "run 1");
        for client in waiting {
            answer(client).await.assert_replay(status, "run 1");
        }
        assert_eq!(runs.get(), 1, "{status}");
        let later = send(&app, post("k")).await;
        assert_eq!(later.text(), if status == 200 { "run 1" } else { "run 2" });
    }
}

/// And those that gave up let no other one run (peer bug 12).
#[tokio::test(start_paused = true)]
async fn after_the_limit_they_are_refused() {
    let lab = Lab::new();
    let (app, runs, _door) = behind_a_door(&waiting(&lab), 201);
    let first = spawn(&app, post("k"));
    settle().await;
    for (prefer, seconds) in [("foo", 30), ("wait=100", 30), ("wait=7", 7), ("respond-async, wait=0", 0)] {
        let start = tokio::time::Instant::now();
        let refused = send(&app, with(post("k"), "prefer", prefer)).await;
        refused.assert_problem("in-progress", 409);
        assert_eq!(start.elapsed().as_secs(), seconds, "{prefer}");
    }
    assert_eq!(runs.get(), 1);
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_they_are_refused_at_once() {
    let lab = Lab::new();
    for layer in [lab.layer(), lab.layer().wait(Duration::ZERO)] {
        let (app, _, _door) = behind_a_door(&layer, 201);
        let first = spawn(&app, post("k"));
        settle().await;
        send_now(&app, post("k")).await.assert_problem("in-progress", 409);
        first.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_wait_and_no_more_and_who_left_makes_room() {
    let lab = Lab::new();
    let (app, _, door) = behind_a_door(&waiting(&lab).max_waiting(2), 201);
    let first = spawn(&app, post("k"));
    settle().await;
    let mut waiting = clients(&app, 2).await;
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    waiting.remove(0).abort();
    settle().await;
    waiting.extend(clients(&app, 1).await);
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    door.add_permits(1);
    answer(first).await.assert_first(201, "run 1");
    for client in waiting {
        answer(client).await.assert_replay(201, "run 1");
    }
}

/// Those that wait keep no place of those that run.
#[tokio::test(start_paused = true)]
async fn those_that_wait_keep_none_from_running() {
    let lab = Lab::new();
    let (app, _, door) = behind_a_door(&waiting(&lab).max_running(2), 201);
    let first = spawn(&app, post("k"));
    settle().await;
    let waiting = clients(&app, 5).await;
    let other = spawn(&app, post("other"));
    settle().await;
    door.add_permits(2);
    answer(other).await.assert_first(201, "run 2");
    answer(first).await.assert_first(201, "run 1");
    for client in waiting {
        answer(client).await.assert_replay(201, "run 1");
    }
}

/// Nor the service: within it may be a limit, of which one that was polled ready holds a
/// place. Nor what was sent.
#[tokio::test(start_paused = true)]
async fn those_that_wait_hold_neither_the_service_nor_their_request() {
    let (lab, token) = (Lab::new(), Arc::new(()));
    let within = Arc::clone(&token);
    let app = serve(&waiting(&lab), move |_| {
        let _of_the_service = &within;
        std::future::pending()
    });
    let first = spawn(&app, post("k"));
    settle().await;
    let held = Arc::strong_count(&token);
    let mut request = post("k");
    request.extensions_mut().insert(Arc::clone(&token));
    let client = tokio::spawn(app.clone().oneshot(request));
    settle().await;
    assert_eq!((Arc::strong_count(&token), client.is_finished()), (held, false));
    first.abort();
    client.abort();
}

#[tokio::test(start_paused = true)]
async fn another_request_under_the_key_does_not_wait() {
    let lab = Lab::new();
    let (app, _, _door) = behind_a_door(&waiting(&lab), 201);
    let first = spawn(&app, post("k"));
    settle().await;
    send_now(&app, post_body("k", "other")).await.assert_problem("key-reused", 422);
    first.abort();
}

/// Whatever the holder came to, they hear of it.
#[tokio::test(start_paused = true)]
async fn a_holder_that_panics_or_fails_keeps_none_waiting() {
    for (resumable, panics) in [(false, true), (true, true), (false, false), (true, false)] {
        let lab = Lab::new();
        let layer = if resumable { waiting(&lab).resumable() } else { waiting(&lab) };
        let runs = Count::default();
        let count = runs.clone();
        let app = serve(&layer, move |_| {
            count.up();
            async move {
                tokio::time::sleep(secs(1)).await;
                assert!(!panics, "as it should");
                Err(Failure("inner"))
            }
        });
        let first = spawn(&app, post("k"));
        settle().await;
        let start = tokio::time::Instant::now();
        let waited = send(&app, post("k")).await;
        if resumable {
            waited.assert_problem("in-progress", 409);
        } else {
            waited.assert_problem("outcome-unknown", 500);
        }
        assert!(start.elapsed() < secs(2), "at once");
        assert_eq!(runs.get(), 1);
        let _ = first.await;
    }
}

/// At most once: what the handler calls retryable is the answer of those that waited;
/// those that come later are told that the outcome is unknown.
#[tokio::test(start_paused = true)]
async fn at_most_once_who_waited_gets_the_response_and_who_comes_later_does_not() {
    let lab = Lab::new();
    let app = serve(&waiting(&lab), |_| async {
        tokio::time::sleep(secs(1)).await;
        let mut response = reply(503, "later");
        response.extensions_mut().insert(Outcome::Retryable);
        Ok(response)
    });
    let first = spawn(&app, post("k"));
    settle().await;
    send(&app, post("k")).await.assert_replay(503, "later");
    answer(first).await.assert_first(503, "later");
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
}
