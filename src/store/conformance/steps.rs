//! Steps accumulate, and nothing is left over.

use super::basics::minute;
use super::sample::{bare_claim, begin, claim, complete, key, response, save};
use super::{Harness, Holder};
use crate::core::{Change, Resolution, Status};

async fn held(harness: &dyn Harness) -> Holder {
    let mut holder = Holder::new(harness.store(), key(1));
    holder.claim(claim(minute(harness))).await;
    holder
}

fn clear(step: &str) -> Change {
    Change::Clear { step: step.into() }
}

/// Steps that were written in many swaps all come back, in their order.
pub async fn steps_accumulate_in_order(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    for n in 0..300_u32 {
        // Neither sorted by name nor by value.
        holder.change([save(&format!("step {}", n * 7919 % 300), &n.to_be_bytes())]).await;
    }
    assert_eq!(holder.record().steps().len(), 300);
    holder.check().await;
}

/// A writer that goes on from what it loaded adds to it, and loses nothing.
pub async fn steps_survive_a_reload(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    for n in 0..20_u32 {
        holder.change([save(&n.to_string(), b"value")]).await;
        holder.refresh().await;
    }
    assert_eq!(holder.record().steps().len(), 20);
    assert!(holder.record().request().is_some(), "the request was lost");
}

/// Several steps in one swap are all written.
pub async fn steps_of_one_swap_come_back(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    holder.change((0..40).map(|n| save(&n.to_string(), b"ticket"))).await;
    holder.change((0..40).map(|n| begin(&format!("begun {n}")))).await;
    holder.check().await;
}

/// A cleared step does not come back, and those behind it keep their values.
pub async fn cleared_steps_do_not_come_back(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    holder.change([begin("a"), save("b", b"2"), begin("c"), save("d", b"4")]).await;
    holder.change([clear("a")]).await;
    holder.check().await;
    holder.change([clear("c"), save("e", b"5")]).await;
    holder.check().await;
    holder.change([begin("a"), save("a", b"1")]).await;
    holder.check().await;
}

/// The last step, cleared, leaves nothing behind for the next one.
pub async fn a_cleared_last_step_leaves_nothing(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    holder.change([save("a", b"1"), begin("b")]).await;
    holder.change([clear("b")]).await;
    holder.check().await;
    holder.refresh().await;
    holder.change([save("c", b"3")]).await;
    holder.check().await;
}

/// "It did not happen" clears the step that was begun, and no other, in a
/// record that was loaded.
pub async fn resolved_doubts_do_not_come_back(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    holder.change([begin("a"), save("b", b"2"), begin("c"), Change::Release]).await;
    holder.refresh().await;
    holder.resolve(Resolution::DidNotHappen { step: "a".into() }).await;
    assert_eq!(holder.record().steps().len(), 2);
    holder.check().await;
    holder.resolve(Resolution::DidNotHappen { step: "c".into() }).await;
    assert_eq!(holder.record().steps().len(), 1);
    holder.check().await;
}

/// A completed record has neither its request nor its steps.
pub async fn completion_drops_request_and_steps(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    holder.change([begin("a"), save("a", b"1"), save("b", b"2")]).await;
    holder.change([complete(b"answer", minute(harness))]).await;
    let found = holder.load().await.record.expect("a record");
    assert_eq!((found.status(), found.steps().len()), (Status::Complete, 0));
    assert!(found.request().is_none(), "the request was kept");
    holder.check().await;
}

/// Removed and made again, a record has nothing of the old one.
pub async fn recreated_has_no_leftovers(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    holder.change([save("a", b"1"), begin("b")]).await;
    holder.remove().await;
    holder.claim(bare_claim(minute(harness))).await;
    holder.check().await;
    holder.change([begin("c")]).await;
    holder.check().await;
    holder.change([complete(b"second answer", minute(harness))]).await;
    holder.remove().await;
    holder.claim(claim(minute(harness))).await;
    holder.check().await;
}

/// A record in the place of an expired one has nothing of it.
pub async fn replaced_has_no_leftovers(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    for round in 0..3_u8 {
        holder.change([save("a", &[round]), save("b", b"2")]).await;
        holder.change([complete(&[round], minute(harness) / 2)]).await;
        holder.check().await;
        harness.advance(minute(harness)).await;
        // The store may have forgotten it by now, or not.
        holder.refresh().await;
        holder.claim(bare_claim(minute(harness))).await;
        holder.check().await;
        assert_eq!((holder.record().attempts(), holder.record().steps().len()), (1, 0));
    }
}

/// What is undone, and how far that is, comes back: beside what the steps were, in
/// front of a step that is cleared, and not once the record is complete.
pub async fn a_plan_of_what_is_undone_comes_back(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    let undo = |steps: &[&str]| {
        let steps = steps.iter().map(|step| Box::from(*step)).collect();
        Change::Undo { steps, response: response(409, Some(b"sold out")) }
    };
    holder.change([begin("a"), save("b", b"2"), save("c", b"3")]).await;
    holder.change([undo(&["b", "c"])]).await;
    holder.check().await;
    holder.change([Change::Undone { step: "c".into() }]).await;
    holder.check().await;
    holder.refresh().await;
    holder.change([clear("a")]).await;
    holder.check().await;
    holder.change([Change::Undone { step: "b".into() }]).await;
    holder.check().await;
    holder.change([complete(b"another answer", minute(harness))]).await;
    let found = holder.load().await.record.expect("a record");
    assert_eq!(found.response().map(|response| response.status().as_u16()), Some(409));
    assert!(found.undoing().is_none(), "the plan was kept");
    holder.check().await;
    // Of no step: a plan alone leaves nothing either.
    holder.remove().await;
    holder.claim(claim(minute(harness))).await;
    holder.change([undo(&[])]).await;
    holder.check().await;
    holder.change([complete(b"another answer", minute(harness))]).await;
    holder.check().await;
    holder.remove().await;
    holder.claim(bare_claim(minute(harness))).await;
    holder.check().await;
}

/// A renewal writes no step again and loses none.
pub async fn renewals_keep_everything(harness: &dyn Harness) {
    let mut holder = held(harness).await;
    holder.change([begin("a"), save("a", b"1")]).await;
    for _ in 0..10 {
        harness.advance(harness.tick()).await;
        holder.change([Change::Renew]).await;
        holder.check().await;
    }
}
