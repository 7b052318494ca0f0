//! What those who see some operations alone learn of the others: nothing, not even where they
//! lie.

use tower_idempotency::core::{Claim, Fingerprint, Mode};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Label, Labels, ListState, Listing, Operator};

use super::{Trouble, Visitor};
use crate::support::lab::{Lab, reply, request, secs, send, serve, stored_key};
use crate::support::store::{Call, Fault};

/// Claims with a lease of so long.
async fn claimed(lab: &Lab, many: usize, lease: u64) {
    let ledger = Ledger::new(lab.store.clone());
    for number in 0..many {
        let fingerprint = Fingerprint::of([b"POST".as_slice()]);
        let (mode, labels) = (Mode::AtMostOnce, Labels::new());
        let claim = Claim { fingerprint, mode, lease: secs(lease), request: None, labels };
        ledger.apply(&stored_key(&number.to_string()), None, claim).await.unwrap();
    }
}

/// So many operations of others are stuck, and behind them one of tim's is.
async fn behind_others(many: usize) -> Lab {
    let lab = Lab::new();
    claimed(&lab, many, 60).await;
    tokio::time::advance(secs(120)).await;
    let app = serve(&lab.layer().resumable(), |_| async { Ok(reply(503, "")) });
    send(&app, request("POST", "/orders/9", "own", "")).await;
    // It takes too long.
    tokio::time::advance(secs(3600)).await;
    lab
}

#[tokio::test(start_paused = true)]
async fn their_own_does_not_hide_behind_those_of_others() {
    let lab = behind_others(80).await;
    let tim = Visitor::new(&lab, "tim");
    tim.get("").await.assert(200, "POST /orders/9");
    tim.get("").await.assert(200, "1 operation needs attention");
    tim.get("?list=unfinished").await.assert(200, "POST /orders/9");
}

/// A page costs no more than a few. Where it stopped is told so that only this page reads it.
#[tokio::test(start_paused = true)]
async fn where_a_list_goes_on_tells_nothing_of_others() {
    let lab = behind_others(600).await;
    let (tim, eve) = (Visitor::new(&lab, "tim"), Visitor::new(&lab, "eve"));
    let position = async |visitor: &Visitor, query: &str| {
        let (_, list) = visitor.json(query).await;
        (list["operations"].as_array().unwrap().len(), list["next"].as_str().map(str::to_owned), list)
    };
    let loads = lab.store.loads();
    let (shown, next, list) = position(&tim, "?list=unfinished").await;
    assert_eq!((shown, &list["looked_at"], &list["unreadable"]), (0, &serde_json::Value::Null, &0.into()));
    assert!(lab.store.loads() - loads <= 300, "one page costs no more");
    let next = next.unwrap();
    let others = Operator::new(lab.engine()).list(&Listing::new(ListState::Unfinished).limit(200)).await.unwrap();
    for other in &others.operations {
        assert!(!next.contains(&other.key.to_string()[..8]), "{next}");
        assert!(!next.contains(&other.record.due().as_millis().to_string()), "{next}");
    }
    tim.get("?list=unfinished").await.assert(200, "is yours to see");
    // What eve gets means nothing to tim, and what he gets nothing to her.
    let (_, plain, _) = position(&eve, "?list=unfinished").await;
    for (visitor, place) in [(&tim, plain.unwrap()), (&eve, next.clone()), (&tim, next.replace('a', "b"))] {
        visitor.get(&format!("?list=unfinished&after={place}")).await.assert(400, "Start at the first page");
    }
    let (mut next, mut pages, mut seen) = (Some(next), 1, 0);
    while let Some(place) = next {
        let (shown, behind, _) = position(&tim, &format!("?list=unfinished&after={place}")).await;
        (next, pages, seen) = (behind, pages + 1, seen + shown);
    }
    assert_eq!((pages, seen), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn what_of_others_cannot_be_read_does_not_exist() {
    let trouble = Trouble::new().await;
    let query = format!("?operation={}", trouble.unknown);
    for (user, status, words) in [("tim", 404, "There is no such operation"), ("eve", 500, "The record can't be read")]
    {
        trouble.lab.store.fail_once(Call::Load, Fault::Before(StoreErrorKind::NewerFormat));
        trouble.visitor(user).get(&query).await.assert(status, words);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_narrowed_by_label_and_finding() {
    let lab = Lab::new();
    let layer = lab.layer().labels(|parts| Labels::new().with("path", parts.uri.path()));
    let app = serve(&layer, |_| async { Ok(reply(201, "paid")) });
    for path in ["/a", "/b"] {
        send(&app, request("POST", path, path, "")).await;
    }
    let eve = Visitor::new(&lab, "eve");
    let (_, list) = eve.json("?list=complete&label=path%3D/b").await;
    assert_eq!(list["operations"].as_array().unwrap().len(), 1);
    assert_eq!(list["operations"][0]["labels"]["path"], Label::new("path", "/b").value());
    eve.get("?list=complete&label=path%3D/b").await.assert(200, "value=\"path=/b\"");
    eve.get("?list=complete&label=path%3D/c").await.assert(200, "No operation is in this list");
    eve.get("?list=complete&label=path").await.assert(400, "Give a label as its name, = and its value");
    let trouble = Trouble::new().await;
    let eve = trouble.visitor("eve");
    let (_, list) = eve.json("?list=unfinished&finding=parked").await;
    let hashes: Vec<_> = list["operations"].as_array().unwrap().iter().map(|shown| &shown["key_hash"]).collect();
    assert_eq!(hashes.len(), 1, "{list}");
    eve.get("?list=unfinished&finding=parked").await.assert(200, "value=\"parked\" selected");
    eve.get("?list=unfinished&finding=lost").await.assert(400, "Choose one of the findings");
}

/// What was not looked at may be stuck.
#[tokio::test(start_paused = true)]
async fn the_verdict_covers_what_was_looked_at_alone() {
    let lab = Lab::new();
    claimed(&lab, 1100, 3600).await;
    let eve = Visitor::new(&lab, "eve");
    eve.get("").await.assert(200, "None that was looked at needs attention");
    let lab = Lab::new();
    claimed(&lab, 900, 3600).await;
    Visitor::new(&lab, "eve").get("").await.assert(200, "Nothing needs attention");
}
