//! A key that is a member of the body.

use http::{HeaderName, Request, StatusCode};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::core::InvalidKey;
use tower_idempotency::{Background, Completer, IdempotencyLayer, KeyMember, KeyRules, Refusal, Scope, StoredBody};

use crate::support::Count;
use crate::support::bodies::{Failure, TestBody, full};
use crate::support::lab::{Answer, App, Lab, completer, numbered, operation, reply, secs, send, serve, with};

fn at(lab: &Lab, pointer: &str) -> IdempotencyLayer {
    lab.layer().key_member(KeyMember::at(pointer).unwrap())
}

fn sent(body: &str) -> Request<TestBody> {
    Request::post("/pay").header("content-type", "application/json").body(full(body.to_owned())).unwrap()
}

#[track_caller]
fn assert_invalid(answer: &Answer, why: InvalidKey) {
    answer.assert_problem("invalid-key", 400);
    assert_eq!(answer.refusal, Some(Refusal::InvalidKey(why)));
}

#[tokio::test]
async fn the_key_is_where_the_pointer_says() {
    for (pointer, body) in [
        ("/idempotency_key", r#"{"amount":1,"idempotency_key":"k"}"#),
        ("/requestHeader/requestId", r#"{"requestId":"x","requestHeader":{"a":[{}],"requestId":"k"}}"#),
        ("/a~1b/m~0n/", r#" {"a/b":{"m~n":{"":"k"}}} "#),
        ("/~01", r#"{"~1":"k"}"#),
        ("/é", r#"{"\u00e9":"\u006b"}"#),
    ] {
        let lab = Lab::new();
        let (app, _) = numbered(&at(&lab, pointer));
        send(&app, sent(body)).await.assert_first(201, "charge 1");
        send(&app, sent(body)).await.assert_replay(201, "charge 1");
        // The rest of the body is part of the request.
        send(&app, sent(&format!("{body} "))).await.assert_problem("key-reused", 422);
        // The key of a header is the same key.
        send(&app, with(sent(body), "idempotency-key", "\"k\"")).await.assert_replay(201, "charge 1");
    }
}

#[tokio::test]
async fn without_the_member_there_is_no_key() {
    let bodies =
        ["", "{}", "[]", "null", "1", "\"k\"", "no JSON", r#"{"a":"k"}"#, r#"{"k":{"k":"k"}}x"#, r#"{"k":"k""#];
    let lab = Lab::new();
    let layer = at(&lab, "/k");
    let (app, _) = numbered(&layer);
    for (run, body) in bodies.iter().enumerate() {
        send(&app, sent(body)).await.assert_first(201, &format!("charge {}", run + 1));
    }
    let (app, runs) = numbered(&layer.required());
    for body in bodies {
        send(&app, sent(body)).await.assert_problem("missing-key", 400);
    }
    assert_eq!((runs.get(), lab.store.calls()), (0, 0));
    // One in the header will do.
    send(&app, with(sent("{}"), "idempotency-key", "k")).await.assert_first(201, "charge 1");
}

#[tokio::test]
async fn what_is_no_key_is_refused_with_its_reason() {
    let lab = Lab::new();
    let (app, runs) = numbered(&at(&lab, "/a/k").key_rules(KeyRules::new().max_length(5)));
    for (body, why) in [
        (r#"{"a":{"k":17}}"#, InvalidKey::NotString),
        (r#"{"a":{"k":null}}"#, InvalidKey::NotString),
        (r#"{"a":{"k":["x"]}}"#, InvalidKey::NotString),
        (r#"{"a":{"k":{"k":"x"}}}"#, InvalidKey::NotString),
        (r#"{"a":{"k":""}}"#, InvalidKey::Empty),
        (r#"{"a":{"k":"é"}}"#, InvalidKey::Syntax),
        (r#"{"a":{"k":"a\nb"}}"#, InvalidKey::Syntax),
        (r#"{"a":{"k":"123456"}}"#, InvalidKey::TooLong),
        (r#"{"a":{"k":"x","k":"x"}}"#, InvalidKey::Twice),
        (r#"{"a":{"k":"x"},"b":1,"a":{}}"#, InvalidKey::Twice),
    ] {
        assert_invalid(&send(&app, sent(body)).await, why);
    }
    let both = with(sent(r#"{"a":{"k":"one"}}"#), "idempotency-key", "two");
    let refused = send(&app, both).await;
    assert_invalid(&refused, InvalidKey::Differs);
    assert!(refused.text().contains("are different"), "{}", refused.text());
    // The header is looked at before the body comes.
    let broken = with(sent("{}"), "idempotency-key", "a,b");
    assert_invalid(&send(&app, broken).await, InvalidKey::Syntax);
    assert_eq!((runs.get(), lab.store.calls()), (0, 0));
}

#[tokio::test]
async fn any_text_of_the_body_is_a_key_of_its_own() {
    let lab = Lab::new();
    let (app, runs) = numbered(&at(&lab, "/k").key_rules(KeyRules::new().strict()));
    let keys = [r"a", r"A", r"a b", r#"a\"b"#, r"a\\b", r"a,b;c", r#"\"a\""#];
    for key in keys {
        let body = format!(r#"{{"k":"{key}"}}"#);
        assert_eq!(send(&app, sent(&body)).await.status, StatusCode::CREATED, "{key}");
        assert!(send(&app, sent(&body)).await.is_replay(), "{key}");
    }
    assert_eq!(runs.get(), keys.len());
}

#[tokio::test]
async fn a_body_is_read_within_the_limits_of_the_layer() {
    let lab = Lab::new();
    let (app, runs) = numbered(&at(&lab, "/k").request_limit(9).skip(|parts| parts.uri.path() == "/long"));
    send(&app, sent(r#"{"k":"x"}"#)).await.assert_first(201, "charge 1");
    for body in [r#"{"k":"x"} "#, "no key in it"] {
        send(&app, sent(body)).await.assert_problem("body-too-large", 413);
    }
    let mut long = sent("as long as it likes");
    *long.uri_mut() = "/long".parse().unwrap();
    send(&app, long).await.assert_first(201, "charge 2");
    assert_eq!(runs.get(), 2);
}

/// It may talk both ways, and would hang.
#[tokio::test]
async fn a_call_of_grpc_is_not_read_for_its_key() {
    let lab = Lab::new();
    let (app, _) = numbered(&at(&lab, "/k").request_limit(1));
    let mut call = sent(r#"{"k":"x"}"#);
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    *call.version_mut() = http::Version::HTTP_2;
    send(&app, call).await.assert_first(201, "charge 1");
    assert_eq!(lab.store.calls(), 0);
}

fn echoing(layer: &IdempotencyLayer) -> App {
    serve(layer, |request| async move {
        let has_operation = request.extensions().get::<tower_idempotency::Operation>().is_some();
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
        Ok(reply(200, format!("{has_operation} {}", String::from_utf8_lossy(&body))))
    })
}

#[tokio::test]
async fn the_handler_gets_the_body_whether_it_has_a_key_or_not() {
    let lab = Lab::new();
    let app = echoing(&at(&lab, "/k").echo_key());
    send(&app, sent(r#"{"k":"x"}"#)).await.assert_first(200, r#"true {"k":"x"}"#);
    let without = send(&app, sent(r#"{"l":"x"}"#)).await;
    without.assert_first(200, r#"false {"l":"x"}"#);
}

#[tokio::test]
async fn a_scope_that_can_not_be_told_is_refused() {
    let lab = Lab::new();
    let scope = Scope::header(HeaderName::from_static("x-tenant"));
    let layer = lab.layer_for(scope).key_member(KeyMember::at("/k").unwrap());
    let (app, _) = numbered(&layer);
    send(&app, sent(r#"{"k":"x"}"#)).await.assert_problem("scope-unknown", 403);
    for (at, tenant) in ["a", "b"].into_iter().enumerate() {
        let answer = send(&app, with(sent(r#"{"k":"x"}"#), "x-tenant", tenant)).await;
        answer.assert_first(201, &format!("charge {}", at + 1));
    }
}

/// The body is stored, and its key with it; the claim is the completer's.
#[tokio::test(start_paused = true)]
async fn a_completer_finishes_it_under_the_same_key() {
    let lab = Lab::new();
    let layer = at(&lab, "/k").resumable();
    let app =
        serve(
            &layer,
            |request| async move { Ok(reply(if operation(&request).attempt() == 1 { 503 } else { 200 }, "")) },
        );
    send(&app, sent(r#"{"k":"x"}"#)).await.assert_first(503, "");
    tokio::time::advance(secs(60 * 60)).await;
    assert_eq!(completer(&layer, &app).run_once().await.unwrap().completed, 1);
    send(&app, sent(r#"{"k":"x"}"#)).await.assert_replay(200, "");
}

/// A clone of the layer within it lets pass what the completer drives, as it lets pass its
/// client's. Whose request it is can't be told from what is stored, and so what is sent on
/// to another target does not pass.
#[tokio::test]
async fn a_completer_drives_through_a_clone_of_the_layer() {
    for (target, passed) in [("/pay", 1), ("/other", 0)] {
        let lab = Lab::new();
        let layer = lab.layer_for(Scope::extension::<u64>()).key_member(KeyMember::at("/k").unwrap());
        let layer = layer.resumable().background(Background::at("/operations").always());
        let runs = Count::default();
        let count = runs.clone();
        let handler = service_fn(move |_| {
            count.up();
            async { Ok::<_, Failure>(reply(201, "done")) }
        });
        let inner = layer.layer(handler).map_request(move |mut request: Request<_>| {
            *request.uri_mut() = target.parse().unwrap();
            request
        });
        let app = BoxCloneSyncService::new(layer.layer(inner));
        let mut request = sent(r#"{"k":"x"}"#);
        request.extensions_mut().insert(7_u64);
        assert_eq!(app.clone().oneshot(request).await.unwrap().status(), 202);
        let completer = Completer::new(&layer, app.map_request(|request: Request<StoredBody>| request.map(full)));
        assert_eq!((completer.run_once().await.unwrap().completed, runs.get()), (passed, passed), "{target}");
    }
}

#[test]
fn a_pointer_that_is_none_says_how_to_write_it() {
    for (pointer, error) in [
        ("", "an empty JSON pointer is the whole body: name a member of it"),
        ("a/b", "write the JSON pointer `a/b` as `/a/b`"),
        ("/a~", "in the JSON pointer `/a~`, write a tilde as `~0`"),
        ("/~2", "in the JSON pointer `/~2`, write a tilde as `~0`"),
    ] {
        assert_eq!(KeyMember::at(pointer).unwrap_err().to_string(), error);
    }
}
