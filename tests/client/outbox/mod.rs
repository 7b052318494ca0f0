//! Calls that must be made: accepted once, sent until they have a final response, and listed.

mod driver;
mod listed;

use std::time::Duration;

use http::{Method, Request};
use tower::Layer;
use tower_idempotency::core::{IdempotencyKey, Key, StoredResponse};
use tower_idempotency::outbox::{Call, CallState, Outbox, SendLaterError};
use tower_idempotency::store::StoreErrorKind;
use tower_idempotency::{Backoff, Engine, Operator};

use crate::support::bodies::{Failure, Part, data, full, script};
use crate::support::lab::{Lab, secs};
use crate::support::store::{Call as StoreCall, Fault};
use crate::{Does, ORIGIN, Remote, Seen, Upload, layer, post, responds};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The outbox of a process of its own, which rests for a second at most after an attempt, and
/// whose client tries twice.
pub(crate) fn outbox(lab: &Lab, remote: &Remote) -> Outbox {
    outbox_over(lab.engine(), remote)
}

pub(crate) fn outbox_over(engine: impl Into<Engine>, remote: &Remote) -> Outbox {
    Outbox::new("mail", engine, layer().max_tries(2).layer(remote.clone()))
        .unwrap()
        .backoff(Backoff::new(secs(1), secs(1)))
}

pub(crate) fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::parse(text.as_bytes()).unwrap()
}

pub(crate) async fn later(outbox: &Outbox, text: &str) -> Key {
    outbox.send_later(&key(text), post()).await.unwrap()
}

pub(crate) async fn call(outbox: &Outbox, id: &Key) -> Call {
    outbox.find(id).await.unwrap().expect("a call")
}

pub(crate) async fn ids(outbox: &Outbox, state: CallState) -> Vec<Key> {
    outbox.list(state, None).await.unwrap().calls.iter().map(|call| call.id).collect()
}

fn what(seen: &[Seen]) -> Vec<(&str, &[u8])> {
    seen.iter().map(|seen| (seen.key().unwrap(), seen.body.as_ref())).collect()
}

fn body(response: Option<&StoredResponse>) -> Option<(u16, &[u8])> {
    let response = response?;
    Some((response.status().as_u16(), response.body()?.as_ref()))
}

#[tokio::test(start_paused = true)]
async fn a_call_is_sent_once_with_its_key_and_its_response_is_kept() {
    let (lab, remote) = (Lab::new(), Remote::that([responds(201, &[("x-mail", "7")], "queued")]));
    let mails = outbox(&lab, &remote);
    let id = later(&mails, "welcome-17").await;
    assert!(remote.seen().is_empty(), "it is kept, and no more");
    assert_eq!(ids(&mails, CallState::Waiting).await, [id]);

    let did = mails.run_once().await.unwrap();
    assert_eq!((did.sent, did.put_off, did.needs_attention, did.failed), (1, 0, 0, 0));
    let seen = remote.seen();
    assert_eq!(what(&seen), [("welcome-17", b"1999".as_slice())]);
    assert_eq!((seen[0].head.method.as_str(), seen[0].head.uri.to_string()), ("POST", format!("{ORIGIN}/payments")));
    assert_eq!(seen[0].head.headers["content-type"], "text/plain");

    let sent = call(&mails, &id).await;
    assert_eq!((sent.state, sent.key.as_str(), sent.attempts), (CallState::Sent, "welcome-17", 1));
    assert_eq!(sent.to, format!("POST {ORIGIN}/payments"));
    assert_eq!(body(sent.response.as_deref()), Some((201, b"queued".as_slice())));
    assert_eq!(mails.find_by_key(&key("welcome-17")).await.unwrap().map(|call| call.id), Some(id));
    assert_eq!(ids(&mails, CallState::Sent).await, [id]);
    assert!(ids(&mails, CallState::Waiting).await.is_empty());
    assert_eq!(lab.events.names(), ["CredentialDropped", "Accepted", "Resumed", "Completed"]);
    mails.run_once().await.unwrap();
    assert!(remote.seen().is_empty(), "it is sent, and not again");
}

#[tokio::test(start_paused = true)]
async fn the_same_call_is_one_call_before_and_after_it_was_sent() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let (mails, other) = (outbox(&lab, &remote), outbox(&lab, &remote));
    let id = later(&mails, "a").await;
    assert_eq!(later(&other, "a").await, id, "in another process, too");
    let mut changed = post();
    *changed.body_mut() = Upload(full("2000"));
    let reused = mails.send_later(&key("a"), changed).await.unwrap_err();
    assert!(matches!(reused, SendLaterError::KeyReused), "{reused}");
    for other in [
        Request::put(format!("{ORIGIN}/payments")).header("content-type", "text/plain"),
        Request::post(format!("{ORIGIN}/payments?x=1")).header("content-type", "text/plain"),
        Request::post(format!("{ORIGIN}/payments")).header("content-type", "text/html"),
    ] {
        let reused = mails.send_later(&key("a"), other.body(Upload(full("1999"))).unwrap()).await.unwrap_err();
        assert!(matches!(reused, SendLaterError::KeyReused), "{reused}");
    }
    mails.run_once().await.unwrap();
    assert_eq!(later(&mails, "a").await, id);
    mails.run_once().await.unwrap();
    assert_eq!(what(&remote.seen()), [("a", b"1999".as_slice())]);
    assert_ne!(later(&mails, "b").await, id);
}

/// Not a request that the caller made with another key in its header.
#[tokio::test(start_paused = true)]
async fn the_key_is_the_one_that_names_the_call() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let mails =
        Outbox::new("mail", lab.engine(), layer().key_header("x-key".parse().unwrap()).layer(remote.clone())).unwrap();
    let mut request = post();
    request.headers_mut().insert("x-key", "its-own".parse().unwrap());
    let odd = key(r#""a b""#);
    mails.send_later(&odd, request).await.unwrap();
    mails.run_once().await.unwrap();
    let seen = remote.seen();
    assert_eq!(seen[0].head.headers.get_all("x-key").iter().collect::<Vec<_>>(), [r#""a b""#]);
    assert!(!seen[0].head.headers.contains_key("idempotency-key"));
    assert_eq!(mails.find_by_key(&odd).await.unwrap().unwrap().key, "a b");
}

#[tokio::test(start_paused = true)]
async fn credentials_are_the_clients_unless_they_are_kept() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let mails = outbox(&lab, &remote);
    let request = || {
        let mut request = post();
        request.headers_mut().insert("cookie", "a=b".parse().unwrap());
        request.headers_mut().insert("proxy-authorization", "Basic eA==".parse().unwrap());
        request
    };
    mails.send_later(&key("a"), request()).await.unwrap();
    mails.clone().keep_credentials().send_later(&key("b"), request()).await.unwrap();
    mails.send_later(&key("c"), request()).await.unwrap();
    mails.run_once().await.unwrap();
    let mut seen = remote.seen();
    seen.sort_by_key(|seen| seen.key().unwrap().to_owned());
    let has = |seen: &Seen| {
        ["authorization", "cookie", "proxy-authorization"].map(|name| seen.head.headers.contains_key(name))
    };
    assert_eq!(seen.iter().map(has).collect::<Vec<_>>(), [[false; 3], [true, true, false], [false; 3]]);
    assert_eq!(lab.events.count("CredentialDropped"), 3, "each name is said once: {:?}", lab.events.names());
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_sent_twice_is_refused_and_nothing_is_kept() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let mails = outbox(&lab, &remote).request_limit(4);
    for uri in ["https://other.example.com/", "http://api.example.com/", "/payments"] {
        let refused = mails.send_later(&key("a"), Request::post(uri).body(Upload(full(""))).unwrap()).await;
        assert!(matches!(refused, Err(SendLaterError::NotDeclared)), "{uri}");
    }
    let connect = Request::builder().method(Method::CONNECT).uri(ORIGIN).body(Upload(full(""))).unwrap();
    assert!(matches!(mails.send_later(&key("a"), connect).await, Err(SendLaterError::NotDeclared)));
    let trailers = http::HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
    for (body, says) in [
        (full("12345"), "too large for this outbox; raise request_limit"),
        (script([data(b"1"), Part::Trailers(trailers)]), "has trailers"),
        (script([data(b"1"), Part::Fail(Failure("reset"))]), "can't be read"),
    ] {
        let mut request = post();
        *request.body_mut() = Upload(body);
        let refused = mails.send_later(&key("a"), request).await.unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
    assert_eq!(lab.store.swaps(), 0);
    for name in ["", "a b", "b\u{e4}r", &"n".repeat(65)] {
        assert!(Outbox::new(name, lab.engine(), layer().layer(remote.clone())).is_err(), "{name}");
    }
}

/// The write may have been made: the same call with the same key finds out.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_said_and_the_call_is_none_too_many() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let mails = outbox(&lab, &remote);
    lab.store.down();
    let failed = mails.send_later(&key("a"), post()).await.unwrap_err();
    assert!(matches!(&failed, SendLaterError::Store(error) if error.kind() == StoreErrorKind::Unavailable), "{failed}");
    assert_eq!(lab.events.count("StoreFailed"), 1);
    lab.store.heal();
    assert!(ids(&mails, CallState::Waiting).await.is_empty());
    lab.store.fail_once(StoreCall::Swap(tower_idempotency::Status::Pending), Fault::After);
    let first = mails.send_later(&key("a"), post()).await;
    lab.store.heal();
    let id = later(&mails, "a").await;
    assert_eq!(first.ok().unwrap_or(id), id);
    assert_eq!(ids(&mails, CallState::Waiting).await, [id]);
    mails.run_once().await.unwrap();
    assert_eq!(remote.seen().len(), 1);
}

/// As long as an operator's decision takes, and as often as the server fails.
#[tokio::test(start_paused = true)]
async fn a_response_that_decides_nothing_is_shown_and_the_call_goes_on_when_it_is_told() {
    let unknown = r#"{"code":"outcome-unknown"}"#;
    let (lab, remote) =
        (Lab::new(), Remote::that([responds(500, &[], unknown), responds(401, &[], "who?"), responds(422, &[], "no")]));
    let mails = outbox(&lab, &remote);
    let id = later(&mails, "a").await;
    let operator = Operator::new(lab.store.clone());
    for (said, step, text) in [
        ("status 500 outcome-unknown: what the server did is unknown", "response 1", unknown),
        ("status 401: the server does not know the sender", "response 2", "who?"),
    ] {
        assert_eq!(mails.run_once().await.unwrap().needs_attention, 1);
        let parked = call(&mails, &id).await;
        assert_eq!(parked.state, CallState::NeedsAttention);
        assert!(parked.why.as_ref().unwrap().starts_with(said), "{parked:?}");
        assert_eq!(ids(&mails, CallState::NeedsAttention).await, [id]);
        let shown = operator.show(&id).await.unwrap();
        let tower_idempotency::core::Point::Saved(kept) = shown.record.step(step).unwrap().point() else { panic!() };
        let kept: serde_json::Value = serde_json::from_slice(kept).unwrap();
        assert_eq!(kept["body"]["text"], text, "no response is dropped: {kept}");
        tokio::time::sleep(HOUR).await;
        mails.run_once().await.unwrap();
        assert_eq!(remote.seen().len(), 1, "it waits for an operator");
        operator.retry(&operator.show(&id).await.unwrap()).await.unwrap();
    }
    assert_eq!(mails.run_once().await.unwrap().sent, 1);
    assert_eq!(what(&remote.seen()), [("a", b"1999".as_slice())], "the same key, whatever became of it");
    let sent = call(&mails, &id).await;
    assert_eq!(body(sent.response.as_deref()), Some((422, b"no".as_slice())), "a failure, too");
    assert_eq!((sent.state, sent.attempts, sent.why), (CallState::Sent, 3, None));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_the_server_means_is_the_end_whatever_it_says() {
    for status in [200, 202, 204, 303, 400, 403, 404, 409, 422] {
        let (lab, remote) = (Lab::new(), Remote::that([responds(status, &[], "said")]));
        let mails = outbox(&lab, &remote);
        let id = later(&mails, "a").await;
        mails.run_once().await.unwrap();
        let sent = call(&mails, &id).await;
        assert_eq!(body(sent.response.as_deref()), Some((status, b"said".as_slice())));
    }
}

/// The head is, with the reason.
#[tokio::test(start_paused = true)]
async fn of_a_response_that_is_too_large_or_a_stream_the_head_is_kept() {
    let large = responds(200, &[("x-mail", "7")], "12345");
    let stream = responds(200, &[("content-type", "text/event-stream")], "data: 1");
    let (lab, remote) = (Lab::new(), Remote::that([large, stream]));
    let mails = Outbox::new("mail", lab.engine(), layer().response_limit(4).layer(remote.clone())).unwrap();
    for (text, why) in [("a", "size-exceeded"), ("b", "streaming")] {
        let id = later(&mails, text).await;
        mails.run_once().await.unwrap();
        let response = call(&mails, &id).await.response.unwrap();
        assert_eq!((response.status().as_u16(), response.not_retained().unwrap().name()), (200, why));
        assert_eq!(response.headers().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_forgotten_after_it_was_kept_for_so_long() {
    let (lab, remote) = (Lab::new(), Remote::default());
    let month = secs(30 * 24 * 60 * 60);
    for (mails, kept) in [
        (outbox(&lab, &remote), month),
        (outbox_over(lab.engine().retention(2 * month), &remote), 2 * month),
        (outbox(&lab, &remote).keep(secs(60)), secs(60)),
    ] {
        let id = mails.send_later(&key(&format!("{}", kept.as_secs())), post()).await.unwrap();
        mails.run_once().await.unwrap();
        let shown = Operator::new(lab.store.clone()).show(&id).await.unwrap();
        assert_eq!(shown.record.due().since(shown.record.written_at()), kept);
    }
    let minute = key("60");
    tokio::time::sleep(secs(59)).await;
    assert!(outbox(&lab, &remote).find_by_key(&minute).await.unwrap().is_some());
    tokio::time::sleep(secs(1)).await;
    assert!(outbox(&lab, &remote).find_by_key(&minute).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_has_no_end_needs_attention_after_so_many_attempts_or_so_long() {
    let never = || (0..200).map(|_| Does::Fails);
    let (lab, remote) = (Lab::new(), Remote::that(never()));
    let mails = outbox(&lab, &remote).max_tries(3);
    let id = later(&mails, "a").await;
    for _ in 0..3 {
        assert_eq!(mails.run_once().await.unwrap().put_off, 1);
        let waits = call(&mails, &id).await;
        assert_eq!(waits.state, CallState::Waiting);
        assert!(waits.why.unwrap().contains("the connection was reset"));
        assert!(waits.due.is_some());
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!(mails.run_once().await.unwrap().needs_attention, 1);
    assert_eq!(call(&mails, &id).await.why.as_deref(), Some("it was tried 3 times"));
    assert_eq!(remote.seen().len(), 6, "two tries of the client each");

    let (lab, remote) = (Lab::new(), Remote::that(never()));
    let mails = outbox(&lab, &remote).max_age(HOUR);
    let id = later(&mails, "a").await;
    mails.run_once().await.unwrap();
    tokio::time::sleep(HOUR + secs(1)).await;
    assert_eq!(mails.run_once().await.unwrap().needs_attention, 1);
    assert!(call(&mails, &id).await.why.unwrap().ends_with("seconds old"));
}
