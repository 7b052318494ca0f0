//! What makes two requests the same request, as it can be set.

use bytes::Bytes;
use http::{HeaderName, Request};
use tower_idempotency::{FingerprintRules, InvalidPointer};

use crate::support::bodies::full;
use crate::support::lab::{Answer, App, Lab, numbered};

async fn send(app: &App, request: Request<Bytes>) -> Answer {
    crate::support::lab::send(app, request.map(full)).await
}

fn with(mut request: Request<Bytes>, name: &'static str, value: &str) -> Request<Bytes> {
    request.headers_mut().append(name, value.parse().unwrap());
    request
}

fn typed(kind: &str, body: &str) -> Request<Bytes> {
    let request = Request::post("/pay?a=1").header("idempotency-key", "k").header("content-type", kind);
    request.body(Bytes::from(body.to_owned())).unwrap()
}

fn json(body: &str) -> Request<Bytes> {
    typed("application/json", body)
}

/// The first one runs, those that are the same get its answer, the others a 422.
async fn compare(
    rules: &FingerprintRules,
    first: Request<Bytes>,
    same: Vec<Request<Bytes>>,
    others: Vec<Request<Bytes>>,
) {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer().fingerprint(rules.clone()));
    send(&app, first).await.assert_first(201, "charge 1");
    for (n, same) in same.into_iter().enumerate() {
        let answer = send(&app, same).await;
        assert_eq!(answer.status, 201, "{rules:?}, the same {n}: {answer:?}");
        answer.assert_replay(201, "charge 1");
    }
    for (n, other) in others.into_iter().enumerate() {
        let answer = send(&app, other).await;
        assert_eq!(answer.status, 422, "{rules:?}, another {n}: {answer:?}");
        answer.assert_problem("key-reused", 422);
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn a_type_counts_by_its_media_type_unless_each_byte_does() {
    let spelled = || {
        ["text/plain", "Text/Plain", "text/plain;charset=utf-8", "text/plain ; Charset=\"x\""]
            .map(|kind| typed(kind, "a"))
            .into()
    };
    let others = ["text/html", "text/plain; version=1", "text/plain; charset", "text"].map(|kind| typed(kind, "a"));
    for first in ["text/plain", "TEXT/plain; charset=iso-8859-1"] {
        let mut others: Vec<_> = others.iter().map(|other| kind_of(other).to_owned()).collect();
        others.push(String::new());
        let others = others.iter().map(|kind| typed(kind, "a")).chain([typed("text/plain", "b")]).collect();
        compare(&FingerprintRules::new(), typed(first, "a"), spelled(), others).await;
    }
    let mut all: Vec<_> = spelled();
    let first = all.remove(0);
    compare(&FingerprintRules::new().exact_content_type(), first, vec![typed("text/plain", "a")], all).await;
}

fn kind_of(request: &Request<Bytes>) -> &str {
    request.headers()["content-type"].to_str().unwrap()
}

#[tokio::test]
async fn query_and_header_fields_count_where_asked_for() {
    let at = |target: &str| Request::post(target).header("idempotency-key", "k").body(Bytes::from("a")).unwrap();
    let rules = FingerprintRules::new().ignore_query();
    let same = vec![at("/pay"), at("/pay?a=2"), at("/pay?")];
    compare(&rules, at("/pay?a=1"), same, vec![at("/pay/"), at("/paya=1")]).await;

    let names = ["if-match", "stripe-account"].map(HeaderName::from_static);
    let rules = FingerprintRules::new().headers(names);
    let to = |lines: &[(&'static str, &str)]| lines.iter().fold(at("/pay"), |to, (name, line)| with(to, name, line));
    let (a, b) = (("stripe-account", "a"), ("stripe-account", "b"));
    let same = vec![to(&[b, a, ("if-match", "1")]), to(&[b, ("if-match", "1"), ("user-agent", "x"), a])];
    let others = vec![
        to(&[]),
        to(&[b, a]),
        to(&[a, b, ("if-match", "1")]),
        to(&[b, a, ("if-match", "2")]),
        to(&[b, a, ("if-match", "")]),
        to(&[b, ("if-match", "1")]),
        to(&[("if-match", "1"), ("if-match", "b"), a]),
    ];
    compare(&rules, to(&[b, a, ("if-match", "1")]), same, others).await;
    compare(&rules, to(&[]), vec![to(&[])], vec![to(&[("if-match", "")])]).await;
}

fn form(boundary: &str, parts: &[&str]) -> Request<Bytes> {
    let parts: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
    typed(&format!("multipart/form-data; boundary={boundary}"), &format!("{parts}--{boundary}--\r\n"))
}

const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\ntext";
const SUM: &str = "Content-Disposition: form-data; name=\"sum\"\r\n\r\n1999";

/// A client draws the boundary anew for each try: `curl -F`, browsers, every library.
#[tokio::test]
async fn multipart_is_compared_by_its_parts_and_not_its_boundary() {
    let first = || form("------------------------d74496d66958873e", &[FILE, SUM]);
    let mut quoted = form("other", &[FILE, SUM]);
    quoted.headers_mut().insert("content-type", "Multipart/Form-Data; Boundary=\"other\"".parse().unwrap());
    let same = vec![first(), form("other", &[FILE, SUM]), quoted];
    let renamed = FILE.replace("a.txt", "b.txt");
    let others = vec![
        form("x-y", &[SUM, FILE]),
        form("x-y", &[FILE]),
        form("x-y", &[FILE, SUM, SUM]),
        form("x-y", &[FILE, &SUM.replace("1999", "2999")]),
        form("x-y", &[&renamed, SUM]),
        form("x-y", &[&format!("{FILE}\r\n{SUM}")]),
        form("text", &[FILE, SUM]),
        typed("multipart/mixed; boundary=x-y", &format!("--x-y\r\n{FILE}\r\n--x-y\r\n{SUM}\r\n--x-y--\r\n")),
        typed("multipart/form-data; boundary=x-y", &format!("hi\r\n--x-y\r\n{FILE}\r\n--x-y\r\n{SUM}\r\n--x-y--\r\n")),
        typed("multipart/form-data; boundary=x-y", &format!("--x-y\r\n{FILE}\r\n--x-y\r\n{SUM}\r\n--x-y--\r\nbye")),
        typed("multipart/form-data; boundary=x-y", &format!("--x-y\r\n{FILE}\r\n--x-y\r\n{SUM}\r\n")),
        typed("multipart/form-data", &format!("--x-y\r\n{FILE}\r\n--x-y\r\n{SUM}\r\n--x-y--\r\n")),
    ];
    for rules in [FingerprintRules::new(), FingerprintRules::new().canonical_json()] {
        compare(&rules, first(), same.clone(), others.clone()).await;
    }
    let exact = FingerprintRules::new().exact_content_type();
    compare(&exact, first(), vec![first()], vec![form("other", &[FILE, SUM])]).await;
    // What has no parts counts byte by byte.
    let odd = |boundary: &str| typed(&format!("multipart/form-data; boundary={boundary}"), "--a\n\nx\n--a--\n");
    compare(&FingerprintRules::new(), odd("a"), vec![odd("a")], vec![odd("b")]).await;
}

#[tokio::test]
async fn json_is_compared_by_what_it_means_where_asked_for() {
    let rules = FingerprintRules::new().canonical_json();
    let first = || json(r#"{"a":1,"b":["\u0078",{"d":1.0,"c":null}]}"#);
    let again = r#" { "b" : [ "x" , { "c" : null , "d" : 1 } ] , "a" : 1e0 } "#;
    let same = vec![json(again), typed("application/json; charset=utf-8", again)];
    let others = vec![
        typed("application/problem+json", again),
        typed("text/plain", again),
        json(r#"{"a":1,"b":[{"d":1.0,"c":null},"x"]}"#),
        json(r#"{"a":"1","b":["x",{"d":1,"c":null}]}"#),
        json(r#"{"a":1,"b":["x",{"d":1}]}"#),
        json(r#"{"a":1,"b":["x",{"d":1,"c":null}],"e":0}"#),
        json(r#"{"a":2,"b":["x",{"d":1,"c":null}]}"#),
        json(r#"{"a":1,"a":1,"b":["x",{"d":1,"c":null}]}"#),
        json(&format!("{again}x")),
        json(""),
    ];
    compare(&rules, first(), same, others).await;
    compare(&FingerprintRules::new(), first(), vec![first()], vec![json(again)]).await;
    // Two amounts that a double can't tell apart.
    compare(&rules, json("[9007199254740993]"), vec![], vec![json("[9007199254740992]")]).await;
    // No JSON: its bytes.
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    for odd in ["{bad", "", "{\"a\":1,\"a\":2}", "\"\\ud800\"", &deep] {
        compare(&rules, json(odd), vec![json(odd)], vec![json(&format!("{odd} ")), json("{}")]).await;
    }
}

#[tokio::test]
async fn members_of_json_are_left_out_or_looked_at_alone() {
    let rules = FingerprintRules::new().ignore_json(["/at", "/list/0", "/in~1side/x"]).unwrap();
    let first = r#"{"at":1,"list":[1,2],"in/side":{"x":1,"y":2},"sum":1}"#;
    let same =
        [r#"{"at":2,"list":[{},2],"in/side":{"y":2},"sum":1}"#, r#"{"list":[9,2],"sum":1.0,"in/side":{"x":[],"y":2}}"#];
    let others = [
        r#"{"at":1,"list":[1,2],"in/side":{"x":1,"y":2},"sum":2}"#,
        r#"{"at":1,"list":[2],"in/side":{"x":1,"y":2},"sum":1}"#,
        r#"{"at":1,"list":[1,3],"in/side":{"x":1,"y":2},"sum":1}"#,
        r#"{"at":1,"list":[1,2],"in/side":{"x":1},"sum":1}"#,
        r#"{"at":1,"list":[1,2],"sum":1}"#,
    ];
    compare(&rules, json(first), same.map(json).into(), others.map(json).into()).await;
    // The place of an element that is left out is the only one here.
    let [one, other, none] = [r#"{"list":[1]}"#, r#"{"list":[2]}"#, r#"{"list":[]}"#].map(json);
    compare(&rules, one, vec![other], vec![none]).await;

    let rules = FingerprintRules::new().only_json(["/sum", "/to/id"]).unwrap();
    let first = r#"{"sum":1,"to":{"id":"a","name":"b"},"note":1}"#;
    let same = [r#"{"to":{"id":"a"},"sum":1}"#, r#"{"sum":1.0,"to":{"name":"c","id":"a"}}"#];
    let others = [
        r#"{"sum":2,"to":{"id":"a"}}"#,
        r#"{"sum":1,"to":{"id":"b"}}"#,
        r#"{"sum":1,"to":{}}"#,
        r#"{"to":{"id":"a"}}"#,
        r#"{"sum":1,"to":{"id":null}}"#,
        r#"{"sum":"a","to":{"id":1}}"#,
        "{}",
        "{bad",
    ];
    compare(&rules, json(first), same.map(json).into(), others.map(json).into()).await;
    let both = rules.ignore_json(["/to/id"]).unwrap();
    compare(&both, json(first), vec![json(r#"{"sum":1,"to":{"id":"b"}}"#)], vec![json("{}")]).await;
    for (text, expected) in [
        ("", InvalidPointer::Whole),
        ("at", InvalidPointer::Relative("at".to_owned())),
        ("/~2", InvalidPointer::Tilde("/~2".to_owned())),
    ] {
        assert_eq!(FingerprintRules::new().ignore_json(["/ok", text]).err(), Some(expected.clone()));
        assert_eq!(FingerprintRules::new().only_json([text]).err(), Some(expected));
    }
}

#[tokio::test]
async fn a_body_is_left_out_or_counts_by_a_rule_of_ones_own() {
    let rules = FingerprintRules::new().ignore_body();
    let boundary = |boundary: &str| form(boundary, &[FILE]);
    compare(&rules, json("1"), vec![json("2"), json("")], vec![typed("text/plain", "1")]).await;
    compare(&rules, boundary("a"), vec![boundary("b"), form("c", &[SUM])], vec![]).await;

    let rules = FingerprintRules::new().custom("tenant-1", |parts, body| {
        let tenant = parts.headers.get("x-tenant").map(|line| line.as_bytes()).unwrap_or_default();
        [tenant, b"\0", body.trim_ascii()].concat()
    });
    let to = |tenant: &str, body: &str| with(json(body), "x-tenant", tenant);
    let others = vec![to("b", "1"), to("a", "2"), typed("text/plain", "1")];
    compare(&rules, to("a", "1"), vec![to("a", " 1 ")], others).await;
    compare(&rules, boundary("a"), vec![], vec![form("a", &[SUM])]).await;
}

/// While rules are rolled out or back, processes have different ones: a retry of the same
/// bytes gets its answer, and its client takes no new key.
#[tokio::test]
async fn a_retry_of_the_same_bytes_is_known_under_any_other_rules() {
    let all = || {
        [
            FingerprintRules::new(),
            FingerprintRules::new().exact_content_type(),
            FingerprintRules::new().ignore_query(),
            FingerprintRules::new().headers([HeaderName::from_static("if-match")]),
            FingerprintRules::new().canonical_json(),
            FingerprintRules::new().ignore_json(["/a"]).unwrap(),
            FingerprintRules::new().only_json(["/a"]).unwrap(),
            FingerprintRules::new().ignore_body(),
            FingerprintRules::new().custom("1", |_, _| b"1".to_vec()),
            FingerprintRules::new().custom("2", |_, _| b"2".to_vec()),
        ]
    };
    let sent = || [typed("Application/JSON; charset=utf-8", r#"{"a" : 1}"#), form("b", &[FILE])];
    let another = || with(typed("text/plain", "another body"), "if-match", "1");
    for (n, first) in all().into_iter().enumerate() {
        for (m, second) in all().into_iter().enumerate() {
            for request in sent() {
                let lab = Lab::new();
                let (app, _) = numbered(&lab.layer().fingerprint(first.clone()));
                send(&app, request.clone()).await.assert_first(201, "charge 1");
                let (other, runs) = numbered(&lab.layer().fingerprint(second.clone()));
                let answer = send(&other, request).await;
                assert_eq!(answer.status, 201, "{n} and {m}");
                answer.assert_replay(201, "charge 1");
                send(&other, another()).await.assert_problem("key-reused", 422);
                assert_eq!(runs.get(), 0);
            }
        }
    }
}

#[test]
fn a_text_for_clients_says_what_is_set() {
    let page = FingerprintRules::new().documentation();
    for said in ["method", "query", "host", "`charset`", "`Content-Encoding`", "body, byte by byte", "boundary", "gRPC"]
    {
        assert!(page.contains(said), "{said}: {page}");
    }
    let rules = FingerprintRules::new().ignore_query().ignore_authority().exact_content_type().trailers();
    let page = rules.headers([http::header::IF_MATCH]).ignore_json(["/at"]).unwrap().documentation();
    for said in ["`if-match`", "without these members: `/at`", "every line of `Content-Type`"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    for unsaid in ["query", "host", "charset", "boundary", "gRPC"] {
        assert!(!page.contains(unsaid), "{unsaid}: {page}");
    }
    let page = FingerprintRules::new().ignore_body().documentation();
    assert!(!page.contains("body"), "{page}");
    let layer = Lab::new().layer().fingerprint(FingerprintRules::new().only_json(["/sum"]).unwrap());
    assert!(layer.fingerprint_documentation().contains("only these members do: `/sum`"));
}
