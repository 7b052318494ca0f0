//! Whose key it is.

use http::HeaderName;
use tower_idempotency::Scope;

use crate::support::Count;
use crate::support::lab::{App, Lab, post, reply, send, serve, with};

/// A service whose answers say who asked.
fn secretive(lab: &Lab, scope: Scope) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(&lab.layer_for(scope), move |request| {
        let number = count.up();
        let tenant = request.headers().get("x-tenant").map(|tenant| tenant.to_str().unwrap().to_owned());
        async move { Ok(reply(200, format!("secret of {tenant:?}, run {number}"))) }
    });
    (app, runs)
}

fn by_header() -> Scope {
    Scope::header(HeaderName::from_static("x-tenant"))
}

/// Peer bugs 31 and 33.
#[tokio::test]
async fn two_callers_with_one_key_both_run_and_never_see_each_others_bytes() {
    let lab = Lab::new();
    let (app, runs) = secretive(&lab, by_header());
    for (tenant, run) in [("a", 1), ("b", 2)] {
        let answer = send(&app, with(post("k"), "x-tenant", tenant)).await;
        answer.assert_first(200, &format!("secret of Some(\"{tenant}\"), run {run}"));
    }
    for (tenant, run) in [("a", 1), ("b", 2)] {
        let answer = send(&app, with(post("k"), "x-tenant", tenant)).await;
        answer.assert_replay(200, &format!("secret of Some(\"{tenant}\"), run {run}"));
    }
    assert_eq!(runs.get(), 2);
}

/// Peer bug 37: a scope and a key can't be cut elsewhere.
#[tokio::test]
async fn scope_and_key_do_not_run_together() {
    let lab = Lab::new();
    let (app, runs) = secretive(&lab, by_header());
    for (tenant, key) in [("a", "b:c"), ("a:b", "c"), ("ab", ":c"), ("a", "bc"), ("ab", "c")] {
        let answer = send(&app, with(post(key), "x-tenant", tenant)).await;
        assert!(answer.status == 200 && !answer.is_replay());
    }
    assert_eq!(runs.get(), 5);
}

/// Faults J2: an unknown caller never shares an "anonymous" bucket.
#[tokio::test]
async fn a_request_whose_scope_cannot_be_told_is_refused() {
    let lab = Lab::new();
    let (app, runs) = secretive(&lab, by_header());
    send(&app, post("k")).await.assert_problem("scope-unknown", 403);
    for useless in ["", "  "] {
        send(&app, with(post("k"), "x-tenant", useless)).await.assert_problem("scope-unknown", 403);
    }
    // Two lines: which of them the proxy set is anyone's guess.
    let twice = with(with(post("k"), "x-tenant", "a"), "x-tenant", "b");
    send(&app, twice).await.assert_problem("scope-unknown", 403);
    let mut binary = post("k");
    binary.headers_mut().insert("x-tenant", http::HeaderValue::from_bytes(b"\xff").unwrap());
    send(&app, binary).await.assert_problem("scope-unknown", 403);
    assert_eq!((runs.get(), lab.store.calls()), (0, 0));
}

/// A name that is missing must not become a bucket that strangers share.
#[tokio::test]
async fn a_scope_that_is_empty_is_refused_whoever_says_it() {
    let scopes = [
        Scope::extension::<String>(),
        Scope::by(|parts| parts.extensions.get::<String>().cloned()),
        Scope::by(|parts| parts.extensions.get::<String>().map(|_| "")),
    ];
    for scope in scopes {
        let lab = Lab::new();
        let (app, runs) = secretive(&lab, scope);
        for useless in ["", " ", "\t \n"] {
            let mut request = post("k");
            request.extensions_mut().insert(useless.to_owned());
            send(&app, request).await.assert_problem("scope-unknown", 403);
        }
        assert_eq!((runs.get(), lab.store.calls()), (0, 0));
    }
}

#[tokio::test]
async fn a_request_without_a_key_needs_no_scope() {
    let lab = Lab::new();
    let (app, _) = secretive(&lab, by_header());
    let answer = send(&app, crate::support::lab::unkeyed("POST")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_scope_can_be_an_extension_that_an_outer_layer_set() {
    let lab = Lab::new();
    let (app, runs) = secretive(&lab, Scope::extension::<u64>());
    send(&app, post("k")).await.assert_problem("scope-unknown", 403);
    for user in [1_u64, 2] {
        for is_replay in [false, true] {
            let mut request = post("k");
            request.extensions_mut().insert(user);
            assert_eq!(send(&app, request).await.is_replay(), is_replay);
        }
    }
    assert_eq!(runs.get(), 2);
}

#[tokio::test]
async fn a_scope_can_be_anything_a_closure_says() {
    let lab = Lab::new();
    let scope = Scope::by(|parts| {
        let part = |name| parts.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        Some(format!("{}/{}", part("x-tenant")?, part("x-user")?))
    });
    let (app, runs) = secretive(&lab, scope);
    send(&app, with(post("k"), "x-tenant", "a")).await.assert_problem("scope-unknown", 403);
    for (tenant, user) in [("a", "1"), ("b", "1"), ("a", "2")] {
        let request = with(with(post("k"), "x-tenant", tenant), "x-user", user);
        assert!(!send(&app, request).await.is_replay());
    }
    assert_eq!(runs.get(), 3);
}

/// Peer bug 32: a rotated token is no new caller, where the scope is who it is.
#[tokio::test]
async fn a_rotated_token_is_the_same_caller() {
    let lab = Lab::new();
    let (app, runs) = secretive(&lab, by_header());
    for (token, is_replay) in [("one", false), ("two", true)] {
        let request = with(with(post("k"), "x-tenant", "a"), "authorization", token);
        assert_eq!(send(&app, request).await.is_replay(), is_replay);
    }
    assert_eq!(runs.get(), 1);
}

#[tokio::test]
async fn credentials_under_a_shared_scope_are_told_once() {
    let lab = Lab::new();
    let (app, _) = secretive(&lab, Scope::shared());
    send(&app, post("k1")).await;
    assert_eq!(lab.events.count("SharedScope"), 0);
    for (key, header) in [("k2", "authorization"), ("k3", "cookie"), ("k4", "authorization")] {
        let answer = send(&app, with(post(key), header, "secret")).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(lab.events.count("SharedScope"), 1);
}

/// Neither keys, scopes nor credentials show in what the layer says.
#[tokio::test]
async fn events_and_debug_output_show_no_key_scope_or_credential() {
    let lab = Lab::new();
    let layer = lab.layer_for(by_header());
    let app = serve(&layer, |_| async { Ok(reply(200, "")) });
    let request = || with(with(post("raw-key"), "x-tenant", "raw-tenant"), "authorization", "raw-token");
    send(&app, request()).await;
    send(&app, request()).await;
    let said = format!("{:?} {layer:?}", lab.events.all());
    assert!(lab.events.names().len() > 2);
    assert!(!said.contains("raw-"), "{said}");
}
