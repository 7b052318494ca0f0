//! The store contract, on the stores of this crate.

use std::sync::Arc;

use tower_idempotency::clock::ManualClock;
use tower_idempotency::conformance_tests;
use tower_idempotency::store::MemoryStore;
use tower_idempotency::store::conformance::{FaultyStore, Manual, Reference};

conformance_tests!(memory, || async {
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    Manual::new(store, clock.clone()).bounded_by(move |n| MemoryStore::with_clock(clock.clone()).max_entries(n))
});

// The model itself, or it would model nothing.
conformance_tests!(reference, || async {
    let clock = ManualClock::new();
    Manual::new(Reference::new(clock.clone()), clock)
});

// Without faults it has to be the store inside.
conformance_tests!(faultless, || async {
    let clock = ManualClock::new();
    let store = Arc::new(FaultyStore::new(MemoryStore::with_clock(clock.clone())));
    Manual::new(Arc::clone(&store), clock).damaged_by(move |key, how| store.damage(key, how))
});
