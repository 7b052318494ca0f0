//! What a service does that has no library: claim the key, answer, keep the answer.
//!
//! - *The same calls*: what the store writes, with the same comparisons, so that a claim
//!   has a lease and a fence, and can be found when it lapses.
//! - *Unfenced*: what many services have. A claim whose process died stays for ever, and
//!   a process that was paused overwrites what others did.
//!
//! Neither has a fingerprint.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::Value;

use super::{RUNS, SLOW, receipt};

/// The two writes, and the read of a retry.
pub(super) trait Books: Clone + Send + Sync + 'static {
    /// What has to be shown to write the answer.
    type Claim: Send;

    /// The claim, or the answer that is there.
    fn claim(&self, key: &str) -> impl Future<Output = Result<Self::Claim, Vec<u8>>> + Send;
    fn keep(&self, key: &str, claim: Self::Claim, answer: &[u8]) -> impl Future<Output = ()> + Send;
}

/// So long is the head of a record of ours.
pub(super) const HEAD: &[u8] = &[b'.'; 100];

pub(super) const SPAN_MILLIS: i64 = 30_000;
pub(super) const RETENTION_MILLIS: i64 = 86_400_000;

/// A version that no other write of this process has.
pub(super) fn version() -> i64 {
    static FRESH: AtomicU64 = AtomicU64::new(1_000_000);
    FRESH.fetch_add(1, Ordering::Relaxed).cast_signed()
}

pub(super) fn app<B: Books>(books: B, scenario: &str) -> Router {
    let is_slow = scenario == "duplicates";
    let handler = move |State(books): State<B>, headers: HeaderMap, Json(body): Json<Value>| async move {
        charge(&books, &headers, &body, is_slow).await
    };
    Router::new().route("/charge", post(handler)).with_state(books)
}

async fn charge<B: Books>(books: &B, headers: &HeaderMap, body: &Value, is_slow: bool) -> Response {
    let key = headers["idempotency-key"].to_str().expect("an ASCII key");
    let answer = match books.claim(key).await {
        Ok(claim) => {
            RUNS.fetch_add(1, Ordering::Relaxed);
            if is_slow {
                tokio::time::sleep(SLOW).await;
            }
            let answer = serde_json::to_vec(&receipt(body)).expect("plain values");
            books.keep(key, claim, &answer).await;
            answer
        }
        Err(answer) => answer,
    };
    ([(CONTENT_TYPE, "application/json")], Bytes::from(answer)).into_response()
}
