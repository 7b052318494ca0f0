//! The contract of a [`Store`], as tests. **Not a stable part of the public
//! API:** cases are added in any release, and a store that passes one may fail
//! the next.
//!
//! ```
//! use tower_idempotency::clock::ManualClock;
//! use tower_idempotency::store::{MemoryStore, conformance::{Cannot, Manual}};
//!
//! tower_idempotency::conformance_tests!(memory, || async {
//!     let clock = ManualClock::new();
//!     Manual::new(MemoryStore::with_clock(clock.clone()), clock.clone())
//!         .bounded_by(move |n| MemoryStore::with_clock(clock.clone()).max_entries(n))
//!         .never_damaged(Cannot::because("it keeps records, and no bytes"))
//! });
//! # fn main() {}
//! ```
//!
//! [`conformance_tests!`](crate::conformance_tests) makes one `#[tokio::test]`
//! of every case, each with a [`Harness`] of its own. The crate that uses it
//! needs `tokio` with `macros` and `rt-multi-thread` among its
//! dev-dependencies.
//!
//! # The contract in words
//!
//! - **Compare and put.** A swap takes exactly if the version that is there is
//!   the expected one, nothing for `None`; versions are compared in all their
//!   64 bits. A conflict changes nothing and hands back what is there. The same
//!   goes for remove. Of many at once, one takes ([`races`], [`linear`]).
//! - **Every field comes back** as it was written: holds, progress, modes,
//!   header bytes, bodies, step names and values ([`fields`], [`steps`]).
//! - **The store's clock** stamps what is stored and goes with every reply; the
//!   time of creation stays over later writes ([`times`]).
//! - **Unfinished records are never dropped**, however old. Complete ones are
//!   kept until they expire ([`times`]).
//! - **A full store** still hands out what it has, refuses newcomers before it
//!   drops anything unfinished, and lets the work that it admitted go on
//!   ([`bounds`]; a harness [makes one](Harness::bounded), or says [why not](Cannot)).
//! - **Nothing is left over**: what was removed, replaced or dropped at
//!   completion does not come back with a later record ([`steps`]).
//! - **Scans** find everything that matches, in the order in which it falls
//!   due, a page at a time ([`scans`]). What can't be read is passed and counted, and
//!   hides nothing ([`unreadable`]; a harness [damages](Harness::damage), or says
//!   [why not](Cannot)).
//! - **Labels**: a store that [indexes](Store::indexes_labels) them finds what has a label, and
//!   not what has gone or moved on ([`labels`]).
//! - **A future that is dropped** leaves the old record or the new one, and a
//!   store that works ([`races`]).
//! - **Any history** of commands has the outcome it has on the [`Reference`]
//!   ([`histories`]).
//!
//! [`FaultyStore`] makes any store fail in every way a store can, for tests of
//! whatever stands on one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "these are tests: what is not as promised panics"
)]
// `Store` is named by the docs of this module.
#[cfg(doc)]
use super::Store;

pub mod basics;
pub mod bounds;
mod faulty;
pub mod fields;
mod gate;
mod harness;
pub mod histories;
mod holder;
pub mod labels;
pub mod linear;
mod macros;
pub mod races;
mod reference;
mod sample;
pub mod scans;
pub mod steps;
pub mod times;
pub mod unreadable;

pub use self::faulty::{Fault, Faults, FaultyStore, Op};
pub use self::gate::Gate;
pub use self::harness::{Cannot, Damage, Harness, Manual};
// What the cases write with: moves, which are the crate's own.
#[doc(hidden)]
pub use self::holder::{Holder, assert_same};
pub use self::reference::Reference;
