//! Every setter of the public API, with nothing, with the most there is, and with
//! nonsense. What was set is driven afterwards: requests, retries, back-off,
//! renewal, rounds of a completer, a watcher and a sweeper, and no panic is seen,
//! in whichever task.
//!
//! A setter that is not walked here is found by reading the sources.
//!
//! A program of its own: its panic hook is that of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use std::{fs, panic};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use support::bodies::{Failure, full};
use support::lab::{App, completer, operation, reply, send, serve, with};
use support::sources::rust_files;
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceExt};
use tower_idempotency::client::{RetryLayer, Server};
use tower_idempotency::clock::{Clock, ManualClock};
use tower_idempotency::core::{
    Change, Claim, Command, Exchange, Fence, Fenced, Fingerprint, Labels, Mode, Next, Record, Stamp, StoredRequest,
    Timestamp, Version,
};
use tower_idempotency::encryption::{EncryptionKey, Keyring};
use tower_idempotency::outbox::Outbox;
use tower_idempotency::schedule::{Schedule, Scheduler, Timing};
use tower_idempotency::store::conformance::{Fault, FaultyStore, Op};
use tower_idempotency::store::{Filter, KeptRecord, MemoryStore, Query, Store, StoreError};
use tower_idempotency::{
    AcceptanceMark, Background, Backoff, Callback, Completer, Engine, FingerprintRules, FirstRequest, GrpcMethods,
    HeaderFilter, IdempotencyLayer, InProgressStatus, KeyMember, KeyReusedStatus, KeyRules, Listing, NearCache,
    Operator, Outcome, Outcomes, ReplayMark, RetryAdvice, Runner, Scope, StatusService, StepError, Sweeper, Watcher,
    Webhook,
};

const LENGTHS: [Duration; 4] = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(u64::MAX), Duration::MAX];
const COUNTS: [usize; 3] = [0, 1, usize::MAX];
const TRIES: [u32; 3] = [0, 1, u32::MAX];
const TEXTS: [&str; 5] = ["", " ", "\u{0}\r\nx: y", "ß{}%\"\\<>", "/\u{7f}../#?"];

fn backoffs() -> Vec<Backoff> {
    LENGTHS.iter().flat_map(|base| LENGTHS.map(|max| Backoff::new(*base, max))).collect()
}

/// Setters by their names, each with each value, on something else that is fresh.
macro_rules! walk {
    ($base:expr, $values:expr, $($setter:ident),+) => {{
        let mut set = Vec::new();
        $(for value in $values {
            set.push((format!("{}({value:?})", stringify!($setter)), $base.$setter(value)));
        })+
        set
    }};
}

thread_local! {
    /// What panicked in this thread, and so in any task of its runtime, whoever
    /// caught it.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What went wrong with which setter.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn watch() -> Self {
        panic::set_hook(Box::new(|info| {
            eprintln!("{info}");
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
        }));
        Self::default()
    }

    /// Drives it to its end, for a day of paused time at the most.
    async fn in_(&mut self, what: &str, drive: impl Future<Output = ()>) {
        let mut drive = pin!(timeout(Duration::from_secs(24 * 60 * 60), drive));
        let caught = poll_fn(|cx| {
            let polled = panic::catch_unwind(AssertUnwindSafe(|| drive.as_mut().poll(cx)));
            polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
        });
        if let Some(Err(_)) = caught.await {
            self.0.push(format!("{what} hangs"));
        }
        let panics = PANICS.take();
        self.0.extend(panics.first().map(|first| format!("{what}: {first}")));
    }

    #[track_caller]
    fn assert_nothing(self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }
}

/// For a minute of paused time.
async fn for_a_minute(work: impl Future<Output = ()>) {
    let _ = timeout(Duration::from_secs(60), work).await;
}

fn layer() -> IdempotencyLayer {
    IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).resumable()
}

fn accepting(background: Background) -> IdempotencyLayer {
    layer().background(background)
}

fn calling(callback: Callback) -> IdempotencyLayer {
    layer().callback(callback)
}

/// Fails at first.
fn callback() -> Callback {
    Callback::new(|ended| async move { if ended.call == 1 { Err("not now") } else { Ok(()) } })
}

fn app(layer: &IdempotencyLayer) -> App {
    serve(layer, |request| async move {
        let path = request.uri().path().to_owned();
        let operation = operation(&request);
        let step = operation.step("step", |_| async { Ok::<_, Failure>(1) });
        let stepped = step.timeout(Duration::from_secs(1)).await.is_ok();
        match path.as_str() {
            // It has to be renewed meanwhile.
            "/slow" => sleep(Duration::from_secs(2)).await,
            "/later" if operation.attempt() == 1 => return Ok(reply(503, "later")),
            _ => {}
        }
        Ok(reply(if stepped { 201 } else { 503 }, "done"))
    })
}

/// Requests of all kinds, and everything that works beside them.
async fn drive(layer: &IdempotencyLayer) {
    let app = app(layer);
    let completer = completer(layer, &app);
    for path in ["/first", "/later", "/slow", "/slow"] {
        for _ in 0..2 {
            let request = Request::post(path).header("idempotency-key", path).body(full("{}")).unwrap();
            let answer = send(&app, with(request, "prefer", "respond-async")).await;
            assert!(answer.status.as_u16() < 600, "{answer:?}");
        }
    }
    for_a_minute(async { completer.run(std::future::pending()).await.unwrap() }).await;
    let _ = completer.run_once().await;
    Watcher::new(layer).run_once().await;
    show(StatusService::new(layer)).await;
}

async fn show(status: StatusService) {
    for method in ["GET", "DELETE", "GET"] {
        let request = Request::builder().method(method).uri("/operations/%2Flater").body(full("")).unwrap();
        let answer = status.clone().oneshot(request).await.unwrap();
        assert!(answer.status().as_u16() < 500, "{answer:?}");
    }
}

fn layers() -> Vec<(String, IdempotencyLayer)> {
    let mut all = walk!(layer(), LENGTHS, upload_timeout, wait, stream_after);
    all.extend(walk!(
        layer(),
        COUNTS,
        request_limit,
        response_limit,
        max_running,
        max_waiting,
        upload_budget,
        upload_budget_per_scope
    ));
    all.extend(walk!(layer(), TEXTS, documentation));
    all.extend(fingerprint_rules().into_iter().map(|(what, rules)| (what, layer().fingerprint(rules))));
    all.push(("methods([])".to_owned(), layer().methods([])));
    all.push(("methods([GET])".to_owned(), layer().methods([http::Method::GET])));
    all.push(("key_headers([])".to_owned(), layer().key_headers([])));
    all.push(("echo_key()".to_owned(), layer().echo_key()));
    all.push(("problems(same)".to_owned(), layer().problems(|_, response| response)));
    all.extend(walk!(layer(), [KeyReusedStatus::BadRequest, KeyReusedStatus::Conflict], key_reused_status));
    all.extend(walk!(layer(), [InProgressStatus::Conflict, InProgressStatus::Locked], in_progress_status));
    all.extend(walk!(layer(), [HeaderFilter::only([]), HeaderFilter::except([])], replay_headers));
    let empty = http::HeaderValue::from_static("");
    assert!(ReplayMark::new(http::header::CONTENT_LENGTH, empty.clone()).is_err(), "it would frame the message anew");
    let mark = ReplayMark::new(http::HeaderName::from_static("x"), empty).unwrap();
    all.push((format!("replay_mark({mark:?})"), layer().replay_mark(mark)));
    all.extend(presets());
    all.extend(retries());
    all.push(("tell_expiry()".to_owned(), layer().tell_expiry()));
    let member = KeyMember::at("/").unwrap();
    all.push((format!("key_member({member:?})"), layer().key_member(member)));
    all.extend(walk!(
        layer(),
        [Webhook::GitHub, Webhook::Shopify, Webhook::StandardWebhooks, Webhook::Stripe],
        webhook
    ));
    let per_route = IdempotencyLayer::new(MemoryStore::new(), Scope::shared().per_route()).resumable();
    all.push(("per_route()".to_owned(), per_route));
    let methods = GrpcMethods::by(|_| true);
    all.push(("grpc_methods(all)".to_owned(), layer().grpc_methods(methods)));
    all.push((
        "redact_request(nothing left)".to_owned(),
        layer().redact_request(|request| request.body = Bytes::new()),
    ));
    all.push(("redact_response(no body)".to_owned(), layer().redact_response(|response| response.body = None)));
    all.push(("principal(none)".to_owned(), layer().principal::<u64>()));
    let strange = |_: &_| Labels::new().with("", "\n".repeat(200)).with(&"=".repeat(200), "");
    all.push(("labels(strange)".to_owned(), layer().labels(strange)));
    all.push(("skip(none)".to_owned(), layer().skip(|_| false)));
    all.push(("required_if(true)".to_owned(), layer().required_if(|_| true)));
    all.extend(key_rules().into_iter().map(|(what, rules)| (what, layer().key_rules(rules))));
    all.extend(outcomes().into_iter().map(|(what, outcomes)| (what.to_owned(), layer().outcomes(outcomes))));
    all
}

fn presets() -> [(String, IdempotencyLayer); 6] {
    [
        ("ietf()".to_owned(), layer().ietf()),
        ("stripe_v1()".to_owned(), layer().stripe_v1()),
        ("stripe_v2()".to_owned(), layer().stripe_v2()),
        ("adyen()".to_owned(), layer().adyen()),
        (
            "oasis_repeatable_requests()".to_owned(),
            layer().oasis_repeatable_requests().key_headers([http::HeaderName::from_static("idempotency-key")]),
        ),
        ("paypal()".to_owned(), layer().paypal().key_headers([http::HeaderName::from_static("idempotency-key")])),
    ]
}

fn retries() -> Vec<(String, IdempotencyLayer)> {
    let replay = layer().replay_with(|replay| std::future::ready(replay.into_response()));
    let mut all = vec![("replay_with(same)".to_owned(), replay)];
    let empty = http::HeaderValue::from_static("");
    let mark = |name| AcceptanceMark::new(name, empty.clone(), empty.clone());
    assert!(mark(http::header::SET_COOKIE).is_err());
    let name = http::HeaderName::from_static("x-taken");
    all.push(("acceptance_mark(empty)".to_owned(), layer().acceptance_mark(mark(name).unwrap())));
    all.push(("first_sent(host)".to_owned(), layer().first_sent(http::header::HOST)));
    all.push(("refuse_unguarded()".to_owned(), layer().refuse_unguarded().skip(|_| true)));
    let id = http::HeaderName::from_static("x-id");
    assert!(FirstRequest::new(id.clone(), http::header::VIA).is_err() && RetryAdvice::new(http::header::AGE).is_err());
    all.push((
        "first_request(x-id)".to_owned(),
        layer().first_request(FirstRequest::new(id.clone(), id.clone()).unwrap()),
    ));
    all.extend(walk!(
        layer(),
        [RetryAdvice::new(id.clone()).unwrap(), RetryAdvice::new(id).unwrap().only_yes()],
        retry_advice
    ));
    all
}

fn fingerprint_rules() -> Vec<(String, FingerprintRules)> {
    let fresh = || FingerprintRules::new().exact_content_type().ignore_query().ignore_authority().trailers();
    let mut all = vec![
        ("all of FingerprintRules".to_owned(), fresh().canonical_json()),
        ("headers([])".to_owned(), fresh().headers([])),
        ("headers([HOST])".to_owned(), fresh().headers([http::header::HOST])),
        ("ignore_body()".to_owned(), fresh().ignore_body()),
        ("only_json([])".to_owned(), fresh().only_json([]).unwrap()),
    ];
    for text in TEXTS {
        all.push((format!("custom({text:?})"), fresh().custom(text, |_, _| Vec::new())));
        let pointers = [fresh().ignore_json([text]), fresh().only_json([text])];
        all.extend(pointers.into_iter().flatten().map(|rules| (format!("a pointer {text:?}"), rules)));
    }
    assert!(all.iter().all(|(_, rules)| !rules.documentation().is_empty()));
    all
}

fn key_rules() -> Vec<(String, KeyRules)> {
    let mut all = walk!(KeyRules::new(), COUNTS, min_length, max_length);
    all.push(("strict().uuid()".to_owned(), KeyRules::new().strict().uuid().ignore_case()));
    all.extend(TEXTS.map(|text| (format!("check({text:?})"), KeyRules::new().check(move |_| Err(text)))));
    all
}

fn outcomes() -> [(&'static str, Outcomes); 6] {
    [
        ("store_everything()", Outcomes::store_everything()),
        ("free_validation_failures()", Outcomes::free_validation_failures()),
        ("success_only()", Outcomes::success_only().store_server_errors()),
        ("rerun_failures_unprotected()", Outcomes::rerun_failures_unprotected().retry_server_errors()),
        ("by(Retryable)", Outcomes::by(|_| Outcome::Retryable)),
        ("by(NothingHappened)", Outcomes::by(|_| Outcome::NothingHappened)),
    ]
}

fn backgrounds() -> Vec<(String, Background)> {
    let fresh = || Background::at("/operations").always();
    let mut all = walk!(fresh(), LENGTHS, retry_after, deadline);
    all.extend(walk!(fresh(), COUNTS, queue));
    all.extend(walk!(fresh(), TRIES, max_tries));
    all.extend(TEXTS.map(|text| (format!("at({text:?})"), Background::at(text).always())));
    all
}

fn callbacks() -> Vec<(String, Callback)> {
    let mut all = walk!(callback(), backoffs(), backoff);
    all.extend(walk!(callback(), TRIES, max_tries));
    all.extend(walk!(callback(), LENGTHS, deadline));
    all
}

fn completers(fresh: impl Fn() -> Completer) -> Vec<(String, Completer)> {
    let mut all = walk!(fresh(), LENGTHS, poll, deadline, max_age);
    all.extend(walk!(fresh(), COUNTS, concurrency));
    all.extend(walk!(fresh(), TRIES, max_tries));
    all
}

fn watchers(layer: &IdempotencyLayer) -> Vec<(String, Watcher)> {
    walk!(Watcher::new(layer), LENGTHS, pending_for, paid_for, in_doubt_for, every)
}

fn sweepers(store: &Arc<MemoryStore>) -> Vec<(String, Sweeper)> {
    walk!(Sweeper::new(Arc::clone(store)), LENGTHS, every)
}

fn schedules() -> Vec<(String, Schedule)> {
    let often = || Schedule::new("often", Timing::every(Duration::from_secs(1)).unwrap());
    let mut all = walk!(often(), TRIES, max_tries);
    all.extend(walk!(often(), backoffs(), backoff));
    all.extend(walk!(often(), LENGTHS, deadline));
    all
}

fn retry_layers() -> Vec<(String, RetryLayer)> {
    let fresh = || RetryLayer::new(Server::in_process_honours_keys());
    let mut all = walk!(fresh(), LENGTHS, try_timeout, deadline, retry_after_limit);
    all.extend(walk!(fresh(), TRIES, max_tries));
    all.extend(walk!(fresh(), COUNTS, request_limit, response_limit));
    all.extend(walk!(fresh(), backoffs(), backoff));
    for (per_second, percent) in TRIES.iter().flat_map(|per_second| TRIES.map(|percent| (*per_second, percent))) {
        all.push((format!("budget({per_second}, {percent})"), fresh().budget(per_second, percent)));
    }
    all
}

/// A server that is away, and one that asks for a long pause.
async fn retry(layer: RetryLayer) {
    for retry_after in [None, Some("7"), Some("99999999999999999999999")] {
        let away = tower::service_fn(move |request: Request<Full<Bytes>>| async move {
            let mut response = http::Response::new(request.into_body());
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            let Some(retry_after) = retry_after else { return Err(Failure("reset")) };
            response.headers_mut().insert("retry-after", retry_after.parse().unwrap());
            Ok(response)
        });
        let _ = layer.layer(away).oneshot(Request::post("/").body(Full::from("1999")).unwrap()).await;
    }
}

fn outboxes() -> Vec<(String, Outbox)> {
    let fresh = || {
        let away = tower::service_fn(|_: Request<Full<Bytes>>| async {
            Err::<http::Response<Full<Bytes>>, _>(Failure("reset"))
        });
        let client = RetryLayer::new(Server::in_process_honours_keys()).max_tries(1).layer(away);
        Outbox::new("mail", MemoryStore::new(), client).unwrap()
    };
    let mut all = walk!(fresh(), LENGTHS, keep, lease, poll, deadline, max_age);
    all.extend(walk!(fresh(), backoffs(), backoff));
    all.extend(walk!(fresh(), COUNTS, concurrency, request_limit));
    all.extend(walk!(fresh(), TRIES, max_tries));
    all.push(("keep_credentials()".to_owned(), fresh().keep_credentials()));
    all
}

fn listings() -> Vec<(String, Listing)> {
    let mut all = walk!(Listing::needs_attention(), LENGTHS, older_than);
    all.extend(walk!(Listing::needs_attention(), COUNTS, limit));
    all
}

fn statuses(layer: &IdempotencyLayer) -> Vec<(String, StatusService)> {
    walk!(StatusService::new(layer), LENGTHS, grace)
}

fn engines() -> Vec<(String, Engine)> {
    let fresh = || Engine::new(MemoryStore::new());
    let mut all = walk!(fresh(), LENGTHS, lease, max_execution, retention);
    all.extend(walk!(fresh(), backoffs(), backoff));
    all.extend(walk!(fresh(), TEXTS, instance));
    all.push(("redact_reason(nothing left)".to_owned(), fresh().redact_reason(String::clear)));
    all.push(("redact_reason(too long)".to_owned(), fresh().redact_reason(|line| *line = "x".repeat(1 << 20))));
    all.extend(rings().into_iter().map(|ring| (format!("encryption({ring:?})"), fresh().encryption(ring))));
    let near = LENGTHS.map(NearCache::new);
    let small = [0, 1, u64::MAX].map(|bytes| NearCache::new(Duration::MAX).max_bytes(bytes));
    all.extend(walk!(fresh(), near.into_iter().chain(small), near_cache));
    all
}

fn rings() -> [Keyring; 3] {
    let [one, other] = ["one", "other"].map(|name| {
        assert!(EncryptionKey::new(name, &[0; 32]).is_err(), "no secret");
        EncryptionKey::new(name, &std::array::from_fn(|n| n as u8 + name.len() as u8)).unwrap()
    });
    let ring = Keyring::new(one.clone());
    assert!(ring.clone().with_older(one).is_err(), "two of one name");
    [ring.clone(), ring.clone().read_only(), ring.with_older(other).unwrap()]
}

fn memory_stores() -> Vec<(String, MemoryStore)> {
    walk!(MemoryStore::new(), COUNTS, max_entries, max_bytes)
}

#[tokio::test(start_paused = true)]
async fn no_setter_of_a_layer_makes_anything_panic() {
    let mut wrong = Wrong::watch();
    for (what, layer) in layers() {
        wrong.in_(&format!("IdempotencyLayer::{what}"), drive(&layer)).await;
    }
    for (what, engine) in engines() {
        let layer = IdempotencyLayer::new(engine, Scope::shared()).resumable();
        wrong.in_(&format!("Engine::{what}, with a layer"), drive(&layer)).await;
    }
    for (what, background) in backgrounds() {
        wrong.in_(&format!("Background::{what}"), drive(&accepting(background))).await;
    }
    for (what, callback) in callbacks() {
        wrong.in_(&format!("Callback::{what}"), drive(&calling(callback))).await;
    }
    for (what, store) in memory_stores() {
        let layer = IdempotencyLayer::new(store, Scope::shared()).resumable();
        wrong.in_(&format!("MemoryStore::{what}"), drive(&layer)).await;
    }
    wrong.assert_nothing();
}

#[tokio::test(start_paused = true)]
async fn no_setter_of_what_works_beside_the_requests_makes_anything_panic() {
    let mut wrong = Wrong::watch();
    let layer = accepting(Background::at("/operations"));
    let app = app(&layer);
    for (what, completer) in completers(|| completer(&layer, &app)) {
        let driven = async {
            drive(&layer).await;
            for_a_minute(async { completer.run(std::future::pending()).await.unwrap() }).await;
            let _ = completer.run_once().await;
        };
        wrong.in_(&format!("Completer::{what}"), driven).await;
    }
    for (what, watcher) in watchers(&layer) {
        let watching = for_a_minute(watcher.run(std::future::pending()));
        wrong.in_(&format!("Watcher::{what}"), watching).await;
    }
    for (what, status) in statuses(&layer) {
        wrong.in_(&format!("StatusService::{what}"), show(status)).await;
    }
    let store = Arc::new(MemoryStore::new());
    for (what, sweeper) in sweepers(&store) {
        wrong.in_(&format!("Sweeper::{what}"), for_a_minute(sweeper.run(std::future::pending()))).await;
    }
    for (what, schedule) in schedules() {
        let fails = |_, _| async { Err::<(), _>("not now") };
        let scheduler = Scheduler::new(MemoryStore::new()).schedule(schedule, fails).unwrap();
        wrong.in_(&format!("Schedule::{what}"), for_a_minute(scheduler.run(std::future::pending()))).await;
    }
    for (what, layer) in retry_layers() {
        wrong.in_(&format!("RetryLayer::{what}"), retry(layer)).await;
    }
    for (what, outbox) in outboxes() {
        let sending = for_a_minute(async {
            let key = tower_idempotency::core::IdempotencyKey::derived("mail", &what);
            let _ = outbox.send_later(&key, Request::post("/").body(full("1999")).unwrap()).await;
            outbox.run(std::future::pending()).await;
        });
        wrong.in_(&format!("Outbox::{what}"), sending).await;
    }
    for (what, engine) in engines() {
        wrong.in_(&format!("Engine::{what}, with a runner"), run(&Runner::new(engine))).await;
    }
    for (what, listing) in listings() {
        let operator = Operator::new(&layer);
        let listed = async { drop(operator.list(&listing).await) };
        wrong.in_(&format!("Listing::{what}"), listed).await;
    }
    wrong.assert_nothing();
}

async fn run(runner: &Runner) {
    for fails in [true, false, false] {
        let ran = runner.run("jobs", "17", "input", move |operation| async move {
            let step = operation.pay("step", |_| async { Ok::<_, String>(1) }).timeout(Duration::from_secs(1));
            sleep(Duration::from_secs(2)).await;
            if fails { Err(StepError::Retry("later".to_owned())) } else { step.await }
        });
        let _ = ran.await;
    }
}

/// The settings that only matter while a store is away.
#[tokio::test(start_paused = true)]
async fn no_length_panics_while_the_store_is_away() {
    let mut wrong = Wrong::watch();
    for length in LENGTHS {
        let store = Arc::new(FaultyStore::new(MemoryStore::new()));
        let faults = store.faults().clone();
        let backoff = Backoff::new(length, length);
        let fresh = || {
            let engine = Engine::new(Arc::clone(&store)).lease(length).max_execution(length);
            IdempotencyLayer::new(engine.retention(length).backoff(backoff), Scope::shared()).resumable()
        };
        let driven = async {
            for call in 1..5 {
                faults.clear();
                faults.nth(Op::Swap, call, Fault::After);
                faults.nth(Op::Swap, call + 1, Fault::Before);
                faults.nth(Op::Load, 1, Fault::Before);
                drive(&fresh()).await;
            }
            faults.always(Op::Swap, Fault::Before);
            faults.always(Op::Scan, Fault::Before);
            drive(&fresh()).await;
            // What is taken back, and saved late, has tasks of its own.
            sleep(Duration::from_secs(60 * 60)).await;
        };
        wrong.in_(&format!("lengths of {length:?}"), driven).await;
    }
    wrong.assert_nothing();
}

#[tokio::test(start_paused = true)]
async fn no_time_out_of_a_step_makes_anything_panic() {
    let mut wrong = Wrong::watch();
    let app = serve(&layer(), |request| async move {
        let operation = operation(&request);
        for (at, length) in LENGTHS.into_iter().enumerate() {
            let late = || async {
                sleep(Duration::from_secs(1)).await;
                Ok::<_, Failure>(1)
            };
            let _ = operation.step(format!("step {at}"), |_| late()).timeout(length).await;
            let _ = operation.pay(format!("pay {at}"), |_| late()).timeout(length).await;
            let _ = operation.once(format!("once {at}"), late).timeout(length).await;
            for _ in 0..2 {
                // In doubt the second time.
                let fails = || async { Err::<u8, _>(Failure("no")) };
                let step = operation.pay(format!("key {at}"), |_| fails()).key_lifetime(length);
                let _ = step.timeout(Duration::from_secs(1)).await;
            }
        }
        Ok(reply(201, "done"))
    });
    let driven = async {
        send(&app, support::lab::post("k")).await;
    };
    wrong.in_("StepFuture::timeout", driven).await;
    wrong.assert_nothing();
}

/// The values that stores and front ends of others make.
#[tokio::test(start_paused = true)]
async fn no_value_of_the_core_makes_anything_panic() {
    for lead in [Duration::ZERO, Duration::MAX] {
        let (from, until) = (Timestamp::from_millis(0), Timestamp::from_millis(u64::MAX));
        let covers = tower_idempotency::maintenance::Covers::All;
        let window = tower_idempotency::maintenance::Window::new(from, until, "").lead(lead).covers(covers);
        assert_eq!((window.lead, window.until), (lead, until));
    }
    let put = |next| match next {
        Next::Put(record) => Some(record),
        Next::Keep | Next::Remove => None,
    };
    let starts = [0, 1_000_000_000_000, u64::MAX].map(Timestamp::from_millis);
    for (length, start) in LENGTHS.iter().flat_map(|length| starts.map(|start| (*length, start))) {
        let later = start.after(length);
        assert!(later >= start && later.since(start) <= length);
        let (method, uri) = (http::Method::POST, "/".parse().unwrap());
        let request = StoredRequest::capture(&method, &uri, &http::HeaderMap::new(), Bytes::new());
        let fingerprint = Fingerprint::of([b"x".as_slice()]).with_rules(u32::MAX, []);
        let claim = Claim {
            fingerprint,
            mode: Mode::Resumable,
            lease: length,
            request: Some(Arc::new(request)),
            labels: Labels::new(),
        };
        let mut exchange = Exchange::guessing(claim.clone(), Version::new(1), None).with_metadata(None, length);
        let _ = exchange.ask();
        let stamp = |nonce| Stamp { elapsed: length, ..Stamp::new(start, Version::new(nonce)) };
        let claimed: Record = put(claim.apply(None, stamp(1)).next).unwrap().stamped(start);
        let change = Change::Postpone { retry_in: length };
        let fence = Fence::of(claimed.version());
        let freed = Fenced { fence, changes: vec![change, Change::Release] }.apply(Some(&claimed), stamp(2)).next;
        for record in [Some(claimed), put(freed)].into_iter().flatten() {
            let record = record.stamped_over(Some(start), later);
            assert!(record.due() >= later, "{record:?}");
            let _ = (record.encode(), claim.apply(Some(&record), stamp(3)), record.is_expired(later));
        }
    }
    let clock = ManualClock::new();
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert_eq!(clock.now().as_millis(), u64::MAX);
    let store = MemoryStore::with_clock(clock);
    for limit in COUNTS {
        let _ = store.scan(&Query::new(Filter::Unfinished, limit)).await;
    }
}

/// A store that answers nobody: only what was set is looked at.
#[cfg(feature = "redis")]
fn redis_stores() -> Vec<(String, Result<tower_idempotency::store::RedisStore, String>)> {
    use tower_idempotency::store::RedisStore;
    let mut all = walk!(RedisStore::options(), LENGTHS, connect_timeout, response_timeout);
    all.extend(walk!(RedisStore::options(), TEXTS, prefix));
    all.extend(walk!(RedisStore::options(), [false, true], index_complete, index_labels));
    all.extend(walk!(RedisStore::options(), [0, 1, 1024, 1025, u16::MAX], partitions));
    for (length, replicas) in LENGTHS.iter().flat_map(|length| TRIES.map(|replicas| (*length, replicas))) {
        let waits = format!("wait({replicas}, {length:?})");
        all.push((waits.clone(), RedisStore::options().wait(replicas, length)));
        all.push((waits, RedisStore::options().wait_aof(true, replicas, length)));
    }
    let connect = |options: tower_idempotency::store::RedisStoreOptions| options.connect("redis://127.0.0.1:1");
    all.into_iter().map(|(what, options)| (what, connect(options).map_err(|error| error.to_string()))).collect()
}

#[cfg(feature = "postgres")]
fn postgres_stores() -> Vec<(String, Result<tower_idempotency::store::PostgresStore, String>)> {
    use tower_idempotency::store::PostgresStore;
    let mut all = walk!(PostgresStore::options(), COUNTS, max_connections);
    all.extend(walk!(PostgresStore::options(), [false, true], index_labels));
    all.extend(walk!(PostgresStore::options(), [0, 1, 2, 64, 65, u16::MAX], partitions));
    all.extend(walk!(PostgresStore::options(), TEXTS, schema, table_prefix, with_clock));
    let connect =
        |options: tower_idempotency::store::PostgresStoreOptions| options.connect("postgres://x@127.0.0.1:1/x");
    all.into_iter().map(|(what, options)| (what, connect(options).map_err(|error| error.to_string()))).collect()
}

#[cfg(feature = "sqlite")]
fn sqlite_stores(folder: &Path) -> Vec<(String, Result<tower_idempotency::store::SqliteStore, String>)> {
    let mut numbers = [0, 1, u64::MAX].into_iter();
    let mut all = walk!(tower_idempotency::store::SqliteStoreOptions::new(), numbers.by_ref(), cache_bytes);
    all.extend(walk!(tower_idempotency::store::SqliteStoreOptions::new(), LENGTHS, transaction_limit));
    all.extend(walk!(tower_idempotency::store::SqliteStoreOptions::new(), [false, true], index_labels));
    let open = |(what, options): (String, tower_idempotency::store::SqliteStoreOptions)| {
        let opened = options.open(folder.join(format!("{what}.db"))).map_err(|error| error.to_string());
        (what, opened)
    };
    all.into_iter().map(open).collect()
}

async fn look<S: Store>(wrong: &mut Wrong, name: &str, stores: Vec<(String, Result<S, String>)>) {
    for (what, store) in stores {
        let driven = async {
            // Refused with a reason, when it is set or when it is asked.
            let looked: Option<Result<_, StoreError>> = match &store {
                Ok(store) => Some(store.load(&support::lab::stored_key("k")).await),
                Err(why) => {
                    assert!(!why.is_empty());
                    None
                }
            };
            let _ = looked.map(|looked| looked.map_err(|error| assert!(!error.to_string().is_empty())));
        };
        wrong.in_(&format!("{name}: {what}"), driven).await;
    }
}

#[tokio::test]
async fn no_setter_of_a_store_makes_anything_panic() {
    let mut wrong = Wrong::watch();
    #[cfg(feature = "redis")]
    look(&mut wrong, "RedisStoreOptions", redis_stores()).await;
    #[cfg(feature = "postgres")]
    look(&mut wrong, "PostgresStoreOptions", postgres_stores()).await;
    #[cfg(feature = "sqlite")]
    {
        let folder = tempfile::tempdir().unwrap();
        look(&mut wrong, "SqliteStoreOptions", sqlite_stores(folder.path())).await;
    }
    wrong.assert_nothing();
}

/// Which function above walks the setters of which file.
const WALKED: [(&str, &str); 29] = [
    ("client/layer.rs", "retry_layers"),
    ("core/fingerprint.rs", "no_value_of_the_core_makes_anything_panic"),
    ("http/fingerprint/rules.rs", "fingerprint_rules"),
    ("util/backoff.rs", "backoffs"),
    ("http/background.rs", "backgrounds"),
    ("http/callback.rs", "callbacks"),
    ("workers/completer/mod.rs", "completers"),
    ("core/window.rs", "no_value_of_the_core_makes_anything_panic"),
    ("core/exchange.rs", "no_value_of_the_core_makes_anything_panic"),
    ("core/record/label.rs", "layers"),
    ("core/record/mod.rs", "no_value_of_the_core_makes_anything_panic"),
    ("core/record/time.rs", "no_value_of_the_core_makes_anything_panic"),
    ("http/layer/mod.rs", "layers"),
    ("http/layer/streaming.rs", "layers"),
    ("http/layer/waiting.rs", "layers"),
    ("http/key_rules.rs", "key_rules"),
    ("engine/mod.rs", "engines"),
    ("engine/near/settings.rs", "engines"),
    ("engine/operation/step.rs", "no_time_out_of_a_step_makes_anything_panic"),
    ("http/status.rs", "statuses"),
    ("outbox/settings.rs", "outboxes"),
    ("schedule/scheduler.rs", "schedules"),
    ("store/memory/mod.rs", "memory_stores"),
    ("store/postgres/options.rs", "postgres_stores"),
    ("store/redis/options.rs", "redis_stores"),
    ("store/sqlite/options.rs", "sqlite_stores"),
    ("operator/listing.rs", "listings"),
    ("workers/sweeper.rs", "sweepers"),
    ("workers/watcher/mod.rs", "watchers"),
];

/// What can be set to nonsense.
const VALUES: [&str; 9] = ["Duration", "usize", "u32", "u64", "f64", "Backoff", "&str", "Into<String>", "Timestamp"];

#[test]
fn every_setter_is_walked() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut setters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in rust_files(&src) {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        if name.starts_with("store/conformance") || name.ends_with("tests.rs") || name.contains("/tests/") {
            continue;
        }
        let found = setters_in(&fs::read_to_string(&file).unwrap());
        if !found.is_empty() {
            setters.insert(name, found);
        }
    }
    assert!(setters.values().map(Vec::len).sum::<usize>() > 40, "the setters are not found any more: {setters:?}");
    let this = include_str!("setters.rs");
    let mut missing = Vec::new();
    for (file, setters) in &setters {
        let Some((_, walk)) = WALKED.iter().find(|(walked, _)| walked == file) else {
            missing.push(format!("{file}: {setters:?} (add a walk, and name it in WALKED)"));
            continue;
        };
        let body = this.split(&format!("fn {walk}(")).nth(1).and_then(|rest| rest.split("\n}\n").next()).unwrap();
        let words: Vec<_> = body.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        missing.extend(
            setters
                .iter()
                .filter(|setter| !words.contains(&setter.as_str()))
                .map(|setter| format!("{file}: {setter} (add it to {walk})")),
        );
    }
    assert!(missing.is_empty(), "setters that no test walks: {missing:#?}");
}

/// Public functions that take `self` and a value, and give the same back.
fn setters_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for item in text.split("\n    pub ").skip(1) {
        let Some((signature, _)) = item.split_once('{') else { continue };
        let signature = signature.strip_prefix("const ").unwrap_or(signature);
        let Some((name, rest)) = signature.strip_prefix("fn ").and_then(|rest| rest.split_once('(')) else { continue };
        let Some((arguments, output)) = rest.rsplit_once("->") else { continue };
        let mut arguments = arguments.split(',').map(str::trim);
        let takes_self = matches!(arguments.next(), Some("self" | "mut self"));
        let takes_value = arguments
            .filter(|argument| !argument.contains("Fn("))
            .any(|argument| VALUES.iter().any(|value| argument.contains(value)));
        if takes_self && takes_value && output.contains("Self") {
            found.push(name.split('<').next().unwrap_or(name).to_owned());
        }
    }
    found
}
