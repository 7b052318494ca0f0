//! What the tests of this program share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use servers::Redis;
use tower_idempotency::core::Fence;
use tower_idempotency::core::{
    Change, Claim, Claimed, Fenced, Fingerprint, IdempotencyKey, Key, Labels, Mode, Reached, StoredResponse,
};
use tower_idempotency::spi::Ledger;
use tower_idempotency::store::{RedisStore, Store, StoreError, StoreErrorKind};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn key(text: &str) -> Key {
    Key::new("tests", &IdempotencyKey::parse(text.as_bytes()).unwrap())
}

pub(crate) fn claim() -> Claim {
    // Longer than any test takes, on whatever machine.
    let lease = MINUTE * 60;
    // As the layer writes it.
    let fingerprint = Fingerprint::of([b"POST".as_slice()]).scheme_2(Some(b"shop.example"), []);
    Claim { fingerprint, mode: Mode::AtMostOnce, lease, request: None, labels: Labels::new() }
}

pub(crate) fn response(len: usize) -> Arc<StoredResponse> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    Arc::new(StoredResponse::capture(StatusCode::CREATED, &headers, Some(Bytes::from(vec![b'x'; len]))))
}

pub(crate) fn complete(len: usize) -> Change {
    Change::Complete { response: response(len), retention: MINUTE * 60, reached: Reached::All }
}

pub(crate) fn open(redis: &Redis) -> Arc<RedisStore> {
    Arc::new(RedisStore::options().prefix("t").connect(&redis.url()).unwrap())
}

/// Claims a key through a ledger: its fence, if it was granted.
pub(crate) async fn claim_key(ledger: &Ledger, key: &Key) -> Result<Option<Fence>, StoreError> {
    let done = ledger.apply(key, None, claim()).await?;
    Ok(match done.output {
        Claimed::Granted(_) => done.record.map(|record| Fence::of(record.version())),
        _ => None,
    })
}

pub(crate) async fn change(ledger: &Ledger, key: &Key, fence: Fence, change: Change) {
    let done = ledger.apply(key, None, Fenced { fence, changes: vec![change] }).await.expect("a store");
    assert!(done.output.is_ok(), "the claim was lost");
}

/// The error that every call answers, and that nothing was changed by asking.
pub(crate) async fn refused(store: &(impl Store + ?Sized)) -> StoreError {
    let error = store.load(&key("refused")).await.expect_err("it is refused");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    error
}

/// Waits for what is done beside a write.
pub(crate) async fn soon(otherwise: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..100 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{otherwise}");
}

/// How often the server ran this command.
pub(crate) fn calls(redis: &Redis, command: &str) -> u64 {
    let stats = redis.info(&format!("cmdstat_{command}"));
    stats.strip_prefix("calls=").and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}
