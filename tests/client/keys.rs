//! One key for all tries of a call, and the same bytes.

use std::collections::HashSet;

use http::{HeaderName, Method};
use tower_idempotency::client::{ClientErrorKind, RetryLayer, Sent};
use tower_idempotency::core::{IdempotencyKey, InvalidKey};

use crate::support::bodies::{data, script};
use crate::{Does, Remote, Upload, call, layer, post, request, responds};

fn failing() -> Remote {
    Remote::that([Does::Fails, responds(503, &[], ""), Does::Fails])
}

/// The one key that was sent in each of four tries.
async fn key_of(layer: &RetryLayer, request: http::Request<Upload>) -> String {
    let remote = failing();
    let got = call(layer, &remote, request).await.unwrap();
    let seen = remote.seen();
    assert_eq!(seen.len(), 4);
    let keys: HashSet<_> = seen.iter().map(|seen| seen.key().unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    let key = keys.into_iter().next().unwrap();
    let sent = got.extensions.get::<Sent>().unwrap();
    assert_eq!(*sent.key().unwrap(), IdempotencyKey::parse(key.as_bytes()).unwrap());
    key
}

#[tokio::test(start_paused = true)]
async fn each_call_has_a_key_of_its_own_and_each_try_of_it_the_same() {
    let mut keys = HashSet::new();
    for method in [Method::POST, Method::PATCH, Method::from_bytes(b"MERGE").unwrap()] {
        for _ in 0..3 {
            keys.insert(key_of(&layer(), request(method.clone())).await);
        }
    }
    assert_eq!(keys.len(), 9);
    assert!(keys.iter().all(|key| key.len() == 36), "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_given_is_sent_as_it_is() {
    for given in ["order-17", "\"order-17\"", "\"a b\";x=1"] {
        let mut request = post();
        request.headers_mut().insert("idempotency-key", given.parse().unwrap());
        // The extension has no say where there is a header.
        request.extensions_mut().insert(IdempotencyKey::derived("other", "17"));
        assert_eq!(key_of(&layer().quoted_keys(), request).await, given);
    }
}

/// As a client that was restarted derives it.
#[tokio::test(start_paused = true)]
async fn a_derived_key_is_the_same_in_the_next_life() {
    let of = |kind: &'static str, id: &'static str| async move {
        let mut request = post();
        request.extensions_mut().insert(IdempotencyKey::derived(kind, id));
        key_of(&layer(), request).await
    };
    let key = of("capture", "order-17").await;
    assert_eq!(key, "88cf012399d311120900ef0c8a96f9c5e9c34487");
    assert_eq!(key, of("capture", "order-17").await);
    for (kind, id) in [("capture", "order-18"), ("refund", "order-17"), ("captureo", "rder-17")] {
        assert_ne!(key, of(kind, id).await, "{kind} {id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_method_that_needs_no_key_carries_one_that_is_given() {
    let mut request = request(Method::PUT);
    request.extensions_mut().insert(IdempotencyKey::derived("put", "17"));
    assert_eq!(key_of(&layer(), request).await.len(), 40);
}

#[tokio::test(start_paused = true)]
async fn keys_are_written_as_the_server_wants_them() {
    let quoted = key_of(&layer().quoted_keys(), post()).await;
    assert!(quoted.starts_with('"') && quoted.ends_with('"') && quoted.len() == 38, "{quoted}");

    let name = HeaderName::from_static("paypal-request-id");
    let remote = failing();
    call(&layer().key_header(name.clone()), &remote, post()).await.unwrap();
    let seen = remote.seen();
    assert!(seen.iter().all(|seen| seen.key().is_none()));
    assert!(seen.iter().all(|other| other.head.headers[&name] == seen[0].head.headers[&name]));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_key_is_refused_before_anything_is_sent() {
    let remote = Remote::default();
    for (lines, why) in [
        (vec![""], InvalidKey::Empty),
        (vec!["a,b"], InvalidKey::Syntax),
        (vec!["a", "a"], InvalidKey::Twice),
        (vec!["\"a"], InvalidKey::Syntax),
    ] {
        let mut request = post();
        for line in &lines {
            request.headers_mut().append("idempotency-key", line.parse().unwrap());
        }
        let error = call(&layer(), &remote, request).await.err().unwrap();
        assert!(matches!(error.kind(), ClientErrorKind::InvalidKey(other) if *other == why), "{lines:?}: {error}");
        assert_eq!(error.tries(), 0);
    }
    assert!(remote.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn every_try_has_the_same_bytes() {
    let remote = failing();
    let body = Upload(script([data(b"19"), data(b""), data(b"9"), data(b"9")]));
    let request = post().map(|_| body);
    call(&layer(), &remote, request).await.unwrap();
    let seen = remote.seen();
    assert_eq!(seen.len(), 4);
    for try_ in &seen {
        assert_eq!((&*try_.body, &try_.head.headers), (b"1999".as_slice(), &seen[0].head.headers));
        assert_eq!(try_.head.headers["authorization"], "Bearer secret");
        assert_eq!((&try_.head.method, &try_.head.uri), (&seen[0].head.method, &seen[0].head.uri));
    }
}
