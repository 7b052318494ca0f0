//! A layer over a store that can fail, and services to put under it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};
use tower_idempotency::clock::ManualClock;
use tower_idempotency::core::{IdempotencyKey, Key, Resolution};
use tower_idempotency::{
    Completer, Engine, Event, EventKind, IdempotencyLayer, Operation, Operator, Refusal, RequestBody, ResponseBody,
    Scope, StoredBody,
};

use super::Count;
use super::bodies::{Failure, Part, TestBody, data, full, script};
use super::store::Faulty;

/// What an inner service gets.
pub(crate) type Inner = Request<RequestBody<TestBody>>;
/// A guarded service, with its type forgotten.
pub(crate) type App = BoxCloneSyncService<Request<TestBody>, Response<ResponseBody<TestBody>>, Failure>;

/// Events, as they came.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    /// Their names, less what only repeats: refusals carry theirs.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |event: &Event| {
            let text = format!("{:?}", event.kind);
            match &event.kind {
                EventKind::Refused { refusal } => format!("Refused {}", refusal.name()),
                _ => text.split([' ', '{', '(']).next().unwrap_or_default().to_owned(),
            }
        };
        self.0.lock().unwrap().iter().map(name).collect()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.names().iter().filter(|other| *other == name).count()
    }

    /// The steps that ran in each attempt that was cut off.
    pub(crate) fn cut_off(&self) -> Vec<Vec<String>> {
        let cut = |event: Event| if let EventKind::CutOff { steps } = event.kind { Some(steps) } else { None };
        self.all().into_iter().filter_map(cut).collect()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub(crate) fn add(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }

    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

/// A store, its clock, and what a layer over it says.
#[derive(Clone)]
pub(crate) struct Lab {
    pub(crate) store: Faulty,
    pub(crate) events: Events,
}

impl Lab {
    /// A store on tokio's clock: paused time moves its leases too.
    pub(crate) fn new() -> Self {
        Self::over(Faulty::new())
    }

    /// A store on a clock that only the test moves: leases can lapse while a
    /// handler waits.
    pub(crate) fn manual() -> (Self, ManualClock) {
        let clock = ManualClock::new();
        (Self::over(Faulty::on(&clock)), clock)
    }

    pub(crate) fn over(store: Faulty) -> Self {
        Self { store, events: Events::default() }
    }

    /// An engine over the store, as that of a process of its own.
    pub(crate) fn engine(&self) -> Engine {
        let events = self.events.clone();
        Engine::new(self.store.clone()).on_event(move |event| events.add(event))
    }

    /// A layer over the store, all callers in one scope.
    pub(crate) fn layer(&self) -> IdempotencyLayer {
        self.layer_for(Scope::shared())
    }

    pub(crate) fn layer_for(&self, scope: Scope) -> IdempotencyLayer {
        IdempotencyLayer::new(self.engine(), scope)
    }

    /// A layer whose engine was told something.
    pub(crate) fn layer_with(&self, tell: impl FnOnce(Engine) -> Engine) -> IdempotencyLayer {
        IdempotencyLayer::new(tell(self.engine()), Scope::shared())
    }

    /// What an operator decides, in another process.
    pub(crate) async fn decide(&self, key: &str, resolution: Resolution) {
        let operator = Operator::new(self.store.clone());
        let shown = operator.find("", key).await.unwrap();
        operator.resolve(&shown, resolution).await.unwrap();
    }
}

/// Puts `layer` over a handler, whose type is forgotten first: else the whole layer would be
/// compiled once for each of some two hundred handlers.
pub(crate) fn serve<F, Fut>(layer: &IdempotencyLayer, handler: F) -> App
where
    F: FnMut(Inner) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response<TestBody>, Failure>> + Send + 'static,
{
    BoxCloneSyncService::new(layer.layer(BoxCloneSyncService::new(service_fn(handler))))
}

/// A completer that drives what `serve` made.
pub(crate) fn completer(layer: &IdempotencyLayer, app: &App) -> Completer {
    Completer::new(layer, app.clone().map_request(|request: Request<StoredBody>| request.map(full)))
}

/// A service that numbers its answers, and how often it ran.
pub(crate) fn numbered(layer: &IdempotencyLayer) -> (App, Count) {
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |_| {
        let number = count.up();
        async move { Ok(reply(201, format!("charge {number}"))) }
    });
    (app, runs)
}

/// A service whose answers each need a permit first, and how often it ran. `answer` gets
/// the how-manieth run it is.
pub(crate) fn gated(
    layer: &IdempotencyLayer,
    answer: impl Fn(usize) -> Response<TestBody> + Clone + Send + Sync + 'static,
) -> (App, Count, Arc<Semaphore>) {
    let (runs, gate) = (Count::default(), Arc::new(Semaphore::new(0)));
    let (count, wait) = (runs.clone(), gate.clone());
    let app = serve(layer, move |_| {
        let (number, wait, answer) = (count.up(), wait.clone(), answer.clone());
        async move {
            wait.acquire().await.unwrap().forget();
            Ok(answer(number))
        }
    });
    (app, runs, gate)
}

/// A request as the tests send it most of the time.
pub(crate) fn post(key: &str) -> Request<TestBody> {
    request("POST", "/pay", key, "{\"amount\":100}")
}

pub(crate) fn post_body(key: &str, body: impl Into<Bytes>) -> Request<TestBody> {
    request("POST", "/pay", key, body)
}

pub(crate) fn request(method: &str, path: &str, key: &str, body: impl Into<Bytes>) -> Request<TestBody> {
    let builder = Request::builder().method(method).uri(path).header("idempotency-key", key);
    builder.body(full(body)).unwrap()
}

/// Without a key.
pub(crate) fn unkeyed(method: &str) -> Request<TestBody> {
    Request::builder().method(method).uri("/pay").body(full("{\"amount\":100}")).unwrap()
}

/// With one header more.
pub(crate) fn with(mut request: Request<TestBody>, name: &'static str, value: &str) -> Request<TestBody> {
    request.headers_mut().append(name, value.parse().unwrap());
    request
}

/// What a shared scope stores this key under.
pub(crate) fn stored_key(key: &str) -> Key {
    Key::new("", &IdempotencyKey::parse(key.as_bytes()).unwrap())
}

pub(crate) fn reply(status: u16, body: impl Into<Bytes>) -> Response<TestBody> {
    Response::builder().status(status).body(full(body)).unwrap()
}

/// An answer of gRPC with this status: alone, then it is in the head, or behind a
/// message, in the trailers.
pub(crate) fn grpc(status: &str, alone: bool) -> Response<TestBody> {
    let response = Response::builder().header("content-type", "application/grpc");
    if alone {
        return response.header("grpc-status", status).body(script([])).unwrap();
    }
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), status.parse().unwrap())]);
    response.body(script([data(b"\0\0\0\0\0"), Part::Trailers(trailers)])).unwrap()
}

/// The operation of a guarded request.
pub(crate) fn operation(request: &Inner) -> Operation {
    request.extensions().get::<Operation>().expect("a guarded request").clone()
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) refusal: Option<Refusal>,
}

impl Answer {
    pub(crate) fn is_replay(&self) -> bool {
        self.headers.get_all("idempotent-replayed").iter().eq(["true"])
    }

    /// Why no retry gets this answer, if none does.
    pub(crate) fn unavailable(&self) -> Option<&str> {
        Some(self.headers.get("idempotency-replay-unavailable")?.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// Checks that this is our refusal `name`, in every detail of RFC 9457.
    #[track_caller]
    pub(crate) fn assert_problem(&self, name: &str, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.refusal.map(Refusal::name), Some(name), "in the response's extensions");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.headers["cache-control"], "no-store");
        assert!(self.headers["link"].to_str().unwrap().contains("rel=\"describedby\""));
        let problem: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&self.body).expect("strict JSON");
        assert_eq!(problem["status"], u64::from(status), "the body says what the head says");
        assert_eq!(problem["code"], name, "what clients match on, whatever the type is");
        let kind = problem["type"].as_str().unwrap();
        assert!(kind.ends_with(&format!(":{name}")) || kind.ends_with(&format!("#{name}")), "{kind}");
        assert!(
            ["title", "detail"].iter().all(|member| problem[*member].as_str().is_some_and(|text| !text.is_empty()))
        );
        let is_for_operators = ["outcome-unknown", "in-progress"].contains(&name) || status >= 500;
        let due = is_for_operators && problem.contains_key("instance");
        assert_eq!(problem.contains_key("reference"), due, "by which an operator finds it: {problem:?}");
        let retriable = [
            "in-progress",
            "store-unavailable",
            "draining",
            "maintenance",
            "overloaded",
            "interrupted",
            "record-newer",
            "body-timeout",
            "upload-overload",
        ]
        .contains(&name);
        let seconds = self.headers.get("retry-after").map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        assert_eq!(seconds.is_some_and(|seconds| seconds >= 1), retriable, "Retry-After of {name}");
        assert!(!self.headers.contains_key("idempotent-replayed"), "no problem is a replay");
        let unavailable = self.unavailable().is_some();
        assert_eq!(unavailable, name == "not-retained", "{:?}", self.headers);
        assert_eq!(problem.get("reason").and_then(|reason| reason.as_str()), self.unavailable());
    }

    #[track_caller]
    pub(crate) fn assert_is(&self, status: u16, body: &str) {
        assert_eq!((self.status.as_u16(), self.text().as_str()), (status, body), "{self:?}");
        assert_eq!(self.refusal, None);
    }

    #[track_caller]
    pub(crate) fn assert_first(&self, status: u16, body: &str) {
        self.assert_is(status, body);
        assert!(!self.headers.contains_key("idempotent-replayed"), "not a replay");
        assert_eq!(self.unavailable(), None);
    }

    #[track_caller]
    pub(crate) fn assert_replay(&self, status: u16, body: &str) {
        self.assert_is(status, body);
        assert!(self.is_replay(), "a replay: {self:?}");
    }
}

/// Reads a whole answer.
pub(crate) async fn collect(response: Response<ResponseBody<TestBody>>) -> Result<Answer, Failure> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let refusal = parts.extensions.get::<Refusal>().copied();
    Ok(Answer { status: parts.status, headers: parts.headers, body, refusal })
}

/// Sends one request, and reads the answer.
pub(crate) async fn send(app: &App, request: Request<TestBody>) -> Answer {
    try_send(app, request).await.expect("an answer")
}

pub(crate) async fn try_send(app: &App, request: Request<TestBody>) -> Result<Answer, Failure> {
    collect(app.clone().oneshot(request).await?).await
}

/// Sends one request that must be answered without waiting for anything.
pub(crate) async fn send_now(app: &App, request: Request<TestBody>) -> Answer {
    let client = spawn(app, request);
    super::settle().await;
    assert!(client.is_finished(), "it should have been answered at once");
    client.await.unwrap().expect("an answer")
}

/// Sends one request from a task of its own.
pub(crate) fn spawn(app: &App, request: Request<TestBody>) -> tokio::task::JoinHandle<Result<Answer, Failure>> {
    let app = app.clone();
    tokio::spawn(async move { try_send(&app, request).await })
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
