//! Who holds an operation, for how long, and what the one gets who lost it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tower_idempotency::clock::{Clock, ManualClock};
use tower_idempotency::core::Status;
use tower_idempotency::{IdempotencyLayer, Outcome};

use crate::support::lab::{App, Lab, operation, post, reply, secs, send, send_now, serve, spawn};
use crate::support::store::{Call, Fault};
use crate::support::{Count, settle};

/// Requirement C14: who lives is not robbed.
#[tokio::test(start_paused = true)]
async fn a_long_handler_keeps_its_lease() {
    let lab = Lab::new();
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer_with(|engine| engine.lease(secs(1))).resumable(), move |_| {
        count.up();
        async {
            tokio::time::sleep(secs(10)).await;
            Ok(reply(200, "done"))
        }
    });
    let first = spawn(&app, post("k"));
    let mut waited = 0;
    for second in [2, 5, 9] {
        tokio::time::sleep(secs(second - waited)).await;
        waited = second;
        send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    }
    first.await.unwrap().unwrap().assert_first(200, "done");
    send(&app, post("k")).await.assert_replay(200, "done");
    assert_eq!(runs.get(), 1);
    assert_eq!(lab.events.count("LeaseLost"), 0);
}

/// A renewal goes by the clock alone: not by when the handler lets go of its thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_keeps_its_lease() {
    let lab = Lab::new();
    let (renewed, renewal) = std::sync::mpsc::channel();
    let mut writes = 0;
    lab.store.fail(move |call| {
        if matches!(call, Call::Swap(Status::Pending)) {
            writes += 1;
        }
        if writes == 2 {
            let _ = renewed.send(());
        }
        Fault::None
    });
    let renewal = Arc::new(std::sync::Mutex::new(renewal));
    let app = serve(&lab.layer_with(|engine| engine.lease(secs(1))), move |_| {
        let renewal = Arc::clone(&renewal);
        async move {
            // Work that never waits needs no renewal.
            tokio::task::yield_now().await;
            let renewed = renewal.lock().unwrap().recv_timeout(secs(20));
            Ok(reply(200, if renewed.is_ok() { "renewed" } else { "left alone" }))
        }
    });
    send(&app, post("k")).await.assert_first(200, "renewed");
}

/// Who lives may be done at any time; after who has fallen silent, nothing comes
/// before the lease is over.
#[tokio::test(start_paused = true)]
async fn a_busy_client_is_told_when_it_pays_to_ask_again() {
    let (lab, clock) = Lab::manual();
    let start = clock.now();
    let app = serve(&lab.layer_with(|engine| engine.lease(secs(60))), |_| std::future::pending());
    let client = spawn(&app, post("k"));
    settle().await;
    for (silent, seconds) in [(0, "1"), (29_000, "16"), (30_500, "30"), (40_000, "20"), (59_999, "1")] {
        clock.set(start.after(Duration::from_millis(silent)));
        let busy = send_now(&app, post("k")).await;
        busy.assert_problem("in-progress", 409);
        assert_eq!(busy.headers["retry-after"], seconds, "silent for {silent} ms");
    }
    client.abort();
}

/// What has taken long will take some more.
#[tokio::test(start_paused = true)]
async fn a_busy_client_is_told_to_ask_less_often_the_longer_it_takes() {
    let lab = Lab::new();
    let layer = lab.layer_with(|engine| engine.lease(secs(9))).resumable();
    let app = serve(&layer, |request| async move {
        if operation(&request).attempt() == 1 {
            return Ok(reply(503, "later"));
        }
        std::future::pending().await
    });
    send(&app, post("k")).await.assert_first(503, "later");
    // The age is the attempt's, not the operation's.
    tokio::time::sleep(secs(1_000)).await;
    let client = spawn(&app, post("k"));
    settle().await;
    let start = tokio::time::Instant::now();
    for (age, seconds) in
        [(0, "1"), (1, "1"), (2, "2"), (3, "2"), (4, "4"), (9, "8"), (16, "16"), (31, "16"), (32, "30"), (900, "30")]
    {
        // A renewal is each three seconds: half a second after one, nothing is overdue.
        tokio::time::sleep_until(start + secs(age) + Duration::from_millis(500)).await;
        let busy = send_now(&app, post("k")).await;
        busy.assert_problem("in-progress", 409);
        assert_eq!(busy.headers["retry-after"], seconds, "after {age} s");
    }
    client.abort();
}

/// Peer bug 28 and faults E14: no renewal outlives its handler.
#[tokio::test(start_paused = true)]
async fn renewals_end_with_the_handler() {
    let lab = Lab::new();
    let app = serve(&lab.layer_with(|engine| engine.lease(secs(3))), |_| async {
        // Not when a renewal falls due: that one would end by itself.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        Ok(reply(200, "done"))
    });
    send(&app, post("k")).await;
    let calls = lab.store.calls();
    settle().await;
    assert_eq!(
        tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        1,
        "that which looks at the maintenance windows"
    );
    tokio::time::sleep(secs(60)).await;
    assert_eq!((lab.store.calls(), lab.events.count("LeaseLost")), (calls, 0));
    send(&app, post("k")).await.assert_replay(200, "done");
}

/// Peer bug 28: a renewal that is slow can't bring back what has ended.
#[tokio::test(start_paused = true)]
async fn a_slow_renewal_does_not_overtake_the_answer() {
    let lab = Lab::new();
    let app = serve(&lab.layer_with(|engine| engine.lease(secs(3))), |_| async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        Ok(reply(200, "done"))
    });
    let mut claimed = false;
    lab.store.fail(move |call| match call {
        Call::Swap(Status::Pending) if std::mem::replace(&mut claimed, true) => Fault::Slow(secs(2)),
        _ => Fault::None,
    });
    send(&app, post("k")).await.assert_first(200, "done");
    tokio::time::sleep(secs(10)).await;
    send(&app, post("k")).await.assert_replay(200, "done");
}

#[tokio::test(start_paused = true)]
async fn renewals_stop_at_the_longest_execution() {
    let lab = Lab::new();
    let app = serve(&lab.layer_with(|engine| engine.lease(secs(1)).max_execution(secs(3))), |_| async {
        tokio::time::sleep(secs(10)).await;
        Ok(reply(200, "done"))
    });
    let first = spawn(&app, post("k"));
    tokio::time::sleep(secs(2)).await;
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    assert_eq!(lab.events.count("Overdue"), 0);
    tokio::time::sleep(secs(3)).await;
    assert_eq!(lab.events.count("Overdue"), 1);
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    // Nobody took over, so its answer is still the answer.
    first.await.unwrap().unwrap().assert_first(200, "done");
    send(&app, post("k")).await.assert_replay(200, "done");
}

/// Faults C2: a handler that may not keep its lease is told.
#[tokio::test(start_paused = true)]
async fn a_handler_that_runs_for_too_long_is_told_when_its_lease_is_over() {
    let lab = Lab::new();
    let app = serve(&lab.layer_with(|engine| engine.lease(secs(1)).max_execution(secs(3))), |request| async move {
        let op = operation(&request);
        tokio::select! {
            () = op.cancelled() => Ok(reply(200, "told")),
            () = tokio::time::sleep(secs(10)) => Ok(reply(200, "never told")),
        }
    });
    send(&app, post("k")).await.assert_first(200, "told");
}

/// Attempts that wait at a door each, under a clock that only the test moves.
fn doors(layer: &IdempotencyLayer) -> (App, Count, Vec<Arc<Semaphore>>) {
    let runs = Count::default();
    let doors: Vec<_> = (0..3).map(|_| Arc::new(Semaphore::new(0))).collect();
    let (count, waits) = (runs.clone(), doors.clone());
    let app = serve(layer, move |request| {
        let number = count.up();
        let (op, door) = (operation(&request), waits[number - 1].clone());
        async move {
            door.acquire().await.unwrap().forget();
            Ok(reply(200, format!("attempt {} run {number} cancelled {}", op.attempt(), op.is_cancelled())))
        }
    });
    (app, runs, doors)
}

/// Past the default lease of a minute.
fn lapse(clock: &ManualClock) {
    clock.advance(secs(61));
}

#[tokio::test(start_paused = true)]
async fn at_most_once_a_lapsed_lease_means_that_nobody_knows() {
    let (lab, clock) = Lab::manual();
    let (app, runs, doors) = doors(&lab.layer());
    let first = spawn(&app, post("k"));
    settle().await;
    clock.advance(Duration::from_millis(59_999));
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    clock.advance(Duration::from_millis(1));
    send(&app, post("k")).await.assert_problem("outcome-unknown", 500);
    assert_eq!(runs.get(), 1);
    // It wakes up: nobody took its place, so its answer counts.
    doors[0].add_permits(1);
    first.await.unwrap().unwrap().assert_first(200, "attempt 1 run 1 cancelled false");
    send(&app, post("k")).await.assert_replay(200, "attempt 1 run 1 cancelled false");
}

/// Peer bugs 10, 11, 12, 24 and 27, and faults E1 to E5.
#[tokio::test(start_paused = true)]
async fn resumable_a_lapsed_lease_is_taken_over_and_the_zombie_gets_the_stored_answer() {
    let (lab, clock) = Lab::manual();
    let (app, runs, doors) = doors(&lab.layer().resumable());
    let zombie = spawn(&app, post("k"));
    settle().await;
    lapse(&clock);
    doors[1].add_permits(1);
    send(&app, post("k")).await.assert_first(200, "attempt 2 run 2 cancelled false");
    doors[0].add_permits(1);
    zombie.await.unwrap().unwrap().assert_replay(200, "attempt 2 run 2 cancelled false");
    send(&app, post("k")).await.assert_replay(200, "attempt 2 run 2 cancelled false");
    assert_eq!((runs.get(), lab.events.count("LeaseLost")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_zombie_that_ends_while_the_heir_runs_is_told_to_wait() {
    let (lab, clock) = Lab::manual();
    let (app, _, doors) = doors(&lab.layer().resumable());
    let zombie = spawn(&app, post("k"));
    settle().await;
    lapse(&clock);
    let heir = spawn(&app, post("k"));
    settle().await;
    doors[0].add_permits(1);
    zombie.await.unwrap().unwrap().assert_problem("in-progress", 409);
    // It neither freed nor renewed what is the heir's.
    send_now(&app, post("k")).await.assert_problem("in-progress", 409);
    doors[1].add_permits(1);
    heir.await.unwrap().unwrap().assert_first(200, "attempt 2 run 2 cancelled false");
}

#[tokio::test(start_paused = true)]
async fn a_zombie_whose_heir_ended_without_an_answer_does_not_know_the_outcome() {
    for outcome in [Outcome::Retryable, Outcome::NothingHappened] {
        let (lab, clock) = Lab::manual();
        let runs = Count::default();
        let door = Arc::new(Semaphore::new(0));
        let (count, wait) = (runs.clone(), door.clone());
        let app = serve(&lab.layer().resumable(), move |_| {
            let first = count.up() == 1;
            let wait = wait.clone();
            async move {
                let mut response = reply(503, "heir");
                response.extensions_mut().insert(outcome);
                if first {
                    wait.acquire().await.unwrap().forget();
                    response = reply(200, "zombie");
                }
                Ok(response)
            }
        });
        let zombie = spawn(&app, post("k"));
        settle().await;
        lapse(&clock);
        send(&app, post("k")).await.assert_first(503, "heir");
        door.add_permits(1);
        zombie.await.unwrap().unwrap().assert_problem("outcome-unknown", 500);
    }
}

/// Faults E15 and E16: the key was used anew since.
#[tokio::test(start_paused = true)]
async fn a_zombie_of_a_forgotten_operation_gets_nothing_of_the_new_one() {
    let (lab, clock) = Lab::manual();
    let (app, _, doors) = doors(&lab.layer().resumable());
    let zombie = spawn(&app, post("k"));
    settle().await;
    lapse(&clock);
    doors[1].add_permits(1);
    send(&app, post("k")).await.assert_first(200, "attempt 2 run 2 cancelled false");
    clock.advance(secs(25 * 3600));
    doors[2].add_permits(1);
    let other = crate::support::lab::post_body("k", "another request");
    send(&app, other).await.assert_first(200, "attempt 1 run 3 cancelled false");
    doors[0].add_permits(1);
    zombie.await.unwrap().unwrap().assert_problem("outcome-unknown", 500);
}

/// Peer bug 11: the signal that the lease is lost.
#[tokio::test(start_paused = true)]
async fn a_handler_that_lost_its_lease_is_told() {
    let (lab, clock) = Lab::manual();
    let (runs, told) = (Count::default(), Count::default());
    let (count, tell) = (runs.clone(), told.clone());
    let app = serve(&lab.layer().resumable(), move |request| {
        let (op, first, tell) = (operation(&request), count.up() == 1, tell.clone());
        async move {
            if first {
                assert!(!op.is_cancelled());
                op.cancelled().await;
                assert!(op.is_cancelled());
                // Whoever asks later is told as well.
                op.cancelled().await;
                tell.up();
            }
            Ok(reply(200, "done"))
        }
    });
    let zombie = spawn(&app, post("k"));
    settle().await;
    lapse(&clock);
    send(&app, post("k")).await.assert_first(200, "done");
    // The next renewal finds out.
    let zombie = tokio::time::timeout(secs(21), zombie).await.expect("told at the next renewal");
    zombie.unwrap().unwrap().assert_replay(200, "done");
    assert_eq!(told.get(), 1);
}

/// Faults E13: a store that does not answer leaves the lease in doubt.
#[tokio::test(start_paused = true)]
async fn a_handler_whose_lease_can_not_be_renewed_is_told() {
    let lab = Lab::new();
    let app = serve(&lab.layer_with(|engine| engine.lease(secs(6))), |request| async move {
        let op = operation(&request);
        op.cancelled().await;
        Ok(reply(200, "told"))
    });
    let first = spawn(&app, post("k"));
    settle().await;
    lab.store.down();
    let answer = tokio::time::timeout(secs(60), first).await.expect("told in time");
    answer.unwrap().unwrap().assert_first(200, "told");
}

/// Work that never waits needs no renewal, and so no task.
#[tokio::test(start_paused = true)]
async fn a_handler_that_is_done_at_once_spawns_nothing_and_renews_nothing() {
    let (lab, _) = Lab::manual();
    let app = serve(&lab.layer(), |_| async { Ok(reply(200, "done")) });
    // The first request of a process starts the task that looks at the maintenance windows.
    send(&app, post("first")).await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    send(&app, post("k")).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), tasks);
    assert_eq!(lab.store.calls(), 4);
}
