//! Tests of your own handlers: processes that die where a test says, a clock that the test
//! moves, and assertions on the record. See [the guide](crate::guide::testing).
//!
//! It may know every wing, and none knows it. `bed` has the store that its processes
//! share; `process` is that store as one of them sees it, and dies at a `crash`; `found`
//! is what is on record, with assertions; `replay` runs a handler against a
//! `recording` of what it did before.
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, body::Body, http::Request, routing::post};
//! use tower::ServiceExt;
//! use tower_idempotency::testing::{Crash, TestBed};
//! use tower_idempotency::{IdempotencyLayer, Operation, Scope};
//!
//! async fn pay(op: Operation) -> String {
//!     op.pay("charge", |key| async move { Ok::<_, String>(format!("charged under {key}")) }).await.unwrap()
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let bed = TestBed::new();
//! let app = |process| {
//!     let layer = IdempotencyLayer::new(process, Scope::shared()).resumable();
//!     Router::new().route("/pay", post(pay)).layer(layer)
//! };
//! let request = || Request::post("/pay").header("idempotency-key", "k").body(Body::empty()).unwrap();
//!
//! let (first, second) = (bed.process(), bed.process());
//! first.crash_at(Crash::after_work("charge"));
//! let response = first.run(app(first.clone()).oneshot(request())).await;
//! assert!(response.is_none(), "the process died");
//! bed.find("", "k").await.assert_in_doubt(["charge"]);
//!
//! bed.advance(Duration::from_secs(60));
//! let response = second.run(app(second.clone()).oneshot(request())).await;
//! assert_eq!(response.unwrap().unwrap().status(), 200);
//! bed.find("", "k").await.assert_complete(200).assert_done(["charge"]);
//! # }
//! ```

mod bed;
mod crash;
mod found;
mod process;
mod recording;
mod replay;
mod shared;

pub use self::bed::TestBed;
pub use self::crash::Crash;
pub use self::found::Found;
pub use self::process::Process;
pub use self::recording::Recording;
pub use self::replay::{ReplayError, verify_replay};
