//! One run per key, and the stored answer for whoever comes after.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::support::lab::{
    App, Lab, gated, numbered, post, post_body, reply, request, secs, send, send_now, serve, spawn, unkeyed, with,
};
use crate::support::{Count, join_all, settle};

#[tokio::test]
async fn the_first_request_runs_and_every_retry_gets_its_answer() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    send(&app, post("k")).await.assert_first(201, "charge 1");
    for _ in 0..3 {
        send(&app, post("k")).await.assert_replay(201, "charge 1");
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn a_first_request_costs_two_round_trips_and_a_replay_one() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("k")).await;
    assert_eq!(lab.store.calls(), 2);
    send(&app, post("k")).await;
    assert_eq!(lab.store.calls(), 3);
}

/// Peer bug 43: two customers who post the same body are two customers.
#[tokio::test]
async fn the_same_body_under_two_keys_runs_twice() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    send(&app, post("k1")).await.assert_first(201, "charge 1");
    send(&app, post("k2")).await.assert_first(201, "charge 2");
    assert_eq!(runs.get(), 2);
}

#[tokio::test]
async fn without_a_key_every_request_runs_and_nothing_is_stored() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    send(&app, unkeyed("POST")).await.assert_first(201, "charge 1");
    send(&app, unkeyed("POST")).await.assert_first(201, "charge 2");
    assert_eq!((runs.get(), lab.store.calls()), (2, 0));
}

/// Peer bugs 34, 36, 37, 42 and 43: each part of a request counts, on its own.
#[tokio::test]
async fn another_request_under_the_same_key_is_a_mismatch_and_never_runs() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    let original = || with(request("POST", "/users/1?a=1", "k", "body"), "content-type", "text/plain");
    send(&app, original()).await.assert_first(201, "charge 1");
    let others = [
        ("method", with(request("PATCH", "/users/1?a=1", "k", "body"), "content-type", "text/plain")),
        ("path", with(request("POST", "/users/2?a=1", "k", "body"), "content-type", "text/plain")),
        ("trailing slash", with(request("POST", "/users/1/?a=1", "k", "body"), "content-type", "text/plain")),
        ("query", with(request("POST", "/users/1?a=2", "k", "body"), "content-type", "text/plain")),
        ("no query", with(request("POST", "/users/1", "k", "body"), "content-type", "text/plain")),
        ("content type", with(request("POST", "/users/1?a=1", "k", "body"), "content-type", "text/html")),
        ("no content type", request("POST", "/users/1?a=1", "k", "body")),
        ("body", with(request("POST", "/users/1?a=1", "k", "body "), "content-type", "text/plain")),
        ("no body", with(request("POST", "/users/1?a=1", "k", ""), "content-type", "text/plain")),
        // Parts that would be the same if they were only joined.
        ("shifted", with(request("POST", "/users/1?a=1", "k", "plainbody"), "content-type", "text/")),
    ];
    for (what, other) in others {
        let answer = send(&app, other).await;
        assert_eq!(answer.status, 422, "{what}");
        answer.assert_problem("key-reused", 422);
        assert!(!answer.text().contains("charge"), "nothing of the stored answer shows");
    }
    assert_eq!(runs.get(), 1);
    send(&app, original()).await.assert_replay(201, "charge 1");
}

/// Peer bug 32, in part: what a retry's network path changes does not count.
#[tokio::test]
async fn other_headers_may_differ_between_a_request_and_its_retry() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, with(post("k"), "authorization", "Bearer one")).await.assert_first(201, "charge 1");
    let retry = with(with(post("k"), "authorization", "Bearer two"), "x-forwarded-for", "10.0.0.1");
    send(&app, retry).await.assert_replay(201, "charge 1");
}

/// Requirements P10, P11 and H16: what a client asks of the resource is asked once.
#[tokio::test]
async fn a_retry_gets_the_first_answer_whatever_became_of_the_resource() {
    let lab = Lab::new();
    let count = Count::default();
    let seen = count.clone();
    // The second run would find that the first one changed it, or that it is gone.
    let app = serve(&lab.layer(), move |_| {
        let answer = if seen.up() == 1 { reply(200, "version 2") } else { reply(412, "changed") };
        async { Ok(answer) }
    });
    let update = || with(request("PATCH", "/users/1", "k", "{}"), "if-match", "\"v1\"");
    send(&app, update()).await.assert_first(200, "version 2");
    send(&app, update()).await.assert_replay(200, "version 2");
    send(&app, with(update(), "range", "bytes=0-3")).await.assert_replay(200, "version 2");
    send(&app, with(update(), "if-none-match", "*")).await.assert_replay(200, "version 2");
    assert_eq!(count.get(), 1);
}

#[tokio::test]
async fn an_empty_body_is_a_body() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, post_body("k", "")).await.assert_first(201, "charge 1");
    send(&app, post_body("k", "")).await.assert_replay(201, "charge 1");
    send(&app, post_body("k", "x")).await.assert_problem("key-reused", 422);
}

/// Holds every handler until it is let go.
fn held(lab: &Lab) -> (App, Count, Arc<Semaphore>) {
    gated(&lab.layer(), |number| reply(201, format!("charge {number}")))
}

#[tokio::test]
async fn a_duplicate_of_a_running_request_gets_409_and_later_the_answer() {
    let lab = Lab::new();
    let (app, runs, gate) = held(&lab);
    let first = spawn(&app, post("k"));
    settle().await;
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "charge 1");
    // Peer bug 16: the refusal was not stored, and no correction is needed.
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

/// Peer bugs 38 and 39: a wrong body is never cured by waiting.
#[tokio::test]
async fn a_mismatch_is_told_while_the_first_request_still_runs() {
    let lab = Lab::new();
    let (app, _, gate) = held(&lab);
    let first = spawn(&app, post("k"));
    settle().await;
    send_now(&app, post_body("k", "other")).await.assert_problem("key-reused", 422);
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "charge 1");
    send(&app, post_body("k", "other")).await.assert_problem("key-reused", 422);
}

/// Peer bugs 13, 14, 15 and 17: identical requests, and one winner.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_identical_requests_at_once_one_runs() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer());
    for round in 0..20 {
        let key = format!("k{round}");
        let racers: Vec<_> = (0..32).map(|_| spawn(&app, post(&key))).collect();
        let mut firsts = 0;
        for racer in racers {
            let answer = racer.await.unwrap().unwrap();
            match answer.status.as_u16() {
                201 if !answer.is_replay() => firsts += 1,
                201 => {}
                _ => answer.assert_problem("in-progress", 409),
            }
        }
        assert_eq!((firsts, runs.get()), (1, round + 1));
    }
}

/// Peer bug 13: the third request of three that overlap.
#[tokio::test]
async fn a_refused_duplicate_does_not_open_the_door_for_the_next_one() {
    let lab = Lab::new();
    let (app, runs, gate) = held(&lab);
    let first = spawn(&app, post("k"));
    settle().await;
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    gate.add_permits(3);
    first.await.unwrap().unwrap().assert_first(201, "charge 1");
    assert_eq!(runs.get(), 1);
}

/// Peer bug 55.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replays_at_once_each_get_the_whole_answer() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(200, vec![7; 1 << 20])) });
    send(&app, post("k")).await;
    let answers = join_all((0..100).map(|_| spawn(&app, post("k")))).await;
    for answer in answers {
        let answer = answer.unwrap().unwrap();
        assert!(answer.is_replay());
        assert!(answer.body.len() == 1 << 20 && answer.body.iter().all(|byte| *byte == 7));
    }
}

/// Peer bugs 21, 22, 29 and 59: the retention starts at the completion, is
/// judged when someone asks, and is not made longer by asking.
#[tokio::test(start_paused = true)]
async fn an_answer_is_remembered_for_a_day_and_then_the_request_runs_anew() {
    let lab = Lab::new();
    let (runs, count) = (Count::default(), Count::default());
    let number = runs.clone();
    let app = serve(&lab.layer(), move |_| {
        let number = number.up();
        async move {
            // A day counts from the completion, not from the claim.
            tokio::time::sleep(secs(600)).await;
            Ok(reply(201, format!("charge {number}")))
        }
    });
    send(&app, post("k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(secs(12 * 3600)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    tokio::time::sleep(secs(12 * 3600 - 1)).await;
    send(&app, post("k")).await.assert_replay(201, "charge 1");
    tokio::time::sleep(secs(1)).await;
    send(&app, post("k")).await.assert_first(201, "charge 2");
    send(&app, post("k")).await.assert_replay(201, "charge 2");
    assert_eq!((runs.get(), count.get()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_retention_can_be_set() {
    let lab = Lab::new();
    let app = serve(&lab.layer_with(|engine| engine.retention(secs(10))), |_| async { Ok(reply(200, "")) });
    send(&app, post("k")).await.assert_first(200, "");
    tokio::time::sleep(secs(9)).await;
    send(&app, post("k")).await.assert_replay(200, "");
    tokio::time::sleep(secs(1)).await;
    send(&app, post("k")).await.assert_first(200, "");
}

/// Peer bug 40: what was learned at the claim is still known to another
/// process, after the completion.
#[tokio::test]
async fn another_layer_over_the_same_store_replays() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, post("k")).await.assert_first(201, "charge 1");
    let (other, runs) = numbered(&lab.layer());
    send(&other, post("k")).await.assert_replay(201, "charge 1");
    send(&other, post_body("k", "other")).await.assert_problem("key-reused", 422);
    assert_eq!(runs.get(), 0);
}
