//! Memory per record: of answers that are tiny or have many headers, and of
//! what is unfinished. Ordinary answers: see `cost`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use servers::Redis;
use tower_idempotency::core::{Change, Claim, Mode, Reached, StoredRequest, StoredResponse};
use tower_idempotency::spi::Ledger;

use super::support::*;

const RECORDS: usize = 200;

fn usage(redis: &Redis, name: &str) -> usize {
    redis.cli(&["MEMORY", "USAGE", name, "SAMPLES", "0"]).parse().unwrap()
}

/// Of `payload` bytes from outside, a key of 32, and `ours`, half as much again.
fn bound(payload: usize, ours: usize) -> usize {
    (payload + 32 + ours) * 3 / 2
}

/// The largest of the records that there are.
fn largest(redis: &Redis) -> usize {
    let names = redis.cli(&["--scan", "--pattern", "{t:*}:????????????????*"]);
    let sizes: Vec<_> = names.lines().map(|name| usage(redis, name)).collect();
    assert_eq!(sizes.len(), RECORDS, "the records");
    sizes.into_iter().max().unwrap()
}

/// What is kept of a response, as the protocol writes it.
fn size(response: &StoredResponse) -> usize {
    let headers = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    "HTTP/1.1 201\r\n".len() + headers.sum::<usize>() + response.body().map_or(0, Bytes::len)
}

async fn complete_with(response: StoredResponse) {
    let redis = Redis::start();
    let ledger = Ledger::new(open(&redis));
    let (size, response) = (size(&response), Arc::new(response));
    for n in 0..RECORDS {
        let key = key(&n.to_string());
        let fence = claim_key(&ledger, &key).await.unwrap().unwrap();
        let complete =
            Change::Complete { response: Arc::clone(&response), retention: MINUTE * 60, reached: Reached::All };
        change(&ledger, &key, fence, complete).await;
    }
    let (largest, bound) = (largest(&redis), bound(size, 200));
    println!("a complete record of a {size}-byte response: {largest} bytes, {bound} allowed");
    assert!(largest <= bound, "{largest} bytes, {bound} allowed");
}

#[tokio::test]
async fn of_a_tiny_answer() {
    complete_with(StoredResponse::capture(StatusCode::NO_CONTENT, &HeaderMap::new(), None)).await;
    complete_with(StoredResponse::capture(StatusCode::OK, &HeaderMap::new(), Some(Bytes::from_static(b"1")))).await;
}

#[tokio::test]
async fn of_an_answer_with_many_headers() {
    let mut headers = HeaderMap::new();
    for n in 0..40 {
        let name: HeaderName = format!("x-header-of-ours-{n}").parse().unwrap();
        headers.insert(name, HeaderValue::from_str(&format!("{n}; and what it is good for")).unwrap());
    }
    complete_with(StoredResponse::capture(StatusCode::OK, &headers, Some(Bytes::from_static(b"{}")))).await;
}

/// With its share of the index, which lists what is unfinished.
#[tokio::test]
async fn of_an_unfinished_record() {
    let body = Bytes::from(vec![b'x'; 300]);
    let request = StoredRequest::capture(&Method::POST, &Uri::from_static("/payments"), &HeaderMap::new(), body);
    for (request, size) in [(None, 0), (Some(Arc::new(request)), "POST /payments HTTP/1.1\r\n".len() + 300)] {
        let redis = Redis::start();
        let ledger = Ledger::new(open(&redis));
        let mode = if request.is_some() { Mode::Resumable } else { Mode::AtMostOnce };
        for n in 0..RECORDS {
            let claim = Claim { mode, request: request.clone(), ..claim() };
            ledger.apply(&key(&n.to_string()), None, claim).await.unwrap();
        }
        let indexes = redis.cli(&["--scan", "--pattern", "*:due"]);
        let index: usize = indexes.lines().map(|name| usage(&redis, name)).sum();
        let (largest, bound) = (largest(&redis) + index / RECORDS, bound(size, 300));
        println!(
            "an unfinished record of a {size}-byte request: {largest} bytes, {bound} allowed; {} of it the index",
            index / RECORDS
        );
        assert!(largest <= bound, "{largest} bytes, {bound} allowed");
    }
}
