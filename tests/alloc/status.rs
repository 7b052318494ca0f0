//! A status resource passes an answer on, and does not take it apart.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use tower::ServiceExt;
use tower_idempotency::core::{Change, Claim, Fence, Fenced, Fingerprint, Key, Labels, Mode, Reached, StoredResponse};
use tower_idempotency::core::{Command, IdempotencyKey, Next, Stamp, Version};
use tower_idempotency::store::{MemoryStore, Store};
use tower_idempotency::{Background, IdempotencyLayer, Scope, StatusService};

use crate::measured;

/// A store that has this answer under the key `k`.
async fn store_with(kind: &'static str, body: Vec<u8>) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static(kind));
    let response = Arc::new(StoredResponse::capture(StatusCode::OK, &headers, Some(Bytes::from(body))));
    let lease = std::time::Duration::from_secs(30);
    let fingerprint = Fingerprint::of([b"x".as_slice()]);
    let claim = Claim { fingerprint, mode: Mode::Resumable, lease, request: None, labels: Labels::new() };
    let key = Key::new("", &IdempotencyKey::parse(b"k").unwrap());
    let now = store.load(&key).await.unwrap().now;
    let Next::Put(claimed) = claim.apply(None, Stamp::new(now, Version::new(1))).next else { panic!() };
    let retention = std::time::Duration::from_secs(3600);
    let complete = Change::Complete { response, retention, reached: Reached::All };
    let fenced = Fenced { fence: Fence::of(Version::new(1)), changes: vec![complete] };
    let Next::Put(done) = fenced.apply(Some(&claimed), Stamp::new(now, Version::new(2))).next else { panic!() };
    store.swap(&key, None, &done).await.unwrap();
    store
}

/// What a status resource shows of an answer, and the most it takes for that.
fn shown(kind: &'static str, body: &[u8]) -> (String, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = runtime.block_on(store_with(kind, body.to_vec()));
    let (text, info) = measured(async || {
        let layer = IdempotencyLayer::new(store, Scope::shared()).resumable().background(Background::at("/operations"));
        let request = Request::get("/operations/k").body(Empty::<Bytes>::new()).unwrap();
        let response = StatusService::new(&layer).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let parsed: bool = body.starts_with(b"{") && body.ends_with(b"}}");
        assert!(parsed);
        body
    });
    (String::from_utf8(text.to_vec()).unwrap(), usize::try_from(info.bytes_max).unwrap())
}

#[track_caller]
fn assert_cheap(kind: &'static str, body: &[u8]) -> String {
    let (text, peak) = shown(kind, body);
    println!("{kind}: {} KiB for a body of {} KiB", peak >> 10, body.len() >> 10);
    assert!(peak <= 2 * body.len() + (256 << 10), "{kind}: {peak} bytes for a body of {}", body.len());
    serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap();
    text
}

#[test]
fn a_status_takes_about_as_much_memory_as_it_shows() {
    let items: Vec<String> = (0..100_000).map(|n| format!("{{\"id\":{n},\"a\":[1.50]}}")).collect();
    let json = format!("[{}]", items.join(","));
    let text = assert_cheap("application/json", json.as_bytes());
    assert!(text.contains(&format!("\"json\":{json}")), "not as it was");
    assert!(assert_cheap("text/plain", "line\n".repeat(400_000).as_bytes()).contains("\"text\":\"line\\nline"));
    assert!(assert_cheap("application/octet-stream", &[0xff; 2_000_000]).contains("\"base64\":\"////"));
}

#[test]
fn json_is_shown_byte_for_byte_and_what_is_none_as_text() {
    let amount = r#"{"amount":12345678901234567890.10,"b":1,"b":2}"#;
    let (text, _) = shown("application/json", amount.as_bytes());
    assert!(text.contains(&format!("\"json\":{amount}")), "{text}");
    let deep = "[".repeat(200) + &"]".repeat(200);
    for broken in ["{\"a\":1", "{} {}", "\u{feff}{}", "\"\\ud800\"", "", "1e999", &deep] {
        let (text, _) = shown("application/json", broken.as_bytes());
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(shown["result"]["text"], broken);
    }
}
