//! What a completer does about an operation in doubt.

use bytes::Bytes;
use http::Response;
use tower_idempotency::Reconciled;
use tower_idempotency::core::Mode;

use super::{app, crashed, once, parked_why, stored};
use crate::support::Count;
use crate::support::lab::{Lab, completer, post, reply, secs, send, stored_key};

#[tokio::test(start_paused = true)]
async fn at_most_once_a_reconciler_is_asked_and_nothing_runs_again() {
    let said: [(Option<Reconciled<u16>>, &str); 4] = [
        (Some(Reconciled::Happened(201)), "replayed"),
        (Some(Reconciled::DidNotHappen), "runs"),
        (Some(Reconciled::Unknown), "parked"),
        (None, "parked"),
    ];
    for (said, then) in said {
        let (lab, clock) = Lab::manual();
        let (layer, runs) = (lab.layer(), Count::default());
        let count = runs.clone();
        let app = app(&layer, move |_, _| {
            count.up();
            async { reply(200, "ran") }
        });
        let mut completer = completer(&layer, &app);
        if let Some(said) = said {
            completer = completer.reconcile(move |doubt| async move {
                assert_eq!(doubt.key, stored_key("k"));
                match said {
                    Reconciled::Happened(status) => {
                        Reconciled::Happened(Response::builder().status(status).body(Bytes::from("found")).unwrap())
                    }
                    Reconciled::DidNotHappen => Reconciled::DidNotHappen,
                    Reconciled::Unknown => Reconciled::Unknown,
                }
            });
        }
        crashed(&lab, "k", Mode::AtMostOnce, b"{\"amount\":100}").await;
        assert_eq!(once(&completer).await.found, 0, "held");
        clock.advance(secs(60));
        let report = once(&completer).await;
        assert_eq!((report.found, runs.get()), (1, 0));
        assert_eq!((report.reconciled, report.parked), if then == "parked" { (0, 1) } else { (1, 0) });
        assert_eq!(once(&completer).await.found, 0, "each is asked about once");
        let answer = send(&app, post("k")).await;
        match then {
            "replayed" => answer.assert_replay(201, "found"),
            "runs" => answer.assert_first(200, "ran"),
            _ => answer.assert_problem("outcome-unknown", 500),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reconciler_that_panics_calls_a_human() {
    let (lab, clock) = Lab::manual();
    let layer = lab.layer();
    let app = app(&layer, |_, _| async { reply(200, "ran") });
    let completer = completer(&layer, &app).reconcile(|_| async { panic!("a planned panic") });
    crashed(&lab, "k", Mode::AtMostOnce, b"{}").await;
    clock.advance(secs(60));
    assert_eq!(once(&completer).await.parked, 1);
    assert_eq!(parked_why(&stored(&lab).await), "its reconciler panicked");
}
