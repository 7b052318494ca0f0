//! Review: what else broke.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use http::Request;
use tower::ServiceExt;
use tower_idempotency::core::{Mode, Status};
use tower_idempotency::{Background, Completer};

use support::bodies::Failure;
use support::lab::{Inner, Lab, post, reply, secs, send, serve, spawn};
use support::store::{Call, Fault};
use support::{Count, settle};

/// Item 10: "whoever settles asks first what is unsaved; duplicates get in-progress
/// meanwhile". A store call may hang for 5 s, and a lease be shorter: until that call
/// is given up nobody knows that this process has the answer still in hand.
#[tokio::test(start_paused = true)]
async fn what_is_being_saved_is_in_hand_while_the_store_hangs() {
    let mut wrong = Vec::new();
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lab = Lab::new();
        let layer = lab.layer().lease(secs(2)).background(Background::at("/operations"));
        let layer = if mode == Mode::Resumable { layer.resumable() } else { layer };
        let runs = Count::default();
        let count = runs.clone();
        let app = serve(&layer, move |_: Inner| {
            let run = count.up();
            async move { Ok(reply(201, format!("charge {run}"))) }
        });
        lab.store.fail_once(Call::Swap(Status::Complete), Fault::Hang);
        let first = spawn(&app, post("k"));
        settle().await;
        assert_eq!(runs.get(), 1);
        tokio::time::sleep(secs(3)).await;
        let second = send(&app, post("k")).await;
        let first = first.await.unwrap().unwrap();
        tokio::time::sleep(secs(10)).await;
        let third = send(&app, post("k")).await;
        wrong.push(format!(
            "{mode:?}: ran {}; {} {:?}, meanwhile {} {:?}, later {} {:?}",
            runs.get(),
            first.status,
            first.text(),
            second.status,
            second.text(),
            third.status,
            third.text()
        ));
    }
    assert!(wrong.iter().all(|what| what.contains("ran 1") && what.contains("meanwhile 409")), "{wrong:#?}");
}

/// The same of a completer: it parks what its own process is saving.
#[tokio::test(start_paused = true)]
async fn a_completer_does_not_park_what_is_being_saved_while_the_store_hangs() {
    let lab = Lab::new();
    let layer = lab.layer().lease(secs(2)).background(Background::at("/operations"));
    let app = serve(&layer, |_: Inner| async { Ok(reply(201, "charged")) });
    let driven = app.clone().map_request(|request: Request<bytes::Bytes>| request.map(support::bodies::full));
    let completer = Completer::new::<_, bytes::Bytes>(&layer, driven);
    lab.store.fail_once(Call::Swap(Status::Complete), Fault::Hang);
    let first = spawn(&app, post("k"));
    settle().await;
    tokio::time::sleep(secs(3)).await;
    completer.run_once().await.unwrap();
    first.await.unwrap().unwrap().assert_first(201, "charged");
    tokio::time::sleep(secs(60)).await;
    let names = lab.events.names();
    assert!(!names.contains(&"Parked".into()) && names.contains(&"SavedLate".into()), "{names:?}");
    send(&app, post("k")).await.assert_replay(201, "charged");
}

/// Item 10, "a completer parks what its own process still has to save": a runner
/// beside the layer, over one store, in one process. Each has a register of its own
/// of what is in hand, and the completer asks that of its layer.
#[tokio::test(start_paused = true)]
async fn a_completer_does_not_take_what_a_runner_of_its_process_still_has_to_save() {
    use tower_idempotency::Runner;
    use tower_idempotency::store::StoreErrorKind;
    let mut wrong = Vec::new();
    for mode in [Mode::AtMostOnce, Mode::Resumable] {
        let lab = Lab::new();
        let layer = lab.layer();
        let app = serve(&layer, |_: Inner| async { Ok(reply(201, "")) });
        let driven = app.clone().map_request(|request: Request<bytes::Bytes>| request.map(support::bodies::full));
        let completer = Completer::new::<_, bytes::Bytes>(&layer, driven);
        let runner = Runner::new(lab.store.clone());
        let runner = if mode == Mode::AtMostOnce { runner.at_most_once() } else { runner };
        let works = Count::default();
        lab.store.fail(|call| match call {
            Call::Swap(Status::Complete) => Fault::Before(StoreErrorKind::Unavailable),
            _ => Fault::None,
        });
        let run = || {
            let works = works.clone();
            runner.run("jobs", "17", "", move |_| async move { Ok::<_, Failure>(works.up()) })
        };
        assert_eq!(run().await.unwrap(), 1);
        tokio::time::sleep(secs(90)).await;
        let report = completer.run_once().await.unwrap();
        lab.store.heal();
        tokio::time::sleep(secs(60)).await;
        let again = run().await;
        wrong.push(format!("{mode:?}: {report:?}; the next call gets {again:?}, worked {} times", works.get()));
    }
    assert!(wrong.iter().all(|what| what.contains("gets Ok(1), worked 1 times")), "{wrong:#?}");
}
