//! What makes two requests the same, for any bodies.

use bytes::Bytes;
use http::Request;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Value;
use tower_idempotency::FingerprintRules;

use crate::corpus::{canonical, multipart};

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

/// Of what JSON is made of, and of what it is not.
fn almost_json() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 44] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"a\":",
        b"\"b\":[",
        b"\"c\":{",
        b"\"d/e\":",
        b"\"\\u0061\":",
        b"\"a\"",
        b"\"",
        b"\"\\n\"",
        b"\\",
        b"\\u",
        b"\\ud83d",
        b"\\ude00",
        b"\"\xf0\x9f\x98\x80\":",
        b"\"\xef\xac\xb3\":",
        b"\xff",
        b"1",
        b"0",
        b"-",
        b"+",
        b".",
        b"e",
        b"1.0",
        b"10e-1",
        b"-0",
        b"1e400",
        b"9007199254740993",
        b"4.9e-324",
        b"1e9223372036854775807",
        b"1e9223372036854775808",
        b"true",
        b"null",
        b"nul",
        b" ",
        b"\n",
        b"\0",
        b"\x0c",
        b"{}",
        b"[]",
    ];
    vec(0..PIECES.len(), 0..9).prop_map(|pieces| pieces.into_iter().map(|at| PIECES[at]).collect::<Vec<_>>().concat())
}

/// A document with members that may be there twice, in their order, and its pieces spelled
/// in one of many ways.
fn spelled() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "-?(0|[1-9][0-9]{0,2})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        "\"([ab\u{e9}\u{fb33}\u{1f600}/]|\\\\[nt\"/\\\\]|\\\\u006[12]|\\\\ud83d\\\\ude00){0,3}\"",
        "true|null",
    ];
    let name = "(a|b|c|d/e|\\\\u0061|\u{fb33}|\u{1f600}|\\\\n)";
    leaf.prop_recursive(4, 16, 4, move |inner| {
        let member = (name, inner.clone(), "[ \n]?")
            .prop_map(|(name, value, space)| format!("{space}\"{name}\":{space}{value}"));
        let of =
            |[open, close]: [&'static str; 2]| move |items: Vec<String>| format!("{open}{}{close}", items.join(","));
        prop_oneof![vec(inner, 0..3).prop_map(of(["[", "]"])), vec(member, 0..4).prop_map(of(["{", "}"]))]
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
    fn what_is_almost_json_means_what_a_slow_reader_says(one in almost_json(), other in almost_json()) {
        canonical::check(&[&one[..], b"\x1e", &other].concat());
    }

    #[test]
    fn json_means_what_a_slow_reader_says(one in spelled(), other in spelled()) {
        canonical::check(format!("{one}\x1e{other}").as_bytes());
    }

    #[test]
    fn what_receivers_can_tell_apart_is_not_the_same(
        (one, other) in (almost_multipart(), almost_multipart()),
        (first, more) in ("multipart/[ab]; (boundary=b|boundary=c|boundary=\"b\")", "(; ?(x-)?boundary\\*?=[bcx]|; a=\"; boundary=x\"|; charset=[bc])?"),
        another in "(b|c)",
    ) {
        let kind = first.clone() + &more;
        let moved = kind.replace("boundary=b", &format!("boundary={another}"));
        multipart::check(format!("{kind}\x1e{one}\x1e{moved}\x1e{other}").as_bytes());
        multipart::check(format!("{kind}\x1e{one}\x1e{moved}\x1e{}", one.replace("--b", &format!("--{another}"))).as_bytes());
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
