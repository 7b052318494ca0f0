//! From a 202 to the result.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt};
use tower_idempotency::client::{Accepted, ClientErrorKind, RetryLayer};
use tower_idempotency::{Background, IdempotencyLayer, StatusService};

use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::{Lab, completer, operation, reply, secs, serve};
use crate::{Does, Got, Remote, Upload, call, elapsed, got, layer, post, request, responds};

const ACCEPTED: [(&str, &str); 3] =
    [("location", "/operations/17"), ("preference-applied", "respond-async"), ("retry-after", "1")];

fn status(state: &str) -> Does {
    let body = match state {
        "running" => r#"{"state":"running","attempts":1,"steps_done":1,"steps":[{"name":"order","state":"done"}]}"#,
        "parked" => r#"{"state":"parked"}"#,
        "complete" => r#"{"state":"complete"}"#,
        other => panic!("{other}"),
    };
    responds(200, &[("retry-after", "2")], body)
}

#[tokio::test(start_paused = true)]
async fn a_202_is_followed_to_the_response_of_the_same_request() {
    let seen_progress = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen_progress);
    let following = layer().on_progress(move |progress| {
        let steps: Vec<_> = progress.steps().map(|(name, state)| format!("{name} {state}")).collect();
        told.lock().unwrap().push((progress.state().to_owned(), progress.attempts(), progress.steps_done(), steps));
    });
    for end in ["complete", "parked"] {
        let script =
            [responds(202, &ACCEPTED, ""), status("running"), Does::Fails, responds(503, &[], ""), status(end)];
        let remote = Remote::that(script);
        let (ended, time) = elapsed(call(&following, &remote, post())).await;
        let ended = ended.unwrap();
        assert_eq!((ended.status.as_u16(), &*ended.body, ended.tries()), (200, b"done".as_slice(), 2));
        assert!((secs(2)..secs(3)).contains(&time), "{time:?}");
        let seen = remote.seen();
        assert_eq!(seen.len(), 6);
        for look in &seen[1..5] {
            assert_eq!((&look.head.method, look.head.uri.path()), (&Method::GET, "/operations/17"));
            assert_eq!(
                (look.head.headers["authorization"].as_bytes(), look.key()),
                (b"Bearer secret".as_slice(), None)
            );
            assert!(!look.head.headers.contains_key("content-type") && look.body.is_empty());
        }
        let sent = |at: usize| (&seen[at].head.headers, &seen[at].head.uri, &seen[at].body);
        assert_eq!(sent(0), sent(5));
        let progress = std::mem::take(&mut *seen_progress.lock().unwrap());
        assert_eq!(progress[0], ("running".to_owned(), 1, 1, vec!["order done".to_owned()]));
        assert_eq!((progress.len(), &*progress[1].0), (2, end));
    }
}

#[tokio::test(start_paused = true)]
async fn a_202_is_final_where_it_is_not_followed() {
    let remote = Remote::that([responds(202, &ACCEPTED, "later")]);
    let got = call(&layer(), &remote, post()).await.unwrap();
    assert_eq!((got.status.as_u16(), &*got.body, remote.seen().len()), (202, b"later".as_slice(), 1));
    assert_eq!(got.extensions.get::<Accepted>().unwrap().uri(), "https://api.example.com/operations/17");
    for headers in [
        vec![("location", "/operations/17")],
        vec![("preference-applied", "respond-async")],
        vec![("location", "/x"), ("preference-applied", "return=minimal")],
        vec![("location", "https://evil.example.org/17"), ("preference-applied", "respond-async")],
    ] {
        let remote = Remote::that([responds(202, &headers, "")]);
        let got = call(&layer().follow(), &remote, post()).await.unwrap();
        assert_eq!((got.status.as_u16(), remote.seen().len()), (202, 1), "{headers:?}");
    }
}

/// It could run again: its record may be gone.
#[tokio::test(start_paused = true)]
async fn a_status_resource_that_is_lost_is_an_error_and_nothing_is_sent_again() {
    for (does, status) in
        [(responds(404, &[], ""), 404), (responds(200, &[], "no json"), 200), (responds(401, &[], ""), 401)]
    {
        let remote = Remote::that([responds(202, &ACCEPTED, ""), does]);
        let error = call(&layer().follow(), &remote, post()).await.err().unwrap();
        assert!(matches!(error.kind(), ClientErrorKind::NotFollowed(other) if *other == status), "{error}");
        assert_eq!((remote.seen().len(), error.tries()), (2, 1));
        assert!(error.key().is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_following_too() {
    let script = std::iter::once(responds(202, &ACCEPTED, "")).chain((0..100).map(|_| status("running")));
    let remote = Remote::that(script);
    let (ended, time) = elapsed(call(&layer().follow().deadline(secs(30)), &remote, post())).await;
    assert!(matches!(ended.err().unwrap().kind(), ClientErrorKind::TimedOut));
    assert!((secs(27)..=secs(30)).contains(&time), "{time:?}");
}

/// The layer, its status resource and a completer, beneath a client's layer.
async fn whole(lab: &Lab, client: &RetryLayer, request: Request<Upload>) -> Got {
    let guarded: IdempotencyLayer = lab.layer().resumable().background(Background::at("/operations"));
    let app = serve(&guarded, |request| async move {
        let operation = operation(&request);
        let order = operation.step("order", |_| async {
            tokio::time::sleep(secs(5)).await;
            Ok::<_, Failure>(17)
        });
        order.await.unwrap();
        Ok(reply(201, "paid"))
    });
    let status = StatusService::new(&guarded);
    let completer = completer(&guarded, &app);
    let running = tokio::spawn(async move { completer.run(std::future::pending()).await });
    let service = tower::service_fn(move |request: Request<Upload>| {
        let (app, status) = (app.clone(), status.clone());
        async move {
            let request = request.map(|body| body.0);
            let response = if request.uri().path().starts_with("/operations") {
                status.oneshot(request).await.unwrap().map(|body| body.map_err(Failure::from).boxed_unsync())
            } else {
                app.oneshot(request).await?.map(|body| body.boxed_unsync())
            };
            Ok::<http::Response<TestBody>, Failure>(response)
        }
    });
    let got = got(client.layer(service).oneshot(request).await.unwrap()).await;
    running.abort();
    got
}

#[tokio::test(start_paused = true)]
async fn an_operation_in_the_background_is_followed_and_acknowledged() {
    let lab = Lab::new();
    let mut later = post();
    later.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    let got = whole(&lab, &layer().follow(), later).await;
    assert_eq!((got.status.as_u16(), &*got.body, got.tries()), (201, b"paid".as_slice(), 2));
    assert_eq!(got.headers["idempotent-replayed"], "true");
    let accepted = got.extensions.get::<Accepted>().unwrap();
    let acknowledgement: Request<Upload> = accepted.acknowledgement();
    assert_eq!(acknowledgement.method(), Method::DELETE);
    assert_eq!(acknowledgement.headers()["authorization"], "Bearer secret");
    assert_eq!(whole(&lab, &layer(), acknowledgement).await.status, 204);
    // After the grace it is forgotten.
    tokio::time::sleep(Duration::from_secs(11 * 60)).await;
    let mut look = request(Method::GET);
    *look.uri_mut() = accepted.uri().clone();
    assert_eq!(whole(&lab, &layer(), look).await.status, 404);
}
