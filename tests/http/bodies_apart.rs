//! Bodies that a handler can tell apart, and that have much in common: a retry of one never
//! gets the response of the other. And bodies that one client sends twice.

use bytes::Bytes;
use http::Request;
use tower_idempotency::FingerprintRules;

fn sent(lines: &[(&'static str, &str)], body: impl Into<Bytes>) -> Request<Bytes> {
    let request = lines.iter().fold(Request::post("/pay"), |request, (name, line)| request.header(*name, *line));
    request.body(body.into()).unwrap()
}

fn form(kind: &str, boundary: &str, parts: &[&str]) -> Request<Bytes> {
    sent(&[("content-type", kind)], body(boundary, parts))
}

fn body(boundary: &str, parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
    format!("{parts}--{boundary}--\r\n")
}

#[track_caller]
fn is(rules: &FingerprintRules, expected: bool, one: &Request<Bytes>, other: &Request<Bytes>) {
    assert_eq!((rules.same(one, other), rules.same(other, one)), (expected, expected), "{one:?}\n{other:?}");
    assert!(rules.same(one, one) && rules.same(other, other));
}

const PART: &str = "Content-Disposition: form-data; name=\"a\"\r\n\r\nx";

/// Each pair is sent with one boundary and with another one.
#[test]
fn parts_that_differ_are_never_the_same_and_others_are_whatever_they_say() {
    let nested = |boundary: &str| {
        format!("Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n--{boundary}\r\n\r\nx\r\n--{boundary}--")
    };
    let [inner, other_inner] = [nested("inner"), nested("outer")];
    let huge = format!("A: {}\r\n\r\nx", "y".repeat(20_000));
    let pairs: [(&[&str], &[&str]); 13] = [
        (&["\r\nx"], &["\r\ny"]),
        (&[PART, "\r\nx"], &["\r\nx", PART]),
        (&["\r\nx", "\r\ny", "\r\nz"], &["\r\nx", "\r\ny\r\nz"]),
        (&["\r\nx"], &["\r\nx", "\r\n"]),
        (&["A: 1\r\nA: 2\r\n\r\nx"], &["A: 2\r\nA: 1\r\n\r\nx"]),
        (&["A: 1;\r\n b\r\n\r\nx"], &["A: 1; b\r\n\r\nx"]),
        (&["a: 1\r\n\r\nx"], &["A: 1\r\n\r\nx"]),
        (&["Content-Transfer-Encoding: base64\r\n\r\nYQ=="], &["\r\na"]),
        (&["Content-Disposition: form-data; name=\"a\"; filename*=UTF-8''b\r\n\r\nx"], &[PART]),
        (&[": 1\r\n\r\nx"], &["\r\n: 1\r\n\r\nx"]),
        (&["x"], &["\r\nx"]),
        (&[&huge], &[&huge[1..]]),
        (&[&inner], &[&other_inner]),
    ];
    let rules = FingerprintRules::new();
    for kind in ["multipart/form-data", "multipart/mixed", "multipart/related; start=\"<a@b>\"; type=\"text/xml\""] {
        for (parts, others) in pairs {
            let sent = |boundary: &str, parts| form(&format!("{kind}; boundary=\"{boundary}\""), boundary, parts);
            let again = "y'()+_,-./:=? Z";
            is(&rules, true, &sent("one", parts), &sent(again, parts));
            is(&rules, true, &sent("one", others), &sent(again, others));
            for (one, another) in [("one", "one"), ("one", again)] {
                is(&rules, false, &sent(one, parts), &sent(another, others));
            }
        }
    }
}

/// Then a receiver may go by another boundary than this one, and sees that as content.
#[test]
fn a_type_that_names_two_boundaries_counts_byte_by_byte() {
    let parts = ["\r\nx\r\n--z\r\n\r\ny"];
    for more in [
        "boundary=z",
        "boundary*=utf-8''z",
        "boundary*0=z",
        "x-boundary=z",
        "a=\"; boundary=z\"",
        "charset=\"boundary=z\"",
    ] {
        for (before, behind) in [(format!("; {more}"), String::new()), (String::new(), format!("; {more}"))] {
            let sent = |boundary: &str| {
                form(&format!("multipart/form-data{before}; boundary={boundary}{behind}"), boundary, &parts)
            };
            is(&FingerprintRules::new(), false, &sent("one"), &sent("other"));
        }
    }
}

#[test]
fn a_request_with_two_types_counts_byte_by_byte() {
    let canonical = FingerprintRules::new().canonical_json();
    for second in ["multipart/form-data; boundary=z", "text/plain"] {
        let form = |boundary: &str| {
            let kind = format!("multipart/form-data; boundary={boundary}");
            sent(&[("content-type", &kind), ("content-type", second)], body(boundary, &["\r\nx\r\n--z\r\n\r\ny"]))
        };
        is(&FingerprintRules::new(), false, &form("one"), &form("other"));
        let json = |body: &'static str| sent(&[("content-type", "application/json"), ("content-type", second)], body);
        is(&canonical, false, &json("[1]"), &json("[ 1 ]"));
    }
}

/// What is coded may look like anything.
#[test]
fn a_body_with_a_coding_counts_byte_by_byte() {
    let canonical = FingerprintRules::new().canonical_json();
    for (coding, is_same) in [("br", false), ("gzip, identity", false), ("identity", true), ("Identity, ", true)] {
        let form = |boundary: &str| {
            let kind = format!("multipart/form-data; boundary={boundary}");
            sent(&[("content-encoding", coding), ("content-type", &kind)], body(boundary, &[PART]))
        };
        is(&FingerprintRules::new(), is_same, &form("one"), &form("other"));
        let json =
            |body: &'static str| sent(&[("content-encoding", coding), ("content-type", "application/json")], body);
        is(&canonical, is_same, &json("[1]"), &json("[ 1 ]"));
    }
}

#[test]
fn a_list_is_not_the_same_as_one_whose_only_item_is_left_out() {
    let json = |body: &'static str| sent(&[("content-type", "application/json")], body);
    let rules = FingerprintRules::new().ignore_json(["/a/0", "/a/1"]).unwrap();
    is(&rules, true, &json(r#"{"a":[1]}"#), &json(r#"{"a":[{"b":2}]}"#));
    is(&rules, false, &json(r#"{"a":[1]}"#), &json(r#"{"a":[]}"#));
    is(&rules, false, &json(r#"{"a":[1]}"#), &json(r#"{"a":[1,2]}"#));
    is(&rules, false, &json(r#"{"a":[1]}"#), &json(r#"{"a":{"0":1}}"#));
}
