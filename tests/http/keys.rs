//! Which header values are keys.

use http::HeaderValue;

use tower_idempotency::store::KeptRecord;

use crate::support::Count;
use crate::support::lab::{Lab, post, reply, send, serve, stored_key, unkeyed, with};

async fn assert_same_key(one: &[u8], other: &[u8]) {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(200, "")) });
    for (value, is_replay) in [(one, false), (other, true)] {
        let mut request = unkeyed("POST");
        request.headers_mut().append("idempotency-key", HeaderValue::from_bytes(value).unwrap());
        let answer = send(&app, request).await;
        assert_eq!((answer.status.as_u16(), answer.is_replay()), (200, is_replay), "{one:?} {other:?}");
    }
}

/// Peer bug 46.
#[tokio::test]
async fn quoted_bare_spaced_and_parameterised_forms_name_one_key() {
    assert_same_key(b"order-17", b"\"order-17\"").await;
    assert_same_key(b"\"order-17\"", b"  \"order-17\"  ").await;
    assert_same_key(b"\"order-17\"", b"\"order-17\";v=1;foo").await;
    assert_same_key(br#""a\"b\\c""#, br#""a\"b\\c""#).await;
    // What a browser makes.
    assert_same_key(b"\"1234567890123456789\"", b"1234567890123456789").await;
}

/// Peer bug 44: a key is opaque, whatever is in it, and each is its own.
#[tokio::test]
async fn every_valid_key_is_its_own_operation() {
    let lab = Lab::new();
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer(), move |_| {
        let number = count.up();
        async move { Ok(reply(200, number.to_string())) }
    });
    let longest = "k".repeat(255);
    let quoted = [
        "Abc",
        "abc",
        "' OR 1=1 --",
        "../../x",
        "a:b",
        "%s%n",
        "*",
        "{user}",
        " ",
        "a b",
        "8e03978e-40d5-43e8-bc93-6894a57f9324",
        &longest,
    ];
    for (index, key) in quoted.iter().enumerate() {
        let key = format!("\"{key}\"");
        send(&app, post(&key)).await.assert_first(200, &(index + 1).to_string());
        send(&app, post(&key)).await.assert_replay(200, &(index + 1).to_string());
    }
    assert_eq!(runs.get(), quoted.len());
}

/// Peer bug 45: a key that is there and wrong never means "no key".
#[tokio::test]
async fn an_invalid_key_is_refused_and_never_runs() {
    let lab = Lab::new();
    let runs = Count::default();
    let count = runs.clone();
    // Even where the key is optional.
    let app = serve(&lab.layer(), move |_| {
        count.up();
        async { Ok(reply(200, "")) }
    });
    let too_long = "k".repeat(256);
    let too_long_quoted = format!("\"{too_long}\"");
    let huge = "k".repeat(400 << 10);
    let values: [&[u8]; 24] = [
        b"",
        b"   ",
        b"\"\"",
        b"\"abc",
        b"abc\"",
        b"\"a\\x\"",
        b"\"a\\\"",
        b"\"a\"\"b\"",
        b"\"K\" x",
        b"\"K\", \"L\"",
        b"a,b",
        b"a;b",
        b"a b",
        b"a\tb",
        b"\"a\tb\"",
        b"cl\xc3\xa9",
        b"\"f\xfc\xfc\"",
        b"\xff",
        b"\"a\"; ",
        b"\"a\";=1",
        b"\\",
        too_long.as_bytes(),
        too_long_quoted.as_bytes(),
        huge.as_bytes(),
    ];
    for value in values {
        let mut request = unkeyed("POST");
        request.headers_mut().append("idempotency-key", HeaderValue::from_bytes(value).unwrap());
        let answer = send(&app, request).await;
        assert_eq!(answer.status, 400, "{:?}", String::from_utf8_lossy(&value[..value.len().min(300)]));
        answer.assert_problem("invalid-key", 400);
    }
    assert_eq!((runs.get(), lab.store.calls()), (0, 0));
}

/// Peer bug 46: joining two lines could make a third key.
#[tokio::test]
async fn two_header_lines_are_refused_even_when_they_say_the_same() {
    let lab = Lab::new();
    let app = serve(&lab.layer(), |_| async { Ok(reply(200, "")) });
    for (one, other) in [("a", "b"), ("a", "a"), ("\"a\"", "\"a\""), ("\"a", "b\""), ("", "a")] {
        let mut request = unkeyed("POST");
        for line in [one, other] {
            request.headers_mut().append("idempotency-key", line.parse().unwrap());
        }
        send(&app, request).await.assert_problem("invalid-key", 400);
    }
    assert_eq!(lab.store.calls(), 0);
}

/// Requirement K20: a key may be an address or a name. Of a request that is kept to be
/// run again, the record has the hash of the key, and the key nowhere.
#[tokio::test]
async fn the_key_is_not_in_what_is_stored() {
    const KEY: &str = "jane@example.com";
    let lab = Lab::new();
    let store = lab.store.clone();
    let app = serve(&lab.layer().resumable(), move |_| {
        let store = store.clone();
        async move {
            let encoded = store.peek(&stored_key(KEY)).await.unwrap().encode();
            let parts = encoded.fresh.iter().flat_map(|(_, bytes)| bytes);
            Ok(reply(200, encoded.head.iter().chain(parts).copied().collect::<Vec<_>>()))
        }
    });
    // Nor where a gateway has copied it to.
    let copied = with(post(KEY), "x-idempotency-key", KEY);
    let stored = send(&app, with(copied, "x-kept", "kept-value")).await.body;
    let has = |text: &str| stored.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("kept-value"), "the request is not found any more");
    assert!(!has(KEY));
}

#[tokio::test]
async fn a_required_key_that_is_missing_is_refused() {
    let lab = Lab::new();
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer().required(), move |_| {
        count.up();
        async { Ok(reply(200, "")) }
    });
    send(&app, unkeyed("POST")).await.assert_problem("missing-key", 400);
    send(&app, unkeyed("PATCH")).await.assert_problem("missing-key", 400);
    assert_eq!(runs.get(), 0);
    send(&app, post("k")).await.assert_first(200, "");
}

/// Problems point at the published rules.
#[tokio::test]
async fn problems_link_to_the_documentation_they_were_given() {
    let lab = Lab::new();
    let layer = lab.layer().required().documentation("https://example.com/keys?a=\"1\"&b=\\");
    let app = serve(&layer, |_| async { Ok(reply(200, "")) });
    let answer = send(&app, unkeyed("POST")).await;
    answer.assert_problem("missing-key", 400);
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["type"], "https://example.com/keys?a=\"1\"&b=\\#missing-key");
}

/// Whatever it was given: strict JSON, and one link.
#[tokio::test]
async fn documentation_that_is_no_url_breaks_no_problem() {
    for url in ["", "\"", "\\", "a\"b\n\u{0}", "https://x>; rel=\"next\", <https://y", "\u{e9}"] {
        let layer = Lab::new().layer().required().documentation(url);
        let app = serve(&layer, |_| async { Ok(reply(200, "")) });
        let refused = send(&app, unkeyed("POST")).await;
        refused.assert_problem("missing-key", 400);
        assert_eq!(refused.headers["link"].to_str().unwrap().matches("rel=").count(), 1);
    }
}
