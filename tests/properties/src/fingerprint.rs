//! What makes two requests the same, for any bodies.

use bytes::Bytes;
use http::Request;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;
use tower_idempotency::FingerprintRules;

fn sent(kind: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post("/pay").header("content-type", kind).body(body.into()).unwrap()
}

/// Whether two requests are the same, which goes both ways.
fn same(rules: &FingerprintRules, one: &Request<Bytes>, other: &Request<Bytes>) -> bool {
    let same = rules.same(one, other);
    assert_eq!(same, rules.same(other, one));
    same
}

/// Of what may be mistaken for a boundary.
fn almost_multipart() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("\r\n--b"),
        4 => Just("\r\n--c"),
        4 => Just("\r\n"),
        2 => Just("--"),
        1 => Just("\n"),
        1 => Just("b"),
        1 => Just("c"),
        2 => Just("x"),
    ];
    (any::<bool>(), any::<bool>(), vec(piece, 0..8)).prop_map(|(begins, is_b, pieces)| {
        let begin = if is_b { "--b" } else { "--c" };
        if begins { begin.to_owned() + &pieces.concat() } else { pieces.concat() }
    })
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ab\"\\\\\u{e9}\n]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let object = btree_map("[ab]{0,2}", inner.clone(), 0..3);
        prop_oneof![
            vec(inner, 0..3).prop_map(Value::from),
            object.prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Only the boundary may be another one.
    #[test]
    fn two_multipart_bodies_are_the_same_only_by_their_boundary(
        (one, other) in (almost_multipart(), almost_multipart()),
        (boundary, another) in (prop_oneof!["b", "c"], prop_oneof!["b", "c"]),
    ) {
        let kind = |boundary: &str| format!("multipart/form-data; boundary={boundary}");
        let requests = (sent(&kind(&boundary), one.clone()), sent(&kind(&another), other.clone()));
        if same(&FingerprintRules::new(), &requests.0, &requests.1) {
            let moved = one.replace(&format!("--{boundary}"), &format!("--{another}"));
            prop_assert_eq!(moved, other);
        }
    }

    #[test]
    fn parts_are_the_same_whatever_the_boundary(parts in vec("[ab\r\n-]{0,6}", 1..4), close in "(\r\n[ab]{0,3})?") {
        let sent = |boundary: &str| {
            let parts: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
            let kind = format!("Multipart/Mixed; boundary=\"{boundary}\"");
            sent(&kind, format!("{parts}--{boundary}--{close}"))
        };
        prop_assert!(same(&FingerprintRules::new(), &sent("x-y"), &sent("another one")));
    }

    #[test]
    fn json_is_the_same_exactly_if_its_value_is(one in json(), other in json()) {
        let rules = FingerprintRules::new().canonical_json();
        let sent = |text: String| sent("application/json", text);
        let spelled = [one.to_string(), serde_json::to_string_pretty(&one).unwrap()].map(sent);
        let other_spelled = sent(serde_json::to_string_pretty(&other).unwrap());
        prop_assert!(same(&rules, &spelled[0], &spelled[1]));
        prop_assert_eq!(same(&rules, &spelled[0], &other_spelled), one == other);
    }

    #[test]
    fn any_bytes_have_a_fingerprint(kind in "[ -~]{0,30}", body in vec(any::<u8>(), 0..60), is_json in any::<bool>()) {
        let kind = if is_json { "application/json" } else { &kind };
        let rules = FingerprintRules::new().ignore_json(["/a/0"]).unwrap().only_json(["/a", "/b"]).unwrap();
        for rules in [FingerprintRules::new(), FingerprintRules::new().canonical_json(), rules] {
            prop_assert!(same(&rules, &sent(kind, body.clone()), &sent(kind, body.clone())));
        }
    }
}
