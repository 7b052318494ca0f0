//! Two builds share a store: what a newer one wrote is read, gone on with and written by
//! this one, and then read by the newer one again. And what an earlier release wrote is
//! replayed.
//!
//! `guide/completer.md` (*Rolling updates*) says the order; the bytes are those of
//! `tests/golden`.

mod kept;
mod newer;

use std::time::Duration;

use tower_idempotency::core::{Claim, Claimed, Command, Labels, PartId, Record, Stamp, Version};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{KeptRecord, StoreErrorKind, Swap};
use tower_idempotency::{Engine, IdempotencyLayer, Scope};

use self::kept::{Kept, stores};
use self::newer::{Pieces, is_newer};
use crate::golden;
use crate::support::Count;
use crate::support::lab::{App, numbered, operation, post, post_body, reply, send, serve, stored_key};

fn layer(kept: &dyn Kept) -> IdempotencyLayer {
    IdempotencyLayer::new(Engine::new(kept.store()), Scope::shared())
}

/// How often each step of the order ran.
#[derive(Clone, Default)]
struct Runs {
    order: Count,
    charge: Count,
    receipt: Count,
}

/// A handler whose charge comes through at the second attempt, and whose receipt at the
/// third.
fn shop(kept: &dyn Kept) -> (App, Runs) {
    let runs = Runs::default();
    let counted = runs.clone();
    let app = serve(&layer(kept).resumable(), move |request| {
        let (op, runs) = (operation(&request), counted.clone());
        async move {
            let order = op.step("order", |_| async { Ok::<_, String>(runs.order.up()) }).await.unwrap();
            let charge = op.pay("charge", |_| async { Some(runs.charge.up()).filter(|run| *run > 1).ok_or("away") });
            let Ok(charge) = charge.await else { return Ok(reply(503, "no charge")) };
            let receipt =
                op.step("receipt", |_| async { Some(runs.receipt.up()).filter(|run| *run > 1).ok_or("away") });
            let Ok(receipt) = receipt.await else { return Ok(reply(503, "no receipt")) };
            Ok(reply(201, format!("{order} {charge} {receipt}")))
        }
    });
    (app, runs)
}

/// Which pieces have what a newer build said in them.
fn kept_of_the_newer(pieces: &Pieces) -> Vec<Option<PartId>> {
    let parts = pieces.parts.iter().filter(|(_, part)| is_newer(part)).map(|(id, _)| Some(*id));
    Some(None).filter(|_| is_newer(&pieces.head)).into_iter().chain(parts).collect()
}

/// What is in the head stays, with each write. What is in a part that this build writes anew it
/// drops: the step whose result it saves. What it only reads it keeps: the request, other steps.
/// The part that it does not know goes, and nothing is refused.
#[tokio::test]
async fn what_a_newer_build_began_goes_on_and_keeps_what_is_not_written_anew() {
    for kept in stores() {
        let ((app, runs), key) = (shop(&*kept), stored_key("k"));
        assert_eq!(send(&app, post("k")).await.text(), "no charge");
        let first = kept.pieces(&key);
        assert_eq!(first.parts.len(), 3, "a request, an order, a charge that was begun: {first:?}");
        let newer = first.by_a_newer_build();
        kept.put(&key, &newer);
        assert_eq!(kept.pieces(&key), newer);

        assert_eq!(send(&app, post("k")).await.text(), "no receipt");
        let second = kept.pieces(&key);
        let read_only = [Some(PartId::Request), Some(PartId::Step(0))];
        assert_eq!(kept_of_the_newer(&second), [&[None][..], &read_only].concat());
        for id in read_only.into_iter().flatten() {
            assert_eq!(second.parts[&id], newer.parts[&id], "{id:?}");
        }
        // The newer build finds its own parts, and those of this one, and reads on.
        assert_eq!(Record::parts_of(&second.head).unwrap().count(), second.parts.len());
        kept.put(&key, &second.by_a_newer_build());

        assert_eq!(send(&app, post("k")).await.text(), "1 2 2");
        assert_eq!((runs.order.get(), runs.charge.get(), runs.receipt.get()), (1, 2, 2), "no step ran twice");
        let third = kept.pieces(&key);
        assert_eq!(third.parts.keys().collect::<Vec<_>>(), [&PartId::Response]);
        assert_eq!(kept_of_the_newer(&third), [None]);
    }
}

/// A replay writes nothing, so that nothing is lost.
#[tokio::test]
async fn what_a_newer_build_completed_is_replayed_and_stays_as_it_is() {
    for kept in stores() {
        let ((app, runs), key) = (numbered(&layer(&*kept)), stored_key("k"));
        send(&app, post("k")).await.assert_first(201, "charge 1");
        let newer = kept.pieces(&key).by_a_newer_build();
        kept.put(&key, &newer);
        send(&app, post("k")).await.assert_replay(201, "charge 1");
        send(&app, post_body("k", "another")).await.assert_problem("key-reused", 422);
        assert_eq!((kept.pieces(&key), runs.get()), (newer, 1));
    }
}

/// A writer that comes before the readers: what must not be skipped is refused by name,
/// nothing runs, and its bytes stay for those that can read them.
#[tokio::test]
async fn what_must_not_be_skipped_is_refused_and_left_as_it_is() {
    for kept in stores() {
        let ((app, runs), key) = (shop(&*kept), stored_key("k"));
        assert_eq!(send(&app, post("k")).await.text(), "no charge");
        let known = kept.pieces(&key);
        for (pieces, kind, problem, status) in [
            (known.in_another_format(), StoreErrorKind::NewerFormat, "record-newer", 409),
            (known.with_a_part_in_another_format(PartId::Step(0)), StoreErrorKind::NewerFormat, "record-newer", 409),
            (known.with_a_part_in_another_format(PartId::Request), StoreErrorKind::NewerFormat, "record-newer", 409),
            (known.held_in_another_way(), StoreErrorKind::Corrupt, "record-corrupt", 500),
        ] {
            kept.put(&key, &pieces);
            assert_eq!(kept.store().load(&key).await.unwrap_err().kind(), kind);
            send(&app, post("k")).await.assert_problem(problem, status);
            assert_eq!(kept.pieces(&key), pieces);
        }
        assert_eq!((runs.order.get(), runs.charge.get()), (1, 1));
        // Rolled back, it goes on.
        kept.put(&key, &known);
        assert_eq!(send(&app, post("k")).await.text(), "no receipt");
        assert_eq!(runs.order.get(), 1);
    }
}

/// Keeps a golden record under this key, byte by byte as its release wrote it.
async fn keep(kept: &dyn Kept, key: &tower_idempotency::core::Key, name: &str, record: &Record) {
    let swapped = kept.store().swap(key, None, record).await.unwrap();
    assert!(matches!(swapped, Swap::Stored), "{name}: {swapped:?}");
    let ids = Record::parts_of(&golden::golden(&golden::file_name(name, None))).unwrap();
    let parts = ids.map(|id| (id, golden::golden(&golden::file_name(name, Some(id))))).collect();
    kept.put(key, &Pieces { head: golden::golden(&golden::file_name(name, None)), parts });
}

#[tokio::test]
async fn a_retry_of_what_an_earlier_release_stored_gets_its_response() {
    for kept in stores() {
        let (mut replayed, ledger) = (0, Ledger::new(kept.store()));
        for (name, record, _) in golden::records() {
            let key = stored_key(name);
            keep(&*kept, &key, name, &record).await;
            let fingerprint = record.fingerprint().clone();
            let claim = Claim {
                fingerprint,
                mode: record.mode(),
                lease: Duration::from_secs(30),
                request: None,
                labels: Labels::new(),
            };
            let now = kept.store().load(&key).await.unwrap().now;
            // What is stored now says what the record does of which the bytes were made.
            let stamp = Stamp::new(now, Version::new(1));
            let expected = claim.apply(Some(&record.clone().stamped(now)), stamp).output;
            let found = ledger.apply(&key, None, claim).await.unwrap().output;
            match (&found, record.response()) {
                (Claimed::Replay(response, _), Some(stored)) => {
                    assert_eq!(response, stored, "{name}");
                    replayed += 1;
                }
                // A fence is another one for each claim, and a lease is a moment older.
                (Claimed::Granted(_) | Claimed::Busy(_), None) => {
                    assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&expected), "{name}");
                }
                (found, _) => assert_eq!(found, &expected, "{name}"),
            }
        }
        assert!(replayed >= 9, "{replayed} golden records are complete");
    }
}

/// And so does one over HTTP, whose fingerprint is made of the request.
#[tokio::test]
async fn a_request_that_an_earlier_release_answered_gets_its_response() {
    let (name, record, _) = golden::records().into_iter().find(|(name, ..)| *name == "over-http").unwrap();
    for kept in stores() {
        let (app, runs) = numbered(&layer(&*kept));
        keep(&*kept, &stored_key("k"), name, &record).await;
        let answer = send(&app, post("k")).await;
        answer.assert_replay(201, "{\"id\":17}\n");
        let lines = |name: &str| answer.headers.get_all(name).iter().map(|value| value.as_bytes()).collect::<Vec<_>>();
        assert_eq!(lines("link"), [b"<b>; rel=\"next\"".as_slice(), b"<a>; rel=prev"]);
        assert_eq!(lines("x-latin-1"), [b"caf\xe9 \x80\xff"]);
        send(&app, post_body("k", "another")).await.assert_problem("key-reused", 422);
        assert_eq!(runs.get(), 0);
    }
}
