//! What makes two requests the same request, and how a record says so to other
//! releases.

use std::time::Duration;

use http::Request;
use tower_idempotency::FingerprintRules;
use tower_idempotency::core::{
    Change, Claim, Claimed, Fence, Fenced, Fingerprint, Labels, Mode, Reached, StoredResponse,
};
use tower_idempotency::store::KeptRecord;

use crate::support::bodies::{Part, TestBody, data, full, script};
use crate::support::lab::{Lab, numbered, post, send, stored_key, with};

/// As HTTP/1.1 has it: a path, and `Host`.
fn at_host(host: &str) -> Request<TestBody> {
    with(post("k"), "host", host)
}

/// As HTTP/2 has it (`:authority`), and HTTP/1.1 to a proxy (absolute form).
fn at_target(target: &str) -> Request<TestBody> {
    let request = Request::builder().method("POST").uri(target).header("idempotency-key", "k");
    request.body(full("{\"amount\":100}")).unwrap()
}

#[tokio::test]
async fn another_authority_is_another_request() {
    let hosts = ["b.example", "a.example.", "www.a.example", "a.example:8080", "[::1]", ""];
    for other in hosts.map(at_host).into_iter().chain([at_target("http://b.example/pay"), post("k")]) {
        let lab = Lab::new();
        let (app, runs) = numbered(&lab.layer());
        let what = format!("{} {:?}", other.uri(), other.headers().get("host"));
        send(&app, at_host("a.example")).await.assert_first(201, "charge 1");
        let answer = send(&app, other).await;
        assert_eq!(answer.status, 422, "{what}");
        answer.assert_problem("key-reused", 422);
        assert_eq!(runs.get(), 1);
    }
}

#[tokio::test]
async fn one_authority_may_be_written_in_many_ways() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, at_host("a.example")).await.assert_first(201, "charge 1");
    for host in ["A.Example", "a.example:80", "a.example:443", "a.example:"] {
        send(&app, at_host(host)).await.assert_replay(201, "charge 1");
    }
    for target in ["http://a.example/pay", "https://A.EXAMPLE:443/pay", "http://user@a.example:80/pay"] {
        send(&app, at_target(target)).await.assert_replay(201, "charge 1");
        // RFC 9112 §3.2.2: the target counts, and not what `Host` says beside it.
        send(&app, with(at_target(target), "host", "b.example")).await.assert_replay(201, "charge 1");
    }
    let (app, _) = numbered(&Lab::new().layer());
    send(&app, at_host("[2001:DB8::1]:80")).await.assert_first(201, "charge 1");
    send(&app, at_host("[2001:db8::1]")).await.assert_replay(201, "charge 1");
}

#[tokio::test]
async fn the_authority_can_be_left_out() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer().fingerprint(FingerprintRules::new().ignore_authority()));
    send(&app, at_host("a.example")).await.assert_first(201, "charge 1");
    for other in [at_host("b.example"), at_target("http://c.example:8080/pay"), post("k")] {
        send(&app, other).await.assert_replay(201, "charge 1");
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn every_content_type_and_content_encoding_counts() {
    let typed = || with(at_host("a.example"), "content-type", "text/plain");
    let others = [
        with(typed(), "content-type", "text/html"),
        with(typed(), "content-encoding", "gzip"),
        with(typed(), "content-encoding", ""),
    ];
    let original = |ignore: bool| {
        let lab = Lab::new();
        let layer =
            if ignore { lab.layer().fingerprint(FingerprintRules::new().ignore_authority()) } else { lab.layer() };
        numbered(&layer)
    };
    for (n, other) in others.into_iter().enumerate() {
        let (app, _) = original(n == 0);
        send(&app, typed()).await.assert_first(201, "charge 1");
        let answer = send(&app, other).await;
        // A list of nothing is nothing.
        assert_eq!(answer.status, if n == 2 { 201 } else { 422 }, "{n}");
    }
    let (app, _) = original(true);
    let coded = |lines: &[&str]| lines.iter().fold(typed(), |request, line| with(request, "content-encoding", line));
    send(&app, coded(&["gzip", "br"])).await.assert_first(201, "charge 1");
    send(&app, coded(&["GZip ,, br"])).await.assert_replay(201, "charge 1");
    for other in [coded(&["br", "gzip"]), coded(&["gzip"]), coded(&["gzipbr"]), typed()] {
        send(&app, other).await.assert_problem("key-reused", 422);
    }
}

/// By the release before: method, path, query, the first content type, body.
fn first_scheme() -> Fingerprint {
    Fingerprint::of([b"POST".as_slice(), b"/pay", b"", b"", b"{\"amount\":100}"])
}

/// A retry that meets another release gets its answer, and no 422: its client
/// would take a new key, and pay twice.
#[tokio::test]
async fn a_record_of_the_release_before_is_met_by_this_one() {
    for layer in [Lab::layer, |lab: &Lab| lab.layer().resumable()] {
        let lab = Lab::new();
        let (mode, lease) = (Mode::AtMostOnce, Duration::from_secs(60));
        let claim = Claim { fingerprint: first_scheme(), mode, lease, request: None, labels: Labels::new() };
        let ledger = tower_idempotency::spi::Ledger::new(lab.store.clone());
        let claimed = ledger.apply(&stored_key("k"), None, claim).await.unwrap().output;
        let Claimed::Granted(fence) = claimed else { panic!("{claimed:?}") };
        let (app, runs) = numbered(&layer(&lab));
        let retry = || with(at_host("a.example"), "content-encoding", "gzip");
        send(&app, retry()).await.assert_problem("in-progress", 409);
        complete(&ledger, fence).await;
        send(&app, retry()).await.assert_replay(201, "paid");
        // What that release compared is compared.
        let other = Request::builder().method("POST").uri("/pay").header("idempotency-key", "k");
        send(&app, other.body(full("other")).unwrap()).await.assert_problem("key-reused", 422);
        assert_eq!(runs.get(), 0);
    }
}

async fn complete(ledger: &tower_idempotency::spi::Ledger, fence: Fence) {
    let response = StoredResponse::capture(201.try_into().unwrap(), &http::HeaderMap::new(), Some("paid".into()));
    let complete =
        Change::Complete { response: response.into(), retention: Duration::from_secs(60), reached: Reached::All };
    let fenced = Fenced { fence, changes: vec![complete] };
    ledger.apply(&stored_key("k"), None, fenced).await.unwrap().output.unwrap();
}

/// And the other way round: that release reads the first scheme's digest, and
/// passes over what it does not know.
#[tokio::test]
async fn a_record_of_this_release_is_met_by_the_one_before() {
    for layer in [
        Lab::layer,
        |lab: &Lab| lab.layer().resumable(),
        |lab: &Lab| lab.layer().fingerprint(FingerprintRules::new().ignore_authority()),
    ] {
        let lab = Lab::new();
        let (app, _) = numbered(&layer(&lab));
        send(&app, with(at_host("a.example"), "content-encoding", "gzip")).await.assert_first(201, "charge 1");
        let record = lab.store.peek(&stored_key("k")).await.unwrap();
        // SHA-256 over the framed parts, reckoned elsewhere; as it lies in the record.
        let digest = [
            0x8a, 0xd5, 0xc9, 0xcf, 0x86, 0x17, 0x3e, 0x0a, 0x2f, 0x71, 0x7c, 0x75, 0x4c, 0x08, 0x69, 0xd1, 0xdf, 0x45,
            0x40, 0xe4, 0x49, 0x45, 0x15, 0xa1, 0x21, 0x4d, 0x5b, 0xf2, 0x34, 0x55, 0x49, 0xc7,
        ];
        let head = record.encode().head;
        assert!(head.windows(32).any(|bytes| bytes == digest), "{head:?}");
    }
}

/// Two processes of one release, while the switch is rolled out.
#[tokio::test]
async fn processes_with_different_switches_know_each_others_requests() {
    for (first, second) in [(false, true), (true, false)] {
        let lab = Lab::new();
        let layer = |ignore: bool| {
            if ignore { lab.layer().fingerprint(FingerprintRules::new().ignore_authority()) } else { lab.layer() }
        };
        let (app, _) = numbered(&layer(first));
        send(&app, with(at_host("a.example"), "content-encoding", "gzip")).await.assert_first(201, "charge 1");
        let (other, runs) = numbered(&layer(second));
        send(&other, with(at_host("a.example"), "content-encoding", "gzip")).await.assert_replay(201, "charge 1");
        // The authority counts where the record and the process say so.
        send(&other, with(at_host("b.example"), "content-encoding", "gzip")).await.assert_replay(201, "charge 1");
        send(&other, at_host("a.example")).await.assert_problem("key-reused", 422);
        assert_eq!(runs.get(), 0);
    }
}

/// With these trailers, if any.
fn trailing(kind: &str, trailers: &[(&'static str, &str)]) -> Request<TestBody> {
    let request = Request::post("/pay").header("idempotency-key", "k").header("content-type", kind);
    let mut lines = http::HeaderMap::new();
    for (name, value) in trailers {
        lines.append(*name, value.parse().unwrap());
    }
    let trailers = (!trailers.is_empty()).then_some(Part::Trailers(lines));
    request.body(script([data(b"abc")].into_iter().chain(trailers))).unwrap()
}

const GRPC: &str = "application/grpc+proto";

#[tokio::test]
async fn trailers_of_a_request_count_for_grpc_and_where_asked_for() {
    for (kind, asked, count) in [
        (GRPC, false, true),
        ("Application/GRPC", false, true),
        (GRPC, true, true),
        ("application/json", true, true),
        ("application/json", false, false),
    ] {
        for resumable in [false, true] {
            let lab = Lab::new();
            let layer = if resumable { lab.layer().resumable() } else { lab.layer() };
            let (app, _) = numbered(&if asked { layer.fingerprint(FingerprintRules::new().trailers()) } else { layer });
            send(&app, trailing(kind, &[("x-amount", "1"), ("x-to", "a"), ("x-to", "b")]))
                .await
                .assert_first(201, "charge 1");
            // In whichever order the names come.
            let same = trailing(kind, &[("x-to", "a"), ("x-amount", "1"), ("x-to", "b")]);
            send(&app, same).await.assert_replay(201, "charge 1");
            // They may be lost on the way.
            send(&app, trailing(kind, &[])).await.assert_replay(201, "charge 1");
            for other in [
                trailing(kind, &[("x-amount", "2"), ("x-to", "a"), ("x-to", "b")]),
                trailing(kind, &[("x-amount", "1"), ("x-to", "b"), ("x-to", "a")]),
                trailing(kind, &[("x-amount", "1"), ("x-to", "a")]),
                trailing(kind, &[("x-amount", "1"), ("x-to", "a"), ("x-to", "b"), ("x-more", "")]),
                trailing(kind, &[("x-amount1", ""), ("x-to", "a"), ("x-to", "b")]),
            ] {
                let answer = send(&app, other).await;
                let expected = if count { 422 } else { 201 };
                assert_eq!(answer.status, expected, "{kind} {asked}: {answer:?}");
            }
        }
    }
}

/// A retry may say them anew.
#[tokio::test]
async fn trailers_that_belong_to_one_delivery_do_not_count() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, trailing(GRPC, &[("traceparent", "1"), ("x-amount", "1")])).await.assert_first(201, "charge 1");
    for trailers in [
        [("traceparent", "2"), ("x-amount", "1")],
        [("x-amount", "1"), ("x-api-key", "other")],
        [("x-request-id", "1"), ("date", "tomorrow")],
    ] {
        send(&app, trailing(GRPC, &trailers)).await.assert_replay(201, "charge 1");
    }
    send(&app, trailing(GRPC, &[("traceparent", "1"), ("x-amount", "2")])).await.assert_problem("key-reused", 422);
}

/// What was lost on the way of the first request may come with a retry; and so may
/// the retry meet a record of the release before, or of a process without the switch.
#[tokio::test]
async fn trailers_are_compared_only_where_both_sides_have_some() {
    for (kind, first_asks, second_asks, first) in [
        (GRPC, false, false, &[][..]),
        ("text/plain", true, true, &[]),
        ("text/plain", false, true, &[("x-amount", "2")]),
        ("text/plain", true, false, &[("x-amount", "2")]),
        (GRPC, true, false, &[("x-amount", "1")]),
        (GRPC, false, true, &[("x-amount", "1")]),
    ] {
        let lab = Lab::new();
        let layer =
            |asks: bool| if asks { lab.layer().fingerprint(FingerprintRules::new().trailers()) } else { lab.layer() };
        let (app, _) = numbered(&layer(first_asks));
        send(&app, trailing(kind, first)).await.assert_first(201, "charge 1");
        let (other, runs) = numbered(&layer(second_asks));
        send(&other, trailing(kind, &[("x-amount", "1")])).await.assert_replay(201, "charge 1");
        assert_eq!(runs.get(), 0);
    }
    let lab = Lab::new();
    let digest = Fingerprint::of([b"POST".as_slice(), b"/pay", b"", GRPC.as_bytes(), b"abc"]);
    for before in [digest.clone(), digest.scheme_2(Some(b""), [])] {
        let (mode, lease) = (Mode::AtMostOnce, Duration::from_secs(60));
        let claim = Claim { fingerprint: before, mode, lease, request: None, labels: Labels::new() };
        tower_idempotency::spi::Ledger::new(lab.store.clone()).apply(&stored_key("k"), None, claim).await.unwrap();
        let (app, _) = numbered(&lab.layer());
        send(&app, trailing(GRPC, &[("x-amount", "1")])).await.assert_problem("in-progress", 409);
    }
}
