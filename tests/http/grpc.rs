//! Calls of gRPC: those whose method is named are guarded, and refused in gRPC's own way;
//! the body of any other is not touched.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body::Body as _;
use tokio::time::advance;
use tower::ServiceExt;
use tower_idempotency::core::InvalidKey;
use tower_idempotency::maintenance::{Covers, Window};
use tower_idempotency::{Background, EventKind, GrpcMethods, IdempotencyLayer, KeyRules, Operator, Refusal};

use crate::support::bodies::{Part, TestBody, data, full, script};
use crate::support::lab::{Answer, Lab, gated, grpc, numbered, reply, send, send_now, serve, spawn, unkeyed, with};
use crate::support::settle;

const CHARGE: &str = "/shop.Payments/Charge";
const TALK: &str = "/shop.Chat/Talk";

fn call_with(path: &str, body: TestBody) -> Request<TestBody> {
    let request = Request::post(path).version(Version::HTTP_2).header("content-type", "application/grpc");
    request.header("te", "trailers").body(body).unwrap()
}

fn call(path: &str, key: &str) -> Request<TestBody> {
    with(call_with(path, full("\0\0\0\0\x02{}")), "idempotency-key", key)
}

fn charge() -> GrpcMethods {
    GrpcMethods::named([CHARGE]).unwrap()
}

/// What a client of gRPC takes from the answer: status, problem, message.
#[track_caller]
fn refused(answer: &Answer) -> (&str, &str, &str) {
    let header = |name| answer.headers.get(name).map_or("", |value| value.to_str().unwrap());
    assert_eq!((answer.status, header("content-type")), (StatusCode::OK, "application/grpc"), "{answer:?}");
    assert!(answer.body.is_empty(), "trailers alone: {answer:?}");
    assert_eq!(answer.refusal.map(Refusal::name), Some(header("idempotency-problem")));
    assert_eq!(answer.refusal.map(|refusal| refusal.grpc_status().to_string()).as_deref(), Some(header("grpc-status")));
    assert!(!answer.headers.contains_key("retry-after") && !answer.headers.contains_key("link"), "{answer:?}");
    (header("grpc-status"), header("idempotency-problem"), header("grpc-message"))
}

/// `UNAVAILABLE`; what is not guarded goes on.
#[tokio::test(start_paused = true)]
async fn a_call_of_grpc_rests_in_a_maintenance_window() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer().grpc_methods(charge()));
    let operator = Operator::new(lab.store.clone());
    let (_, now) = operator.windows().await.unwrap();
    let window = Window::new(now, now.after(Duration::from_secs(600)), "the database moves");
    operator.plan(window.covers(Covers::Route("/shop.Payments".to_owned()))).await.unwrap();
    let answer = send_now(&app, call(CHARGE, "k")).await;
    let (status, problem, message) = refused(&answer);
    assert_eq!((status, problem), ("14", "maintenance"));
    assert!(!message.contains("database"), "{message}");
    send(&app, call(TALK, "k")).await.assert_first(201, "charge 1");
    tokio::time::sleep(Duration::from_secs(600)).await;
    send_now(&app, call(CHARGE, "k")).await.assert_first(201, "charge 2");
}

#[tokio::test]
async fn methods_of_grpc_that_are_named_are_guarded_and_no_other_is() {
    for layer in [
        |layer: IdempotencyLayer| layer.grpc_methods(charge()),
        |layer: IdempotencyLayer| layer.grpc_methods(GrpcMethods::by(|path| path == CHARGE)),
    ] {
        let lab = Lab::new();
        let (app, _) = numbered(&layer(lab.layer()));
        for body in ["charge 1", "charge 2"] {
            send(&app, call(TALK, "k")).await.assert_first(201, body);
        }
        send(&app, call_with(TALK, full(""))).await.assert_first(201, "charge 3");
        // What is no key is none of the layer's business there.
        send(&app, call(TALK, "\"broken")).await.assert_first(201, "charge 4");
        assert_eq!(lab.store.calls(), 0);
        send(&app, call(CHARGE, "k")).await.assert_first(201, "charge 5");
        send(&app, call(CHARGE, "k")).await.assert_replay(201, "charge 5");
    }
}

#[tokio::test]
async fn by_default_no_method_of_grpc_is_guarded_and_that_is_told_once() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    send(&app, call_with(CHARGE, full(""))).await.assert_first(201, "charge 1");
    assert_eq!(lab.events.count("KeyIgnored"), 0);
    for body in ["charge 2", "charge 3"] {
        send(&app, call(CHARGE, "k")).await.assert_first(201, body);
    }
    send(&app, call(TALK, "k")).await;
    let events = lab.events.all();
    let told: Vec<_> = events.iter().filter(|event| matches!(event.kind, EventKind::KeyIgnored { .. })).collect();
    assert!(matches!(&told[..], [only] if matches!(&only.kind, EventKind::KeyIgnored { method } if method == CHARGE)));
    // A method of HTTP that is not covered is told all the same.
    send(&app, with(unkeyed("PUT"), "idempotency-key", "k")).await;
    assert_eq!(lab.events.count("KeyIgnored"), 2);
}

/// A bidirectional call ends after its response: whatever reads it first hangs.
#[tokio::test]
async fn a_call_that_is_not_named_is_not_read() {
    for layer in [Lab::new().layer(), Lab::new().layer().grpc_methods(charge()).resumable()] {
        let app = serve(&layer, |_| async { Ok(grpc("0", true)) });
        let talk = || with(call_with(TALK, script([data(b"\0\0\0\0\0"), Part::Stall])), "idempotency-key", "k");
        for _ in 0..2 {
            let answer = send_now(&app, talk()).await;
            assert_eq!((answer.headers["grpc-status"].as_bytes(), answer.is_replay()), (b"0".as_slice(), false));
        }
    }
}

/// The operator named it all the same: it is bounded by the time of any upload.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_named_is_refused_in_time() {
    let layer = Lab::new().layer().grpc_methods(GrpcMethods::by(|_| true)).upload_timeout(Duration::from_secs(7));
    let (app, runs) = numbered(&layer);
    let talk = with(call_with(TALK, script([data(b"\0\0\0\0\0"), Part::Stall])), "idempotency-key", "k");
    let client = spawn(&app, talk);
    settle().await;
    advance(Duration::from_secs(7)).await;
    let answer = client.await.unwrap().unwrap();
    assert_eq!(refused(&answer).0, "14");
    assert_eq!(runs.get(), 0);
}

#[tokio::test]
async fn where_a_key_is_required_a_call_that_is_not_named_is_refused() {
    let lab = Lab::new();
    let (app, runs) = numbered(&lab.layer().grpc_methods(charge()).required());
    for request in [call(TALK, "k"), call_with(TALK, full(""))] {
        let answer = send(&app, request).await;
        assert_eq!((refused(&answer).0, refused(&answer).1), ("9", "grpc-method-not-named"));
    }
    let answer = send(&app, call_with(CHARGE, full(""))).await;
    assert_eq!((refused(&answer).0, refused(&answer).1), ("3", "missing-key"));
    assert_eq!((runs.get(), lab.store.calls(), lab.events.count("KeyIgnored")), (0, 0, 0));
    send(&app, call(CHARGE, "k")).await.assert_first(201, "charge 1");

    let of_payments = |parts: &http::request::Parts| parts.uri.path().starts_with("/shop.Payments/");
    for layer in [lab.layer().required_if(of_payments), lab.layer().required().skip(move |parts| !of_payments(parts))] {
        let (app, _) = numbered(&layer);
        for body in ["charge 1", "charge 2"] {
            send(&app, call(TALK, "k")).await.assert_first(201, body);
        }
    }
}

/// Only what is gRPC for certain: the wrong way, requests with a key would pass unguarded.
#[tokio::test]
async fn what_is_no_call_of_grpc_is_guarded_without_a_name() {
    let lab = Lab::new();
    let (app, _) = numbered(&lab.layer());
    let typed = |kind: &str, version: Version| {
        let request = Request::post(TALK).version(version).header("idempotency-key", format!("{kind}{version:?}"));
        request.header("content-type", kind).body(full("")).unwrap()
    };
    let no_calls = [
        ("application/grpc-web+proto", Version::HTTP_2),
        ("application/grpcs", Version::HTTP_2),
        ("application/grp", Version::HTTP_2),
        ("application/json", Version::HTTP_2),
        ("application/grpc", Version::HTTP_11),
    ];
    for (kind, version) in no_calls {
        send(&app, typed(kind, version)).await;
        assert!(send(&app, typed(kind, version)).await.is_replay(), "{kind} {version:?}");
    }
    let missing = Lab::new().layer().required();
    let request = Request::post(TALK).version(Version::HTTP_2).header("content-type", "application/grpc-web");
    send(&numbered(&missing).0, request.body(full("")).unwrap()).await.assert_problem("missing-key", 400);
    let calls = ["application/grpc+proto", "APPLICATION/gRPC", "application/grpc; charset=utf-8"];
    for (kind, version) in
        calls.map(|kind| (kind, Version::HTTP_2)).into_iter().chain([("application/grpc", Version::HTTP_3)])
    {
        send(&app, typed(kind, version)).await;
        assert!(!send(&app, typed(kind, version)).await.is_replay(), "{kind} {version:?}");
    }
}

#[tokio::test]
async fn a_refusal_of_a_call_is_a_status_of_grpc() {
    let lab = Lab::new();
    let layer = lab.layer().grpc_methods(charge()).request_limit(16);
    let (app, _, gate) = gated(&layer, |_| reply(201, "charged"));
    let first = spawn(&app, call(CHARGE, "k"));
    settle().await;
    let busy = send(&app, call(CHARGE, "k")).await;
    assert_eq!((refused(&busy).0, refused(&busy).1), ("10", "in-progress"));
    assert_eq!(busy.headers["grpc-retry-pushback-ms"], "1000");
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "charged");

    let other = with(call_with(CHARGE, full("\0\0\0\0\x02[]")), "idempotency-key", "k");
    let other = send(&app, other).await;
    let message = "This operation is idempotent and it requires correct usage of Idempotency Key. Idempotency Key MUST not be reused across different payloads of this operation.";
    assert_eq!(refused(&other), ("9", "key-reused", message));
    assert!(!other.headers.contains_key("grpc-retry-pushback-ms"));
    assert_eq!(refused(&send(&app, call(CHARGE, "\"broken")).await).1, "invalid-key");
    let large = with(call_with(CHARGE, full([b'x'; 17].to_vec())), "idempotency-key", "large");
    assert_eq!(refused(&send(&app, large).await).0, "8");
    lab.store.down();
    assert_eq!(refused(&send(&app, call(CHARGE, "down")).await).0, "14");
}

/// Its response was sent once: retries must not take it for a failure.
#[tokio::test]
async fn a_call_whose_response_was_not_kept_is_said_to_be_done() {
    let (app, runs) = numbered(&Lab::new().layer().grpc_methods(charge()).response_limit(1));
    assert_eq!(send(&app, call(CHARGE, "k")).await.unavailable(), Some("size-exceeded"));
    let retry = send(&app, call(CHARGE, "k")).await;
    assert_eq!((refused(&retry).0, refused(&retry).1), ("6", "not-retained"));
    assert_eq!((retry.unavailable(), runs.get()), (Some("size-exceeded"), 1));
}

/// gRPC over HTTP/2, *Responses*: what is not visible ASCII, and the percent sign.
#[tokio::test]
async fn the_message_of_a_status_is_percent_encoded() {
    let rules = KeyRules::new().check(|_| Err("100 % ü\r\nx: y\t~\u{7f}"));
    let (app, _) = numbered(&Lab::new().layer().grpc_methods(charge()).key_rules(rules));
    let answer = send(&app, call(CHARGE, "k")).await;
    assert_eq!(refused(&answer), ("3", "invalid-key", "100 %25 %C3%BC%0D%0Ax: y%09~%7F"));
    assert!(matches!(answer.refusal, Some(Refusal::InvalidKey(InvalidKey::Rejected(_)))));
}

/// A server sends the head of such an answer as trailers only if there is no body.
#[tokio::test]
async fn a_refused_call_has_ended_with_its_head() {
    let (app, _) = numbered(&Lab::new().layer().grpc_methods(charge()).required());
    let response = app.oneshot(call_with(CHARGE, full(""))).await.unwrap();
    assert!(response.body().is_end_stream());
}

/// A hook speaks HTTP, and a 202 is no response of gRPC either.
#[tokio::test]
async fn hooks_and_the_background_leave_calls_alone_and_the_key_is_echoed() {
    let lab = Lab::new();
    let background = Background::at("/operations").always();
    let layer = lab.layer().grpc_methods(charge()).background(background).echo_key().max_running(1);
    let layer = layer.problems(|_, response| response.map(|_| Bytes::from_static(b"no status of gRPC")));
    let (app, _, gate) = gated(&layer, |_| reply(201, "charged"));
    let first = spawn(&app, call(CHARGE, "k"));
    settle().await;
    let full = send(&app, call(CHARGE, "l")).await;
    assert_eq!((refused(&full).1, full.headers["idempotency-key"].as_bytes()), ("overloaded", b"l".as_slice()));
    gate.add_permits(1);
    first.await.unwrap().unwrap().assert_first(201, "charged");
    send(&app, call(CHARGE, "k")).await.assert_replay(201, "charged");
}

#[test]
fn what_is_no_name_of_a_method_is_refused_with_what_to_write() {
    for name in
        ["", "Charge", "shop.Payments/Charge", "/shop.Payments", "//Charge", "/shop/", "/a/b/c", "/a/b?c", "/a/ü"]
    {
        let error = GrpcMethods::named([CHARGE, name]).unwrap_err().to_string();
        assert!(error.contains("\"/package.Service/Method\""), "{name:?}: {error}");
    }
    let error = GrpcMethods::named(<[&str; 0]>::default()).unwrap_err().to_string();
    assert!(error.contains("name one"), "{error}");
}

#[cfg(feature = "prost")]
mod descriptors {
    use prost::Message as _;
    use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};

    use super::*;

    fn method(name: &str, client_streaming: Option<bool>, server_streaming: Option<bool>) -> MethodDescriptorProto {
        MethodDescriptorProto { name: Some(name.to_owned()), client_streaming, server_streaming, ..Default::default() }
    }

    fn file(package: Option<&str>, service: &str, method: Vec<MethodDescriptorProto>) -> FileDescriptorProto {
        let service = ServiceDescriptorProto { name: Some(service.to_owned()), method, ..Default::default() };
        FileDescriptorProto { package: package.map(str::to_owned), service: vec![service], ..Default::default() }
    }

    #[tokio::test]
    async fn the_unary_methods_of_a_descriptor_set_are_named() {
        let (yes, no) = (Some(true), Some(false));
        let all =
            [("Charge", None, None), ("Refund", no, no), ("Feed", yes, no), ("Watch", None, yes), ("Talk", yes, yes)];
        let payments = all.map(|(name, client, server)| method(name, client, server)).to_vec();
        let set = FileDescriptorSet {
            file: vec![
                file(Some("shop"), "Payments", payments),
                file(None, "Bare", vec![method("Charge", None, None)]),
            ],
        };
        let methods = GrpcMethods::unary_in(&set.encode_to_vec()).unwrap();
        let (app, _) = numbered(&Lab::new().layer().grpc_methods(methods));
        for (path, is_named) in [
            ("/shop.Payments/Charge", true),
            ("/shop.Payments/Refund", true),
            ("/shop.Payments/Feed", false),
            ("/shop.Payments/Watch", false),
            ("/shop.Payments/Talk", false),
            ("/shop.Payments/Other", false),
            ("/Bare/Charge", true),
            ("/.Bare/Charge", false),
        ] {
            send(&app, call(path, path)).await;
            assert_eq!(send(&app, call(path, path)).await.is_replay(), is_named, "{path}");
        }
    }

    #[test]
    fn what_is_no_descriptor_set_or_has_no_unary_method_is_refused() {
        let error = GrpcMethods::unary_in(b"\xff\xff").unwrap_err().to_string();
        assert!(error.contains("FileDescriptorSet"), "{error}");
        let streams = file(Some("shop"), "Chat", vec![method("Talk", Some(true), Some(true))]);
        let set = FileDescriptorSet { file: vec![streams] };
        for bytes in [set.encode_to_vec(), vec![]] {
            let error = GrpcMethods::unary_in(&bytes).unwrap_err().to_string();
            assert!(error.contains("name one"), "{error}");
        }
    }
}
