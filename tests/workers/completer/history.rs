//! What is remembered of how an operation went.

use tower_idempotency::core::{HistoryEntry, HistoryEvent, Record, Resolution};
use tower_idempotency::store::KeptRecord;
use tower_idempotency::{Engine, Operation, Operator};

use super::{BACKOFF, app, layer, once, stored};
use crate::support::bodies::Failure;
use crate::support::lab::{Lab, completer, post, reply, secs, send};

/// What happened stays with the record: by whom, in which attempt, and when by
/// the store's clock.
#[tokio::test(start_paused = true)]
async fn the_history_of_an_operation_stays_with_it() {
    let lab = Lab::new();
    let handler = |op: Operation, _: usize| async move {
        tokio::time::sleep(secs(2)).await;
        op.step("order", |_| async { Ok::<_, Failure>(17) }).await.unwrap();
        let resumed = op.is_resumed();
        let charge = op.pay("charge", |_| async move { if resumed { Ok(1) } else { Err(Failure("away")) } });
        if charge.await.is_ok() { reply(201, "paid") } else { reply(503, "later") }
    };
    let named = |name| lab.layer_with(|engine| engine.backoff(BACKOFF).instance(name)).resumable();
    let (first, second) = (named("web-1"), named("worker-2"));
    let (web, worker) = (app(&first, handler), app(&second, handler));
    send(&web, post("k")).await.assert_first(503, "later");
    let begin = stored(&lab).await.created_at().unwrap();
    let told = |record: &Record| -> Vec<String> {
        let tell = |entry: HistoryEntry| {
            let (text, by) = (entry.text.unwrap_or_default(), entry.by.unwrap_or_default());
            format!("{} {} {text} {by} +{}", entry.attempt, entry.event.name(), entry.at.since(begin).as_secs())
        };
        record.history().into_iter().map(tell).collect()
    };
    let unfinished = [
        "1 claimed  web-1 +0",
        "1 step-saved order  +2",
        "1 step-begun charge  +2",
        "1 released status 503; step charge: failed web-1 +2",
    ];
    assert_eq!(told(&stored(&lab).await), unfinished);
    let operator = Operator::new(Engine::new(lab.store.clone()).instance("eve"));
    tokio::time::sleep(secs(1)).await;
    let shown = operator.find("", "k").await.unwrap();
    operator.resolve(&shown, Resolution::Park { why: "wait".into() }).await.unwrap();
    tokio::time::sleep(secs(1)).await;
    lab.decide("k", Resolution::RunAgain).await;
    tokio::time::sleep(secs(6)).await;
    assert_eq!(once(&completer(&second, &worker)).await.completed, 1);
    let all = [
        "1 claimed  web-1 +0",
        "1 step-saved order  +2",
        "1 released status 503; step charge: failed web-1 +2",
        "1 decided park eve +3",
        "1 parked wait eve +3",
        "1 decided run again  +4",
        "2 resumed  worker-2 +10",
        "2 step-saved charge  +12",
        "2 completed  worker-2 +12",
    ];
    assert_eq!(told(&stored(&lab).await), all);
}

/// However long it takes, a record stays small.
#[tokio::test(start_paused = true)]
async fn a_long_history_leaves_out_its_middle() {
    let (lab, clock) = Lab::manual();
    let layer = layer(&lab);
    let app = app(&layer, |op, run| async move {
        for step in 0..10 {
            op.step(format!("{run} {step}"), |_| async { Ok::<_, Failure>(()) }).await.unwrap();
        }
        if run < 50 { reply(503, "later") } else { reply(200, "done") }
    });
    for _ in 0..50 {
        send(&app, post("k")).await;
        clock.advance(secs(1));
    }
    let record = stored(&lab).await;
    let history = record.history();
    assert_eq!(history.len(), 33, "{history:?}");
    assert_eq!((history[0].attempt, history[0].event), (1, HistoryEvent::Claimed));
    let last = history.last().unwrap();
    assert_eq!((last.attempt, last.event), (50, HistoryEvent::Completed));
    assert!(record.history_dropped() > 500, "{}", record.history_dropped());
    assert!(record.encode().head.len() < 3000, "{} bytes", record.encode().head.len());
}

/// What has no history pays nothing for it.
#[tokio::test]
async fn a_plain_operation_has_its_history_for_nothing() {
    let lab = Lab::new();
    let app = app(&lab.layer(), |_, _| async { reply(200, "done") });
    send(&app, post("k")).await.assert_first(200, "done");
    let record = stored(&lab).await;
    assert_eq!(
        record.history().iter().map(|entry| entry.event).collect::<Vec<_>>(),
        [HistoryEvent::Claimed, HistoryEvent::Completed]
    );
    let head = record.encode().head;
    assert!(head.len() <= 80, "{} bytes: {head:?}", head.len());
}
