//! What is killed where the `payment` example will not do: a service that
//! accepts payments with 202, and makes them by its completers. Attended, it
//! makes them at once, in transactions if it is told to, and may wait for
//! replicas.
//!
//! It is this program, started as `killbox serve`.

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any_service, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tower_idempotency::store::{ConnectError, PostgresStore, RedisStore, Store};
use tower_idempotency::{
    Background, Backoff, Completer, Engine, Event, EventKind, IdempotencyLayer, Operation, Scope, StatusService,
    StepError, store,
};

use crate::books::Books;
use crate::till;

/// How often a completer looks: many times in a lease.
const POLL: Duration = Duration::from_millis(100);

/// Between two attempts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(400));

/// How long a write waits for a replica: below a lease.
const WITHIN: Duration = Duration::from_secs(1);

/// The command line.
struct Options {
    store: String,
    lease: Duration,
    at_most_once: bool,
    completers: usize,
    /// Whoever asks waits for the answer.
    attended: bool,
    transactions: bool,
    wait: Option<Wait>,
}

/// What a write to Redis waits for.
enum Wait {
    Replica,
    Disks,
}

impl Options {
    fn parse(mut parser: lexopt::Parser) -> Result<Self, lexopt::Error> {
        use lexopt::prelude::*;

        let (store, lease) = ("memory:".to_owned(), Duration::from_secs(1));
        let (at_most_once, attended, transactions) = (false, false, false);
        let mut options = Self { store, lease, at_most_once, completers: 1, attended, transactions, wait: None };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("listen") => drop(parser.value()?),
                Long("store") => options.store = parser.value()?.string()?,
                Long("lease") => options.lease = Duration::from_secs(parser.value()?.parse()?),
                Long("completers") => options.completers = parser.value()?.parse()?,
                Long("opaque") => options.at_most_once = true,
                Long("attended") => options.attended = true,
                Long("transactions") => options.transactions = true,
                Long("wait") => options.wait = Some(Wait::Replica),
                Long("wait-aof") => options.wait = Some(Wait::Disks),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(options)
    }

    fn store(&self) -> Result<Arc<dyn Store>, ConnectError> {
        Ok(match self.wait {
            None => store::connect(&self.store)?,
            Some(Wait::Replica) => Arc::new(RedisStore::options().wait(1, WITHIN).connect(&self.store)?),
            Some(Wait::Disks) => Arc::new(RedisStore::options().wait_aof(true, 1, WITHIN).connect(&self.store)?),
        })
    }
}

/// `X-Demo: pause-POINT=MILLISECONDS`, or `crash-POINT`.
pub struct Pause {
    demo: String,
}

impl Pause {
    pub fn of(headers: &HeaderMap) -> Self {
        let demo = headers.get("x-demo").and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self { demo: demo.to_owned() }
    }

    /// Every attempt gets here.
    pub async fn at(&self, point: &str) {
        if self.demo.strip_prefix("crash-") == Some(point) {
            say("this process dies now");
            std::process::abort();
        }
        let asked = self.demo.strip_prefix("pause-").and_then(|rest| rest.split_once('='));
        let Some((_, millis)) = asked.filter(|(name, _)| *name == point) else { return };
        say(&format!("pausing {point}"));
        tokio::time::sleep(Duration::from_millis(millis.parse().unwrap_or_default())).await;
    }
}

/// 201, and which attempt it was that answered.
pub fn paid(charge_id: &str, attempt: u32) -> Response {
    (StatusCode::CREATED, [("x-attempt", attempt.to_string())], Json(json!({ "charge_id": charge_id }))).into_response()
}

pub fn read(payment: &Value) -> (String, u64) {
    (payment["order"].as_str().unwrap_or_default().to_owned(), payment["amount"].as_u64().unwrap_or_default())
}

/// With steps: resumed by whoever comes next.
async fn pay(
    op: Operation,
    State(books): State<Books>,
    headers: HeaderMap,
    Json(payment): Json<Value>,
) -> Result<Response, StatusCode> {
    let (pause, (order, amount)) = (Pause::of(&headers), read(&payment));
    pause.at("claimed").await;
    let order = op.step("order", |_| async { Ok::<_, Infallible>(order) }).await.map_err(later)?;
    let charge =
        op.pay("charge", |key| charge(&pause, &books, key.to_string(), order.clone(), amount)).await.map_err(later)?;
    pause.at("before-response").await;
    Ok(paid(&charge, op.attempt()))
}

async fn charge(pause: &Pause, books: &Books, key: String, order: String, amount: u64) -> io::Result<String> {
    pause.at("before-charge").await;
    let charge = books.charge(key, order, amount).await?;
    pause.at("after-charge").await;
    Ok(charge)
}

/// Not final: the next attempt goes on.
pub fn later<E: std::fmt::Display>(error: StepError<E>) -> StatusCode {
    say(&format!("a step failed: {error}"));
    StatusCode::SERVICE_UNAVAILABLE
}

/// Without steps. Run twice, it charges twice.
async fn pay_once(
    State(books): State<Books>,
    headers: HeaderMap,
    Json(payment): Json<Value>,
) -> Result<Response, StatusCode> {
    let (pause, (order, amount)) = (Pause::of(&headers), read(&payment));
    pause.at("claimed").await;
    let key = format!("{:032x}", fastrand::u128(..));
    let charge = charge(&pause, &books, key, order, amount).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    pause.at("before-response").await;
    Ok(paid(&charge, 1))
}

pub fn say(what: &str) {
    let _ = writeln!(io::stdout().lock(), "{what}");
}

fn print_event(event: &Event) {
    let key = event.key.map_or_else(|| "-".to_owned(), |key| key.to_string());
    say(&match &event.kind {
        EventKind::Resumed { attempt } => format!("{key:8.8}  resumed: attempt {attempt}"),
        EventKind::Claimed => format!("{key:8.8}  claimed: a first attempt starts"),
        EventKind::Completed { .. } => format!("{key:8.8}  completed: the response is stored"),
        EventKind::Refused { refusal } => format!("{key:8.8}  refused: {refusal}"),
        other => format!("{key:8.8}  {other:?}"),
    });
}

fn layer(store: impl Store, options: &Options) -> IdempotencyLayer {
    IdempotencyLayer::new(
        Engine::new(store).lease(options.lease).backoff(BACKOFF).on_event(print_event),
        Scope::shared(),
    )
    .required()
}

fn books() -> Books {
    Books::new(PathBuf::from("gateway.log"))
}

/// Whoever asks waits for the answer.
fn attended(options: &Options) -> Result<Router, Box<dyn Error>> {
    let payments = if options.transactions {
        let store = PostgresStore::connect(&options.store)?;
        let till = store.transactions();
        post(till::pay).layer(layer(store, options).resumable()).with_state(till)
    } else if options.at_most_once {
        post(pay_once).layer(layer(options.store()?, options)).with_state(books())
    } else {
        post(pay).layer(layer(options.store()?, options).resumable()).with_state(books())
    };
    Ok(Router::new().route("/payments", payments).route("/gateway", get(|| async { "here" })))
}

async fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    Ok(listener)
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let terminated = async move {
        terminate.recv().await;
    };
    if options.attended {
        let app = attended(&options)?;
        axum::serve(listen().await?, app).with_graceful_shutdown(terminated).await?;
        return Ok(());
    }
    let layer = layer(options.store()?, &options).background(Background::at("/operations").always());
    let (layer, payments) = match options.at_most_once {
        true => (layer.clone(), post(pay_once).layer(layer)),
        false => (layer.clone().resumable(), post(pay).layer(layer.resumable())),
    };
    let app = Router::new()
        .route("/payments", payments)
        .route("/operations/{key}", any_service(StatusService::new(&layer)))
        .with_state(books());

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut completing = JoinSet::new();
    for _ in 0..options.completers {
        let completer = Completer::new(&layer, app.clone()).poll(POLL);
        let mut stopped = stopped.clone();
        completing.spawn(async move {
            let shutdown = async { drop(stopped.wait_for(|is| *is).await) };
            completer.run(shutdown).await.inspect_err(|error| eprintln!("{error}"))
        });
    }
    axum::serve(listen().await?, app).with_graceful_shutdown(terminated).await?;
    // What runs is finished; what waits is found by the next process.
    stop.send_replace(true);
    completing.join_all().await;
    Ok(())
}

/// Serves until it is asked to end.
pub fn serve(parser: lexopt::Parser) -> Result<(), Box<dyn Error>> {
    let options = Options::parse(parser)?;
    tokio::runtime::Runtime::new()?.block_on(run(options))
}
