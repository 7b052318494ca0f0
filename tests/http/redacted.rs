//! What clients send, and what handlers make of it, is not for logs: no `Debug`
//! and no error of the public API shows it.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use crate::support;
use crate::support::lab::{Lab, completer, operation, post_body, reply, secs, send, serve};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use tower_idempotency::core::{
    Ask, Change, Claim, Command, Exchange, Fence, Fenced, Fingerprint, IdempotencyKey, Key, Labels, Mode, Next,
    Reached, Record, Resolution, Resolve, Stamp, StoredRequest, StoredResponse, Submit, Timestamp, Version,
};
use tower_idempotency::store::{KeptRecord, Loaded, MemoryStore, Swap};
use tower_idempotency::{Callback, Reconciled, RunError, Runner};

const SECRET: &str = "hunter2";

/// The marker, as text and as a list of its bytes.
#[track_caller]
fn assert_silent(what: &str, value: &dyn Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!text.contains(SECRET), "{what}: {text}");
        let digits: Vec<_> = SECRET.bytes().map(|byte| byte.to_string()).collect();
        assert!(!text.replace(['\n', ' '], "").contains(&digits.join(",")), "{what}: {text}");
    }
}

fn bytes() -> Bytes {
    Bytes::from(format!("{{\"card\":\"{SECRET}\"}}"))
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("x-note"), HeaderValue::from_static(SECRET));
    headers
}

fn request() -> Arc<StoredRequest> {
    let uri: Uri = format!("https://{SECRET}.example/{SECRET}?note={SECRET}").parse().unwrap();
    Arc::new(StoredRequest::capture(&Method::POST, &uri, &headers(), bytes()))
}

fn response() -> Arc<StoredResponse> {
    Arc::new(StoredResponse::capture(StatusCode::OK, &headers(), Some(bytes())))
}

fn claim() -> Claim {
    let fingerprint = Fingerprint::of([SECRET.as_bytes()]).scheme_2(Some(SECRET.as_bytes()), [SECRET.as_bytes()]);
    Claim { fingerprint, mode: Mode::Resumable, lease: secs(30), request: Some(request()), labels: Labels::new() }
}

fn complete() -> Change {
    Change::Complete { response: response(), retention: secs(60), reached: Reached::All }
}

fn changes() -> Vec<Change> {
    let step = || Box::<str>::from("charge");
    vec![
        Change::Begin { step: step() },
        Change::Save { step: step(), value: bytes() },
        Change::Input { step: step(), hash: 7 },
        Change::Fail { step: "refused".into(), error: bytes() },
    ]
}

fn apply(command: &impl Command<Output: Debug>, current: Option<&Record>, nonce: u64) -> Record {
    let decision = command.apply(current, Stamp::new(Timestamp::from_millis(7), Version::new(nonce)));
    assert_silent("Decision", &decision);
    let Next::Put(next) = decision.next else { panic!("nothing to put") };
    next.stamped(Timestamp::from_millis(7))
}

/// With a request and steps, and with an answer.
fn records() -> [Record; 2] {
    let claimed = apply(&claim(), None, 1);
    let fenced = |changes| Fenced { fence: Fence::of(Version::new(1)), changes };
    let steps = apply(&fenced(changes()), Some(&claimed), 2);
    let done = apply(&fenced(vec![complete()]), Some(&steps), 3);
    [steps, done]
}

#[test]
fn no_debug_shows_what_is_kept() {
    assert_silent("StoredRequest", &request());
    assert_silent("StoredResponse", &response());
    for record in records() {
        assert_silent("Record", &record);
        assert_silent("Progress", record.progress());
        assert_silent("steps", &record.steps());
        record.steps().iter().for_each(|step| assert_silent("Point", step.point()));
        assert_silent("history", &record.history());
        assert_silent("Encoded", &record.encode());
        let loaded = Loaded { record: Some(record.clone()), now: Timestamp::from_millis(7) };
        assert_silent("Loaded", &loaded);
        assert_silent("Swap", &Swap::Conflict(loaded));
        assert_silent("Ask", &Ask::Swap { expected: None, next: &record });
    }
    let kept = format!("{:?}", request());
    assert!(kept.contains("POST") && kept.contains("18"), "how much there is may be said: {kept}");
}

#[test]
fn no_debug_of_a_move_shows_what_it_carries() {
    assert_silent("Claim", &claim());
    assert_silent(
        "Submit",
        &Submit {
            fingerprint: claim().fingerprint,
            mode: Mode::Resumable,
            request: request(),
            room: true,
            lease: None,
            labels: Labels::new(),
            outgoing: false,
        },
    );
    let (answer, step) = (response(), || "charge".into());
    let resolutions = [
        Resolution::Respond { response: answer, retention: secs(60) },
        Resolution::StepDone { step: step(), value: bytes() },
    ];
    for resolution in resolutions {
        assert_silent("Resolve", &Resolve { resolution, seen: None, why: None });
    }
    assert_silent("Change", &changes());
    assert_silent("Fenced", &Fenced { fence: Fence::of(Version::new(1)), changes: vec![complete()] });
    assert_silent("Exchange", &Exchange::looking(claim(), Version::new(9)));
    let [_, done] = records();
    let replay = claim().apply(Some(&done), Stamp::new(Timestamp::from_millis(8), Version::new(4)));
    assert_silent("Claimed", &replay);
    assert_silent("Key", &Key::new(SECRET, &IdempotencyKey::parse(SECRET.as_bytes()).unwrap()));
    assert_silent("IdempotencyKey", &IdempotencyKey::parse(SECRET.as_bytes()).unwrap());
}

type Seen = Arc<Mutex<Vec<String>>>;

/// Its type's name, once it is known to show no more.
fn note(seen: &Seen, value: &dyn Debug) {
    assert_silent("hook", value);
    seen.lock().unwrap().push(format!("{value:?}").split([' ', '(']).next().unwrap().to_owned());
}

/// What reaches hooks while requests are served: events, findings, ends, doubts.
#[tokio::test(start_paused = true)]
async fn no_debug_of_what_reaches_hooks_shows_what_a_client_sent() {
    let (lab, clock) = Lab::manual();
    let seen = Seen::default();
    let ends = Arc::clone(&seen);
    let callback = Callback::new(move |ended| {
        note(&ends, &ended);
        async { Ok::<_, std::io::Error>(()) }
    });
    let events = Arc::clone(&seen);
    let layer =
        lab.layer_with(|engine| engine.on_event(move |event| note(&events, event))).resumable().callback(callback);
    let app = serve(&layer, |request| async move {
        let op = operation(&request);
        let _ = op.pay("charge", |_| async { Ok::<_, std::io::Error>(SECRET.to_owned()) }).await;
        Ok(reply(201, bytes()))
    });
    let secret = |key: &str, body: &str| {
        let mut request = post_body(key, body.to_owned());
        *request.uri_mut() = format!("/pay?note={SECRET}").parse().unwrap();
        request.headers_mut().extend(headers());
        request
    };
    send(&app, secret(SECRET, SECRET)).await;
    send(&app, secret(SECRET, SECRET)).await;
    send(&app, secret(SECRET, "another")).await;
    send(&app, secret("a,b", SECRET)).await;
    clock.advance(secs(60));
    completer(&layer, &app).run_once().await.unwrap();
    // At most once, and its holder is gone.
    let once = lab.layer_with(|engine| engine.lease(secs(1)));
    let app = serve(&once, |_| async { std::future::pending().await });
    let sent = tokio::spawn({
        let (app, request) = (app.clone(), secret("k2", SECRET));
        async move { send(&app, request).await }
    });
    support::settle().await;
    sent.abort();
    clock.advance(secs(3600));
    let doubts = Arc::clone(&seen);
    let completer = completer(&once, &app).reconcile(move |doubt| {
        note(&doubts, &doubt);
        async { Reconciled::Unknown }
    });
    completer.run_once().await.unwrap();
    let seen = seen.lock().unwrap().clone();
    for hook in ["Event", "Ended"] {
        assert!(seen.iter().any(|name| name == hook), "no {hook} among {seen:?}");
    }
}

#[tokio::test]
async fn no_debug_and_no_message_of_an_error_quotes_json() {
    let runner = Runner::new(MemoryStore::new());
    let work = || async { Ok::<_, std::io::Error>(SECRET.to_owned()) };
    runner.run("jobs", "1", &7, move |_| work()).await.unwrap();
    let other = runner.run::<_, i32, _, _, _>("jobs", "1", &7, |_| async { Ok::<_, std::io::Error>(1) }).await;
    let error = other.unwrap_err();
    assert!(matches!(error, RunError::Json(_)));
    assert_silent("RunError", &error);
    assert!(!error.to_string().contains(SECRET));
}
