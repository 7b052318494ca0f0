//! What is tried again, how often, and after which pause.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, UNIX_EPOCH};
use std::{fmt, io};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use tokio::task::coop::poll_proceed;
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::Backoff;
use tower_idempotency::client::{ClientErrorKind, RetryLayer, Sent};

use crate::support::bodies::{Failure, TestBody};
use crate::support::lab::secs;
use crate::{Does, Remote, Upload, call, elapsed, got, layer, post, problem, request, responds};

/// Where a call ends, as soon as the server responds so: with these statuses, in order.
async fn statuses(script: Vec<Does>, method: Method) -> (Vec<u16>, usize) {
    let remote = Remote::that(script);
    let got = call(&layer(), &remote, request(method)).await.unwrap();
    (vec![got.status.as_u16()], remote.seen().len())
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again() {
    for status in [408, 425, 429, 502, 503, 504] {
        assert_eq!(statuses(vec![responds(status, &[], "")], Method::POST).await, (vec![200], 2), "{status}");
    }
    for (status, name) in
        [(409, "in-progress"), (423, "in-progress"), (409, "record-newer"), (409, "unfinished"), (500, "interrupted")]
    {
        assert_eq!(statuses(vec![problem(status, name)], Method::POST).await, (vec![200], 2), "{status} {name}");
    }
    let in_use = r#"{"error":{"type":"idempotency_error","code":"idempotency_key_in_use"}}"#;
    let by_type = r#"{"type":"https://docs.example.com/problems#in-progress"}"#;
    for body in [in_use, by_type] {
        assert_eq!(statuses(vec![responds(409, &[], body)], Method::POST).await, (vec![200], 2), "{body}");
    }
    assert_eq!(statuses(vec![Does::Fails, Does::Fails], Method::POST).await, (vec![200], 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_final_is_not_tried_again() {
    for status in [200, 201, 204, 202, 303, 400, 401, 403, 404, 409, 410, 412, 413, 422, 423, 500, 501, 505] {
        let (last, sent) = statuses(vec![responds(status, &[("retry-after", "1")], "no problem")], Method::POST).await;
        assert_eq!((last, sent), (vec![status], 1), "{status}");
    }
    for (status, name) in
        [(422, "key-reused"), (409, "key-reused"), (500, "outcome-unknown"), (500, "record-corrupt"), (409, "conflict")]
    {
        assert_eq!(statuses(vec![problem(status, name)], Method::POST).await, (vec![status], 1), "{status} {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_server_advises_counts_more_than_the_status() {
    for name in ["stripe-should-retry", "x-should-retry"] {
        for (status, said, sent) in [(409, "true", 2), (500, "true", 2), (503, "false", 1), (429, "false", 1)] {
            let script = vec![responds(status, &[(name, said)], "")];
            assert_eq!(statuses(script, Method::POST).await.1, sent, "{name}: {said} with {status}");
        }
        // Neither, so the status counts. A success needs no retry.
        assert_eq!(statuses(vec![responds(503, &[(name, "perhaps")], "")], Method::POST).await.1, 2);
        assert_eq!(statuses(vec![responds(200, &[(name, "true")], "")], Method::POST).await.1, 1);
    }
}

/// RFC 9110 §9.2.2.
#[tokio::test(start_paused = true)]
async fn what_is_idempotent_needs_no_key() {
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let remote = Remote::that([responds(503, &[], "")]);
        call(&layer(), &remote, request(method.clone())).await.unwrap();
        let seen = remote.seen();
        assert_eq!(seen.len(), 2, "{method}");
        assert!(seen.iter().all(|seen| seen.key().is_none()), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_server_gets_a_request_once_and_as_it_is() {
    for uri in ["https://other.example.com/payments", "http://api.example.com/payments", "/payments"] {
        for does in [responds(503, &[], ""), Does::Fails] {
            let remote = Remote::that([does]);
            let mut request = post();
            *request.uri_mut() = uri.parse().unwrap();
            let ended = call(&layer(), &remote, request).await;
            assert!(ended.is_err() || ended.is_ok_and(|got| got.status == 503));
            let seen = remote.seen();
            assert_eq!((seen.len(), seen[0].key()), (1, None), "{uri}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_response_or_error_is_the_callers() {
    let remote = Remote::that((0..9).map(|_| responds(503, &[], "not now")));
    let got = call(&layer().max_tries(3), &remote, post()).await.unwrap();
    assert_eq!((got.status, &*got.body, got.tries()), (StatusCode::SERVICE_UNAVAILABLE, b"not now".as_slice(), 3));
    let seen = remote.seen();
    assert_eq!(seen.len(), 3);

    let remote = Remote::that((0..9).map(|_| Does::Fails));
    let error = call(&layer().max_tries(2), &remote, post()).await.err().unwrap();
    assert!(matches!(error.kind(), ClientErrorKind::Service(_)), "{error:?}");
    assert_eq!(error.to_string(), "try 2 failed: the connection was reset; call again with the same key");
    assert_eq!((error.tries(), error.key().unwrap().as_str()), (2, remote.seen()[0].key().unwrap()));
}

/// As hyper and reqwest have a wrong certificate: in an error of theirs, in one of io, where no
/// `source` shows it.
#[derive(Debug)]
struct Connect(io::Error);

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("client error (Connect)")
    }
}

impl Error for Connect {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_no_retry_can_mend_ends_a_call() {
    let is_final = |error: &(dyn Error + 'static)| error.downcast_ref() == Some(&Failure("wrong certificate"));
    let tries_of = |layer: RetryLayer, text: &'static str| async move {
        let service = service_fn(move |_: Request<Upload>| async move {
            Err::<Response<TestBody>, _>(Connect(io::Error::new(io::ErrorKind::InvalidData, Failure(text))))
        });
        let error = layer.layer(service).oneshot(post()).await.err().unwrap();
        assert!(matches!(error.kind(), ClientErrorKind::Service(_)) && error.key().is_some(), "{error}");
        error.tries()
    };
    assert_eq!(tries_of(layer().final_errors(is_final), "wrong certificate").await, 1);
    assert_eq!(tries_of(layer().final_errors(is_final), "connection refused").await, 8);
    assert_eq!(tries_of(layer(), "wrong certificate").await, 8);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_hangs_is_given_up() {
    let remote = Remote::that([Does::Hangs]);
    let (got, time) = elapsed(call(&layer().try_timeout(secs(5)), &remote, post())).await;
    assert_eq!(got.unwrap().tries(), 2);
    assert!((secs(5)..secs(6)).contains(&time), "{time:?}");
}

/// A body that comes faster than its reader can take it, and so uses up the reader's share of
/// the runtime in each turn, or takes no part in such shares. It ends at last, for a test that would not.
struct Flood {
    frames: u32,
    shares: bool,
}

impl Body for Flood {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.shares {
            ready!(poll_proceed(cx)).made_progress();
        }
        self.frames -= 1;
        Poll::Ready((self.frames > 0).then(|| Ok(Frame::data(Bytes::new()))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_that_always_has_more_is_given_up() {
    for shares in [true, false] {
        let flood = move || Flood { frames: 100_000, shares };
        let app = service_fn(move |_: Request<Upload>| async move { Ok::<_, Infallible>(Response::new(flood())) });
        tokio::spawn(tokio::time::advance(secs(9)));
        let ended = layer().deadline(secs(8)).layer(app).oneshot(post()).await;
        assert!(ended.is_err_and(|error| matches!(error.kind(), ClientErrorKind::TimedOut)), "it has no end");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_call_in_whatever_it_is() {
    // In a try.
    let remote = Remote::that([Does::Hangs, Does::Hangs]);
    let hanging = layer().try_timeout(secs(5)).deadline(secs(8));
    let (ended, time) = elapsed(call(&hanging, &remote, post())).await;
    assert!(matches!(ended.err().unwrap().kind(), ClientErrorKind::TimedOut));
    assert!((secs(8)..=secs(8) + Duration::from_millis(1)).contains(&time), "{time:?}");
    // A pause that would outlast it is not begun.
    let remote = Remote::that([responds(503, &[("retry-after", "30")], "")]);
    let (ended, time) = elapsed(call(&layer().deadline(secs(8)), &remote, post())).await;
    assert_eq!((ended.unwrap().status.as_u16(), time), (503, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for_in_both_forms_up_to_a_limit() {
    let date = |seconds| httpdate::fmt_http_date(UNIX_EPOCH + secs(seconds));
    let (now, then) = (date(784_111_777), date(784_111_784));
    let long_ago = date(1);
    for (headers, least) in [
        (vec![("retry-after", "7")], 7),
        (vec![("retry-after", " 7 ")], 7),
        // By the server's clock, whatever ours says.
        (vec![("retry-after", &*then), ("date", &*now)], 7),
        (vec![("retry-after", &*long_ago)], 0),
        (vec![("retry-after", "soon")], 0),
        (vec![("retry-after", "-7")], 0),
        (vec![("retry-after", "")], 0),
        (vec![("retry-after", "99999999999999999999999")], 60),
        (vec![("retry-after", "61")], 60),
    ] {
        let remote = Remote::that([responds(503, &headers, "")]);
        call(&layer(), &remote, post()).await.unwrap();
        let seen = remote.seen();
        let pause = seen[1].at - seen[0].at;
        assert!((secs(least)..secs(least) + Duration::from_millis(20)).contains(&pause), "{headers:?}: {pause:?}");
    }
    let remote = Remote::that([responds(503, &[("retry-after", "3600")], "")]);
    let patient = layer().retry_after_limit(secs(4000)).deadline(secs(4000));
    let (_, time) = elapsed(call(&patient, &remote, post())).await;
    assert!(time >= secs(3600), "{time:?}");
}

#[tokio::test(start_paused = true)]
async fn pauses_are_jittered_and_grow_up_to_a_cap() {
    let growing = layer().backoff(Backoff::new(secs(1), secs(4))).max_tries(5);
    let (mut longest, mut shortest) = (Duration::ZERO, secs(9));
    for _ in 0..100 {
        let remote = Remote::that((0..4).map(|_| responds(503, &[], "")));
        call(&growing.clone().budget(1_000_000, 0), &remote, post()).await.unwrap();
        let seen = remote.seen();
        for (pause, most) in seen.windows(2).map(|two| two[1].at - two[0].at).zip([1, 2, 4, 4]) {
            assert!(pause <= secs(most) + Duration::from_millis(1), "{pause:?} of {most}");
            (longest, shortest) = (longest.max(pause), shortest.min(pause));
        }
    }
    assert!(longest > secs(3) && shortest < Duration::from_millis(200), "{shortest:?} to {longest:?}");
}

#[tokio::test(start_paused = true)]
async fn retries_of_all_calls_together_have_a_budget() {
    let budgeted = layer().budget(1, 0).max_tries(100);
    let remote = Remote::that((0..1000).map(|_| responds(503, &[], "")));
    for _ in 0..5 {
        assert_eq!(call(&budgeted, &remote, post()).await.unwrap().status, 503);
    }
    // Those of ten seconds, and the five that were sent first.
    let sent = remote.seen().len();
    assert!((15..=17).contains(&sent), "{sent}");
    tokio::time::sleep(secs(11)).await;
    let got = call(&budgeted, &remote, post()).await.unwrap();
    assert!(got.tries() > 5, "{}", got.tries());
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_followed_at_its_origin_and_nowhere_else() {
    for status in [307, 308] {
        let place = format!("{}/v2/payments", crate::ORIGIN);
        for location in ["/v2/payments", &*place] {
            let remote = Remote::that([responds(status, &[("location", location)], "")]);
            assert_eq!(call(&layer(), &remote, post()).await.unwrap().status, 200);
            let seen = remote.seen();
            let sent = (seen[1].head.uri.to_string(), seen[1].head.method.clone(), &*seen[1].body);
            assert_eq!(sent, (place.clone(), Method::POST, b"1999".as_slice()), "{location}");
            assert_eq!(seen[0].key(), seen[1].key());
        }
        let others =
            ["https://evil.example.org/", "http://api.example.com/", "https://api.example.com:444/", "//evil.org/", ""];
        for location in others {
            let remote = Remote::that([responds(status, &[("location", location)], "")]);
            let got = call(&layer(), &remote, post()).await.unwrap();
            assert_eq!((got.status.as_u16(), remote.seen().len()), (status, 1), "{location}");
        }
    }
    // A second server that is declared is another origin, too.
    let both = layer().server(tower_idempotency::client::Server::honours_keys("https://b.example.com").unwrap());
    let remote = Remote::that([responds(307, &[("location", "https://b.example.com/")], "")]);
    assert_eq!(call(&both, &remote, post()).await.unwrap().status, 307);
    // In a circle.
    let remote = Remote::that((0..50).map(|_| responds(307, &[("location", "/payments")], "")));
    let got = call(&layer(), &remote, post()).await.unwrap();
    assert_eq!((got.status.as_u16(), remote.seen().len()), (307, 6));
}

/// What the guarded service says is what the client goes by.
#[tokio::test(start_paused = true)]
async fn a_request_that_the_layer_still_runs_is_waited_for() {
    use crate::support::lab::{Lab, reply, serve};
    let served = serve(&Lab::new().layer(), |_| async {
        tokio::time::sleep(secs(20)).await;
        Ok(reply(201, "paid"))
    });
    // Its body is of another type there.
    let app = service_fn(move |request: Request<Upload>| served.clone().oneshot(request.map(|body| body.0)));
    let client = layer().try_timeout(secs(2)).max_tries(50).layer(app);
    let got = got(client.oneshot(post()).await.unwrap()).await;
    assert_eq!((got.status.as_u16(), &*got.body), (201, b"paid".as_slice()));
    assert_eq!(got.headers["idempotent-replayed"], "true");
    assert!(got.extensions.get::<Sent>().unwrap().tries() > 5);
}
