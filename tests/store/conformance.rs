//! The store contract, on the stores of this crate.

use std::sync::Arc;

use tower_idempotency::clock::ManualClock;
use tower_idempotency::conformance_tests;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::store::conformance::{
    Cannot, FaultyStore, Harness, Manual, Reference, basics, bounds, unreadable,
};

const NO_BYTES: Cannot = Cannot::because("it keeps records, and no bytes");
const NO_BOUND: Cannot = Cannot::because("it has no bound of its own");

conformance_tests!(memory, || async {
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    Manual::new(store, clock.clone())
        .bounded_by(move |n| MemoryStore::with_clock(clock.clone()).max_entries(n))
        .never_damaged(NO_BYTES)
});

// The model itself, or it would model nothing.
conformance_tests!(reference, || async {
    let clock = ManualClock::new();
    Manual::new(Reference::new(clock.clone()), clock).never_damaged(NO_BYTES).never_full(NO_BOUND)
});

// Without faults it has to be the store inside.
conformance_tests!(faultless, || async {
    let clock = ManualClock::new();
    let store = Arc::new(FaultyStore::new(MemoryStore::with_clock(clock.clone())));
    let harness = Manual::new(Arc::clone(&store), clock).damaged_by(move |key, how| store.damage(key, how));
    harness.never_full(NO_BOUND)
});

fn untold() -> Manual {
    let clock = ManualClock::new();
    Manual::new(Reference::new(clock.clone()), clock)
}

/// What a case says that fails.
async fn said(case: impl Future<Output = ()> + Send + 'static) -> String {
    let panic = tokio::spawn(case).await.unwrap_err().into_panic();
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap()
}

/// A case that tests nothing says so and is counted.
#[tokio::test]
async fn what_a_store_can_not_do_is_counted() {
    let harness = || untold().never_damaged(NO_BYTES).never_full(NO_BOUND);
    let before = Cannot::count();
    bounds::a_full_store_hands_out_what_it_has(&harness()).await;
    unreadable::scans_of_nothing_else_end(&harness()).await;
    unreadable::records_that_can_not_be_read_are_passed_and_counted(&harness()).await;
    basics::stored_survives_reopening(&harness()).await;
    // Those of other tests of this program count, too.
    assert!(Cannot::count() >= before + 4);
    assert_eq!(harness().bounded(1).unwrap_err().reason(), "it has no bound of its own");
}

/// A harness that says nothing, or what is not true, passes no case.
#[tokio::test]
async fn what_a_harness_does_not_say_is_no_pass() {
    let full = said(async { bounds::a_full_store_hands_out_what_it_has(&untold()).await }).await;
    assert!(full.contains("`never_full`"), "{full}");
    let damage = said(async { unreadable::scans_of_nothing_else_end(&untold()).await }).await;
    assert!(damage.contains("`never_damaged`"), "{damage}");
    let is_not = said(async {
        let says_so = untold().damaged_by(|_, _| {});
        unreadable::scans_of_nothing_else_end(&says_so).await;
    });
    assert!(is_not.await.contains("it is damaged"), "its records can be read");
}
