//! Who sends what when: processes that die, layers beside it, windows, ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tower::Layer;
use tower_idempotency::maintenance::{Covers, Window};
use tower_idempotency::outbox::{CallState, Outbox, SendLaterError};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Operator, Status};

use super::{call, ids, key, later, outbox, outbox_over};
use crate::support::lab::{Lab, completer, numbered, secs};
use crate::support::settle;
use crate::support::store::{Call as StoreCall, Fault};
use crate::{Does, Remote, layer, post, responds};

/// Runs it beside `work`, and then until it has ended.
async fn beside<T>(outbox: &Outbox, work: impl Future<Output = T>) -> T {
    let (stop, stopped) = oneshot::channel::<()>();
    let sending = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.run(async { drop(stopped.await) }).await }
    });
    let done = work.await;
    drop(stop);
    sending.await.unwrap();
    done
}

#[tokio::test(start_paused = true)]
async fn what_a_process_accepts_it_sends_at_once() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let mails = outbox(&lab, &remote).poll(secs(3600));
    beside(&mails, async {
        sleep(secs(10)).await;
        let began = Instant::now();
        later(&mails, "a").await;
        settle().await;
        assert_eq!((remote.seen().len(), began.elapsed()), (1, Duration::ZERO));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_put_off_is_sent_when_it_falls_due_with_the_same_key() {
    let down = (0..6).map(|_| responds(503, &[], "")).chain([responds(429, &[("retry-after", "7200")], "")]);
    let (lab, remote) =
        (Lab::new(), Remote::that(down.chain([responds(503, &[("stripe-should-retry", "false")], "")])));
    let mails =
        Outbox::new("mail", lab.engine(), layer().max_tries(1).layer(remote.clone())).unwrap().poll(secs(24 * 3600));
    let began = Instant::now();
    beside(&mails, async {
        let id = later(&mails, "a").await;
        while !matches!(call(&mails, &id).await.state, CallState::NeedsAttention) {
            sleep(secs(1)).await;
        }
    })
    .await;
    let seen = remote.seen();
    assert_eq!(seen.len(), 8);
    assert!(seen.iter().all(|seen| seen.key() == Some("a") && seen.body == "1999"));
    assert!(seen[5].at - began < secs(2 * 60), "up to 2, 4, 8, 16 and 32 seconds");
    assert!(seen[7].at - seen[6].at >= secs(7200), "and as long as the server asks");
    assert!(seen[7].at - seen[6].at < secs(3 * 3600), "not only when it looks again");
}

#[tokio::test(start_paused = true)]
async fn a_call_outlives_the_process_that_accepted_it() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let id = later(&outbox(&lab, &remote), "a").await;
    let mails = outbox(&lab, &remote);
    beside(&mails, async {
        while call(&mails, &id).await.state != CallState::Sent {
            sleep(secs(1)).await;
        }
    })
    .await;
    assert_eq!(remote.seen().len(), 1);
}

/// A crash at the worst moment: the server has the call, and no process its response.
#[tokio::test(start_paused = true)]
async fn what_a_dead_process_was_sending_another_one_sends_with_the_same_key() {
    let (lab, remote) = (Lab::new(), Remote::that([Does::Hangs]));
    let dying = outbox(&lab, &remote);
    let id = later(&dying, "a").await;
    assert!(timeout(secs(5), dying.run_once()).await.is_err(), "cut off while it sends");
    let mails = outbox(&lab, &remote);
    assert_eq!(mails.run_once().await.unwrap(), Default::default(), "as long as its lease lasts");
    assert_eq!(ids(&mails, CallState::Sending).await, [id]);
    sleep(secs(60)).await;
    assert_eq!(mails.run_once().await.unwrap().sent, 1);
    let seen = remote.seen();
    assert_eq!(seen.iter().map(|seen| seen.key().unwrap()).collect::<Vec<_>>(), ["a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn of_many_processes_one_sends_each_call() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let first = outbox(&lab, &remote);
    for number in 0..60 {
        later(&first, &format!("mail-{number}")).await;
    }
    let others: Vec<_> = (0..5).map(|_| outbox(&lab, &remote).concurrency(7)).collect();
    let sent = Arc::new(AtomicUsize::new(0));
    let rounds = others.into_iter().map(|other| {
        let sent = Arc::clone(&sent);
        async move { sent.fetch_add(other.run_once().await.unwrap().sent, Ordering::Relaxed) }
    });
    tokio::task::JoinSet::from_iter(rounds).join_all().await;
    let mut keys: Vec<_> = remote.seen().iter().map(|seen| seen.key().unwrap().to_owned()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), sent.load(Ordering::Relaxed)), (60, 60));
}

/// Both go by one store, and neither takes what is the other's: a request of a layer's is not
/// sent, and a call is not run by a handler of the same path.
#[tokio::test(start_paused = true)]
async fn a_completer_and_an_outbox_leave_each_other_alone() {
    let (lab, remote) = (Lab::new(), Remote::that([Does::Hangs]));
    let guarding = lab.layer().resumable();
    let (app, runs) = numbered(&guarding);
    let completer = completer(&guarding, &app).assume_guarded();
    let mails = outbox(&lab, &remote);
    let id = later(&mails, "a").await;
    for _ in 0..3 {
        assert_eq!(completer.run_once().await.unwrap().found, 0, "it waits to be sent");
    }
    assert!(timeout(secs(1), mails.run_once()).await.is_err());
    sleep(secs(120)).await;
    assert_eq!(completer.run_once().await.unwrap().found, 0, "its lease has lapsed");
    assert_eq!((runs.get(), lab.events.count("NotWired")), (0, 0));
    assert_eq!(outbox(&lab, &remote).run_once().await.unwrap().sent, 1);
    assert_eq!(completer.run_once().await.unwrap().found, 0);
    assert_eq!(call(&mails, &id).await.state, CallState::Sent);
}

#[tokio::test(start_paused = true)]
async fn outboxes_of_two_names_do_not_mix() {
    for has_index in [false, true] {
        let (lab, remote, webhook) = (Lab::new(), Remote::default(), Remote::default());
        if has_index {
            lab.store.index_labels();
        }
        let mails = outbox(&lab, &remote);
        let hooks = Outbox::new("hooks", lab.engine(), layer().layer(webhook.clone())).unwrap();
        let (mail, hook) = (later(&mails, "a").await, later(&hooks, "a").await);
        assert_ne!(mail, hook);
        assert_eq!(hooks.run_once().await.unwrap().sent, 1);
        assert_eq!((remote.seen().len(), webhook.seen().len()), (0, 1), "{has_index}");
        assert!(hooks.find(&mail).await.unwrap().is_none() && ids(&hooks, CallState::Waiting).await.is_empty());
        assert_eq!(ids(&hooks, CallState::Sent).await, [hook]);
        // It knows by now that this is none of its own.
        let loads = lab.store.loads();
        hooks.run_once().await.unwrap();
        assert_eq!(lab.store.loads() - loads, 0, "it is not looked at again");
        assert_eq!(mails.run_once().await.unwrap().sent, 1);
    }
}

/// The server has answered, and there is no second answer to get from one that forgot the key.
#[tokio::test(start_paused = true)]
async fn a_response_that_can_not_be_stored_at_once_is_stored_later() {
    let (lab, remote) = (Lab::new(), Remote::that([responds(201, &[], "queued")]));
    let mails = outbox(&lab, &remote);
    let id = later(&mails, "a").await;
    let began = Instant::now();
    lab.store.fail(move |call| match call {
        StoreCall::Swap(Status::Complete) if began.elapsed() < secs(300) => Fault::Before(StoreErrorKind::Unavailable),
        _ => Fault::None,
    });
    assert_eq!(mails.run_once().await.unwrap().failed, 1);
    // It has it in hand, however long its lease is over.
    sleep(secs(200)).await;
    assert_eq!(mails.run_once().await.unwrap(), Default::default());
    sleep(secs(600)).await;
    assert_eq!(call(&mails, &id).await.response.unwrap().body().unwrap(), "queued");
    assert_eq!((remote.seen().len(), lab.events.count("SavedLate")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_cut_off_and_made_again() {
    let (lab, remote) = (Lab::new(), Remote::that([Does::Hangs]));
    let client = layer().try_timeout(Duration::MAX).deadline(Duration::MAX).layer(remote.clone());
    let mails = Outbox::new("mail", lab.engine(), client).unwrap().deadline(secs(10));
    let id = later(&mails, "a").await;
    let began = Instant::now();
    assert_eq!(mails.run_once().await.unwrap().put_off, 1);
    assert_eq!(began.elapsed(), secs(10));
    assert_eq!(call(&mails, &id).await.why.as_deref(), Some("it was cut off after 10 s"));
    sleep(secs(2)).await;
    assert_eq!(mails.run_once().await.unwrap().sent, 1);
    assert_eq!(lab.events.count("CutOff"), 1);
}

/// It is held for as long as it is sent, however long that takes.
#[tokio::test(start_paused = true)]
async fn a_call_that_takes_longer_than_a_lease_is_sent_by_one_process() {
    let (lab, remote) = (Lab::new(), Remote::that([Does::Hangs]));
    let client = layer().try_timeout(Duration::MAX).deadline(Duration::MAX).layer(remote.clone());
    let slow = Outbox::new("mail", lab.engine(), client).unwrap().deadline(secs(600)).lease(secs(20));
    let id = later(&slow, "a").await;
    let other = outbox(&lab, &remote);
    let sending = tokio::spawn(async move { slow.run_once().await });
    sleep(secs(500)).await;
    assert_eq!(other.run_once().await.unwrap(), Default::default());
    assert_eq!(call(&other, &id).await.state, CallState::Sending);
    assert_eq!(sending.await.unwrap().unwrap().put_off, 1);
    assert_eq!(remote.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_finishes_what_it_sends_and_accepts_for_others() {
    let (lab, remote) = (Lab::new(), Remote::that([Does::Hangs]));
    let engine = lab.engine();
    let mails = outbox_over(&engine, &remote).deadline(secs(20));
    let sending = tokio::spawn({
        let mails = mails.clone();
        async move { mails.run(std::future::pending()).await }
    });
    later(&mails, "a").await;
    settle().await;
    let drained = tokio::spawn(engine.drain(secs(60)));
    settle().await;
    let id = later(&mails, "b").await;
    assert!(drained.await.unwrap().is_empty(), "it waits for what is being sent");
    sending.await.unwrap();
    assert_eq!(remote.seen().len(), 1);
    assert_eq!(mails.run_once().await.unwrap(), Default::default());
    sleep(secs(1)).await;
    assert_eq!(outbox(&lab, &remote).run_once().await.unwrap().sent, 2);
    assert_eq!(call(&mails, &id).await.state, CallState::Sent);
}

#[tokio::test(start_paused = true)]
async fn asked_to_stop_it_finishes_what_it_sends_and_begins_nothing() {
    let (lab, remote) = (Lab::new(), Remote::that([Does::Hangs]));
    let mails = outbox(&lab, &remote).deadline(secs(20)).concurrency(1);
    let (stop, stopped) = oneshot::channel::<()>();
    let sending = tokio::spawn({
        let mails = mails.clone();
        async move { mails.run(async { drop(stopped.await) }).await }
    });
    let (first, second) = (later(&mails, "a").await, later(&mails, "b").await);
    settle().await;
    drop(stop);
    sleep(secs(19)).await;
    assert!(!sending.is_finished(), "it waits for the one that it sends");
    sending.await.unwrap();
    assert_eq!(lab.events.count("CutOff"), 1);
    assert_eq!(remote.seen().len(), 1);
    assert_eq!(ids(&mails, CallState::Waiting).await.len(), 2, "{first} {second}");
}

/// At each call of the store, and in each way that it can fail: the same call again finds out, the
/// call is sent with one key, and its response is kept.
#[tokio::test(start_paused = true)]
async fn however_the_store_fails_a_call_is_sent_with_one_key_and_has_its_end() {
    let faults = [
        Fault::Before(StoreErrorKind::Unavailable),
        Fault::After,
        Fault::Hang,
        Fault::HangAfter,
        Fault::Late(secs(3)),
        Fault::LostAfter(secs(3)),
    ];
    for (fault, number) in faults.into_iter().flat_map(|fault| (0..9).map(move |number| (fault, number))) {
        let (lab, remote) = (Lab::new(), Remote::default());
        let mails = outbox(&lab, &remote);
        let (mut calls, met) = (0.., Arc::new(AtomicUsize::new(0)));
        let meets = Arc::clone(&met);
        lab.store.fail(move |_| {
            let is_it = calls.next() == Some(number);
            meets.fetch_add(usize::from(is_it), Ordering::Relaxed);
            if is_it { fault } else { Fault::None }
        });
        let mut asked = Vec::new();
        for _ in 0..3 {
            asked.extend(mails.send_later(&key("a"), post()).await.ok());
        }
        let id = asked[0];
        assert!(asked.len() >= 2 && asked.iter().all(|asked| *asked == id), "{asked:?}");
        for _ in 0..40 {
            let _ = mails.run_once().await;
            sleep(secs(5)).await;
        }
        lab.store.heal();
        let sent = call(&mails, &id).await;
        assert_eq!(sent.state, CallState::Sent, "{fault:?} {number}: {sent:?}");
        let seen = remote.seen();
        assert!((1..=2).contains(&seen.len()) && seen.iter().all(|seen| seen.key() == Some("a")), "{fault:?} {number}");
        assert_eq!(met.load(Ordering::Relaxed), 1, "{fault:?} {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_rest_for_a_window_of_their_scope_and_the_store_for_one_of_its_own() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let mails = outbox(&lab, &remote);
    let operator = Operator::new(lab.engine());
    let now = mails.find(&later(&mails, "a").await).await.unwrap().unwrap().written;
    let window = |covers| Window::new(now, now.after(secs(3600)), "the mail server moves").covers(covers);
    operator.plan(window(Covers::Scope("outbox/mail".into()))).await.unwrap();
    sleep(secs(6)).await;
    assert_eq!(mails.run_once().await.unwrap(), Default::default());
    later(&mails, "b").await;
    beside(&mails, sleep(secs(60))).await;
    assert!(remote.seen().is_empty());
    operator.plan(window(Covers::All)).await.unwrap();
    sleep(secs(6)).await;
    let refused = mails.send_later(&key("c"), post()).await.unwrap_err();
    assert!(
        matches!(&refused, SendLaterError::Maintenance { reason, .. } if reason == "the mail server moves"),
        "{refused}"
    );
    for planned in operator.windows().await.unwrap().0 {
        operator.end(&planned).await.unwrap();
    }
    sleep(secs(6)).await;
    assert_eq!(mails.run_once().await.unwrap().sent, 2);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_store_that_is_away_and_says_so_once() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let mails = outbox(&lab, &remote);
    later(&mails, "a").await;
    lab.store.down();
    beside(&mails, async {
        sleep(secs(600)).await;
        assert_eq!((remote.seen().len(), lab.events.count("StoreFailed")), (0, 1));
        lab.store.heal();
        sleep(secs(120)).await;
    })
    .await;
    assert_eq!((remote.seen().len(), lab.events.count("StoreBack")), (1, 1));
}

/// The index of labels has only what was written while it was on.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_call_is_sent_whether_an_index_has_it_or_not() {
    use tower_idempotency::store::SqliteStoreOptions;
    let (folder, remote) = (tempfile::tempdir().unwrap(), Remote::default());
    let open = |has_index| {
        let options = SqliteStoreOptions::new().index_labels(has_index);
        outbox_over(options.open(folder.path().join("outbox.db")).unwrap(), &remote)
    };
    later(&open(false), "a").await;
    assert_eq!(open(true).run_once().await.unwrap().sent, 1);
}

/// More than one round looks at.
#[tokio::test(start_paused = true)]
async fn a_long_line_of_another_outbox_is_passed() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let hooks = Outbox::new("hooks", lab.engine(), layer().layer(remote.clone())).unwrap();
    for number in 0..1_050 {
        later(&hooks, &format!("hook-{number}")).await;
    }
    sleep(secs(1)).await;
    later(&outbox(&lab, &remote), "a").await;
    let mails = outbox(&lab, &remote);
    let sent = [mails.run_once().await.unwrap().sent, mails.run_once().await.unwrap().sent];
    assert_eq!(sent, [0, 1]);
    let loads = lab.store.loads();
    mails.run_once().await.unwrap();
    assert_eq!(lab.store.loads(), loads, "none is looked at twice");
}

#[tokio::test(start_paused = true)]
async fn a_long_line_of_calls_is_sent_to_its_end() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let accepting = outbox(&lab, &remote);
    for number in 0..1_150 {
        later(&accepting, &format!("mail-{number}")).await;
    }
    let mails = outbox(&lab, &remote);
    assert_eq!(mails.run_once().await.unwrap().sent, 1_000);
    assert_eq!(mails.run_once().await.unwrap().sent, 150);
    assert_eq!(remote.seen().len(), 1_150);
}
