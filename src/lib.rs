//! Idempotency-Key middleware for tower, axum and hyper.
//!
//! A client sends `Idempotency-Key` with a request that must not happen twice.
//! The layer records the operation as *pending*, *paid* or *complete* and stores
//! its response. A retry gets the stored response; where the first attempt died
//! half-way, the retry **resumes from the last recovery point** instead of
//! charging again.
//!
//! ```
//! use axum::{Json, Router, http::StatusCode, routing::post};
//! use tower_idempotency::{IdempotencyLayer, Operation, Scope, StepError, store::MemoryStore};
//! # mod gateway {
//! #     pub async fn charge(_: tower_idempotency::StepKey, _: u64) -> Result<String, std::io::Error> { Ok("ch_1".into()) }
//! # }
//!
//! async fn pay(op: Operation, Json(amount): Json<u64>) -> Result<String, (StatusCode, String)> {
//!     // Remembered: a later attempt gets the same order number.
//!     let order = op.step("order", |_| async { Ok::<_, std::io::Error>(17) }).await.map_err(later)?;
//!     // Intent first, then the charge, with the same downstream key on every attempt.
//!     let charge = op.pay("charge", |key| gateway::charge(key, amount)).await.map_err(later)?;
//!     Ok(format!("order {order}, charge {charge}"))
//! }
//!
//! fn later(error: StepError<std::io::Error>) -> (StatusCode, String) {
//!     (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layer = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).resumable().required();
//! let app: Router = Router::new().route("/payments", post(pay)).layer(layer);
//!
//! # use axum::{body::Body, http::Request}; use tower::ServiceExt;
//! # let request = || Request::post("/payments").header("idempotency-key", "K1")
//! #     .header("content-type", "application/json").body(Body::from("1999")).unwrap();
//! let first = app.clone().oneshot(request()).await?;
//! let again = app.clone().oneshot(request()).await?;
//! assert_eq!(first.status(), StatusCode::OK);
//! assert_eq!(again.headers()["idempotent-replayed"], "true");
//! # Ok(()) }
//! ```
//!
//! # Overview
//!
//! - [`IdempotencyLayer`] wraps an axum `Router` or any tower service whose
//!   body is bytes. Its constructor takes a [store], and a [`Scope`] that says
//!   whose key it is.
//! - [`Operation`], in the request's extensions and an axum extractor, runs
//!   [steps](Operation::step), [payments](Operation::pay) and work that must
//!   happen [once](Operation::once).
//! - An [`Engine`] is a store together with its settings: leases, retention, an
//!   observer. Layers, runners, completers and operators over that store share it.
//!   Where a constructor takes an engine, a store will do.
//! - [`Runner`] does the same without HTTP: it runs a closure under a key.
//! - [`Background`] responds 202 and runs the request later; a
//!   [`StatusService`] tells the client how far it is.
//! - [`Completer`] finishes what no client comes back for; [`Sweeper`] removes
//!   what has expired; [`Watcher`] reports what needs attention.
//! - An [`Operator`] shows an operation to a person, and carries out what that
//!   person decides.
//! - A [`Callback`] is called, at least once, when an operation completes or is
//!   parked.
//! - [`Event`]s say what happens. With an [`Outcome`] a handler marks its response
//!   as final, retryable, or nothing happened. A [`Refusal`] is the reason of a
//!   response that the layer makes itself.
//! - The [`guide`] has the long documents: what is promised, and what is not.
//!
//! # What is promised
//!
//! *At-most-once* mode (the default): for one key within its retention the layer
//! starts your handler at most once. If it cannot tell whether the handler
//! finished, retries get `outcome-unknown`, and it does not start the handler again
//! until you or your reconciler decide. Every response is stored, 500s included,
//! except those that mean "did not start" (307, 308, 401, 403, 407, 421, 425, 429;
//! to a PATCH 301 and 302 too) or that the handler marks so ([`Outcome`]): these free
//! the key, and a retry runs, unless a step was begun or done.
//!
//! *Resumable* ([`IdempotencyLayer::resumable`]): a step may run more than
//! once, always with the same downstream key, and never again after its result
//! is stored. With a receiver that honours that key, the effect happens once. A 4xx
//! before any step frees the key ([`Outcome`]), so that a corrected request runs.
//! [`Outcomes`] changes these rules, in both modes.
//!
//! *Observed once*: every final response to one key is the same response.
//!
//! # Crate features
//!
//! None is on by default. They gate dependencies, and one changes behaviour:
//! with `axum`, fingerprints see the whole path of a nested route, and
//! [per-route](Scope::per_route) keys use the route that axum matched.
//!
//! - `sqlite`: the embedded durable store, for the processes of one machine, on the
//!   system's SQLite,
#![cfg_attr(feature = "sqlite", doc = "  [`SqliteStore`](store::SqliteStore).")]
#![cfg_attr(not(feature = "sqlite"), doc = "  `SqliteStore`.")]
//! - `sqlite-bundled`: the same, and the build compiles SQLite. Needs a C compiler.
//! - `redis`: Redis and Valkey, for several machines: one server, Sentinel, or
//!   a cluster,
#![cfg_attr(feature = "redis", doc = "  [`RedisStore`](store::RedisStore).")]
#![cfg_attr(not(feature = "redis"), doc = "  `RedisStore`.")]
//! - `redis-tls`: the same over TLS, with rustls.
//! - `postgres`: `PostgresStore`, for any number of processes, and
//!   transactions that carry recovery points (`Operation::transaction`). `sqlite` has
//!   those transactions too, on a rusqlite connection.
//! - `postgres-tls`: the same over TLS, with rustls: `sslmode=verify-full` in a URL.
//! - `sqlx-postgres`: a `PostgresStore`, and such transactions, on your pool of sqlx 0.9,
//!   which needs Rust 1.94.
//! - `sqlx-postgres-08`: the same on a pool of sqlx 0.8.
//! - `sqlx-sqlite`: such transactions on SQLite, on a pool of sqlx 0.9, which needs
//!   Rust 1.94, and a C compiler. Implies `sqlite`.
//! - `axum`: [`Operation`] as an extractor, and fingerprints that see the path
//!   before nesting stripped it. Enable it if you nest routers.
//! - `prost`: `GrpcMethods::unary_in`, which reads the names of unary methods from a file
//!   descriptor set.
//! - `tracing`: a span for each attempt and each step, events in them, under the
//!   target `tower_idempotency`, and the caller's span around detached work.
//! - `metrics`: counters, gauges and histograms of the `metrics` facade; the
//!   [guide](guide::operations) has their names.
//! - `inspector`: the page on which operators see what is stuck, and decide (`Inspector`).
//! - `schedule`: work that runs once a period, such as a day, over any number of processes:
#![cfg_attr(feature = "schedule", doc = "  [`schedule`].")]
#![cfg_attr(not(feature = "schedule"), doc = "  `schedule`.")]
//! - `client`: retries on the side of the client, over hyper-util, reqwest and other tower
//!   services, and an outbox for calls that must be made:
#![cfg_attr(feature = "client", doc = "  [`client`], [`outbox`].")]
#![cfg_attr(not(feature = "client"), doc = "  `client`, `outbox`.")]
//! - `testing`: helps you test your handlers, with processes that die where the test says:
#![cfg_attr(feature = "testing", doc = "  [`testing`].")]
#![cfg_attr(not(feature = "testing"), doc = "  `testing`.")]
//! - `encryption`: encrypts records, under keys that you rotate; the
//!   [guide](guide::stored) lists what is encrypted, and what stays in clear.
//! - `near-cache`: replays from this process's memory, where the store is on another machine:
#![cfg_attr(feature = "near-cache", doc = "  [`Engine::near_cache`].")]
#![cfg_attr(not(feature = "near-cache"), doc = "  `Engine::near_cache`.")]
//! - `conformance`: the store contract as tests, for authors of stores. Not a
//!   stable part of the API.
//!
//! # Caveats
//!
//! - Put the layer *inside* authentication, rate limits, time-outs and compression, and
//!   *outside* what belongs to the response: [the order of layers](guide::order) says
//!   what you lose otherwise. A time-out inside it drops the handler and responds in its
//!   place, and the layer stores that response like any other.
//! - Of two layers around one route the outer one guards, with its settings, and
//!   the inner one lets the request pass. The same holds where a guarded handler calls
//!   a guarded service with the request that it got: a request of the same scope and
//!   key is part of the running operation. A request with another key, or with the same
//!   key in another scope, is guarded as if it came from outside, and takes a second
//!   place under [`max_running`](IdempotencyLayer::max_running).
//! - The client's key is not stored, so a completer's attempt has none to show to a
//!   layer in another scope. That layer responds 500 (`interrupted`) and runs nothing:
//!   the client's own retry finishes such an operation, or an operator does.
//! - The promises do not cover what a handler does outside its steps, or in tasks
//!   that it spawns.
//! - Response extensions are not replayed.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Here and not in Cargo.toml: tests and examples may.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

#[cfg(feature = "client")]
pub mod client;
pub mod core;
mod engine;
pub mod guide;
mod http;
mod operator;
#[cfg(feature = "client")]
pub mod outbox;
mod runner;
#[cfg(feature = "schedule")]
pub mod schedule;
pub mod store;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod util;
mod workers;

#[doc(inline)]
pub use self::core::{Key, Mode, Status, StepKey};
pub use self::core::{Label, Labels};
pub use self::engine::Engine;
#[cfg(feature = "near-cache")]
pub use self::engine::near::NearCache;
pub use self::engine::operation::{NotUndone, Operation, Reconciled, StepError, StepFuture};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use self::engine::operation::{TransactionFuture, TransactionStep};
pub use self::engine::outcome::{Outcome, Retention};
pub use self::engine::outcomes::{HandlerResponse, Outcomes};
pub use self::http::acceptance::AcceptanceMark;
pub use self::http::background::Background;
pub use self::http::body::{RequestBody, ResponseBody};
pub use self::http::callback::{Callback, Ended};
#[cfg(feature = "axum")]
pub use self::http::extract::MissingOperation;
pub use self::http::fingerprint::pointer::InvalidPointer;
pub use self::http::fingerprint::rules::FingerprintRules;
pub use self::http::first_request::FirstRequest;
pub use self::http::grpc::{GrpcMethods, InvalidGrpcMethods};
pub use self::http::key_member::{InvalidKeyMember, KeyMember};
pub use self::http::key_rules::KeyRules;
pub use self::http::layer::IdempotencyLayer;
pub use self::http::layer::webhooks::Webhook;
pub use self::http::redaction::{RequestToStore, ResponseToStore};
pub use self::http::replay_hook::Replay;
pub use self::http::replay_mark::{ReplayMark, ReservedHeader};
pub use self::http::retry_advice::RetryAdvice;
pub use self::http::scope::Scope;
pub use self::http::service::{Idempotency, ResponseFuture};
pub use self::http::status::StatusService;
pub use self::http::streaming::Streaming;
pub use self::http::words::{HeaderFilter, InProgressStatus, KeyReusedStatus, Problem};
pub use self::operator::Operator;
pub use self::operator::counts::{Count, Counts};
pub use self::operator::error::OperatorError;
#[cfg(feature = "inspector")]
pub use self::operator::inspector::Inspector;
#[cfg(feature = "inspector")]
pub use self::operator::inspector::authorise::{Authorise, Denied, Who};
#[cfg(feature = "inspector")]
pub use self::operator::inspector::page::InspectorBody;
pub use self::operator::listing::{InvalidListPosition, ListPosition, ListState, Listed, Listing};
#[cfg(feature = "schedule")]
pub use self::operator::schedules::ShownSchedule;
pub use self::operator::shown::{OperationState, Shown};
pub use self::runner::{RunError, Runner};
pub use self::telemetry::drained::{Drained, Unfinished};
pub use self::telemetry::event::{Event, EventKind};
pub use self::telemetry::finding::{Finding, FindingKind};
pub use self::telemetry::refusal::Refusal;
pub use self::telemetry::scheduled::ScheduleTurn;
pub use self::util::backoff::Backoff;
#[doc(inline)]
pub use self::util::clock;
pub use self::workers::completer::{Completer, CompleterError, Doubt, Report, StoredBody};
pub use self::workers::sweeper::{Stopped, Sweeper, Swept};
pub use self::workers::watcher::{Watched, Watcher};

/// Maintenance windows: see [the guide](guide::maintenance).
pub mod maintenance {
    pub use crate::core::{Covers, Maintenance, PlannedWindow, Window, WindowState};
}

/// Keys for what is stored: see [`Engine::encryption`].
#[cfg(feature = "encryption")]
pub mod encryption {
    pub use crate::engine::encryption::{EncryptionKey, KeyError, Keyring};
}

/// The loop that carries commands to a store, and the parser of a client's preferences.
/// Not a stable part of the API: for tests of stores, and of parsers.
#[doc(hidden)]
pub mod spi {
    pub use crate::engine::ledger::Ledger;
    pub use crate::http::prefer::{is_async as prefers_async, wait as prefers_to_wait};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Record, Resolution};
    use crate::store::{MemoryStore, StoreError};

    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send>() {}

    /// What `docs/public-api.txt` can't show: the compiler infers it.
    #[test]
    fn what_users_hold_may_go_to_other_threads() {
        shared::<(Engine, IdempotencyLayer, Idempotency<()>, Scope, KeyRules, Background, Callback)>();
        shared::<(Completer, Sweeper, Watcher, StatusService, Operator, Runner, MemoryStore)>();
        shared::<(Operation, Shown, Ended, Doubt, Event, Finding, Record, Resolution)>();
        shared::<(StepError<String>, RunError<String>, StoreError, OperatorError, CompleterError)>();
        #[cfg(feature = "client")]
        shared::<(client::RetryLayer, client::Retry<()>, client::ClientError, client::Accepted, client::Progress)>();
        sent::<StepFuture<'_, u64, String>>();
        #[cfg(feature = "sqlite")]
        shared::<(store::SqliteStore, store::SqliteOpenError, store::sqlite::SqliteEnlisted)>();
        #[cfg(feature = "redis")]
        shared::<store::RedisStore>();
        #[cfg(feature = "postgres")]
        shared::<(store::PostgresStore, store::postgres::Enlisted<store::postgres::StorePool>)>();
        #[cfg(any(feature = "postgres", feature = "sqlite"))]
        sent::<TransactionStep<'_, u64, String>>();
    }
}
