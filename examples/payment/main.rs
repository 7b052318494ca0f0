//! A payment service that may die at any moment and never charges twice.
//!
//! ```console
//! $ cargo run --example payment
//! ```
//!
//! It prints what to try. This file is the service; `gateway.rs` stands for
//! the payment company, with its own log; `demo.rs` is the header that
//! makes things go wrong; `problem.rs` builds the error responses.

mod demo;
mod gateway;
mod options;
mod payment;
mod problem;

use std::convert::Infallible;
use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower_idempotency::{Engine, Event, EventKind, IdempotencyLayer, Mode, Operation, Reconciled, Scope, store};

use self::demo::{Demo, Point};
use self::gateway::{Gateway, GatewayError, Report};
use self::options::{HELP, Options};
use self::payment::{Created, Order, Payment, PaymentRequest};
use self::problem::Problem;

/// `POST /payments`, written with steps: an attempt that dies is resumed.
async fn pay(
    op: Operation,
    State(gateway): State<Gateway>,
    demo: Demo,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Created, Problem> {
    let payment = PaymentRequest::read(&headers, &body)?;

    // Remembered. In a real shop: the INSERT of the order, under the step's key.
    let order = op.step("order", |key| async move { Ok::<_, Infallible>(Order::of(&key)) }).await?;

    // The intent is stored, then comes the charge, then its result is stored.
    // A retry finds the result, or makes the same call with the same key.
    let request = payment.charge_request(&order);
    let charge = op
        .pay("charge", |key| gateway.charge(key.to_string(), request, demo))
        .final_when(GatewayError::is_final)
        .await?;

    // Receipts have no downstream key, so this step begins only once. After a
    // crash in the middle we ask the gateway whether the receipt went out.
    op.once("receipt", || gateway.send_receipt(&charge.id))
        .reconcile(|| async {
            match gateway.has_receipt(&charge.id).await {
                Ok(true) => Reconciled::Happened(()),
                Ok(false) => Reconciled::DidNotHappen,
                Err(_) => Reconciled::Unknown,
            }
        })
        .await?;

    demo.reached(Point::BeforeResponse).await;
    Ok(Created(charge.into(), op.attempt()))
}

/// The same without steps, for `--opaque`. Nothing can be resumed, so the
/// layer never starts it twice; after a crash it responds `outcome-unknown`.
async fn pay_opaque(
    State(gateway): State<Gateway>,
    demo: Demo,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Created, Problem> {
    let payment = PaymentRequest::read(&headers, &body)?;
    let order = Order::new();
    // A new key each time it runs: run twice, it would charge twice.
    let key = format!("{:032x}", fastrand::u128(..));
    let charge = gateway.charge(key, payment.charge_request(&order), demo).await.map_err(|error| match error {
        GatewayError::Unreachable => Problem::from(error).nothing_happened(),
        error => error.into(),
    })?;
    gateway.send_receipt(&charge.id).await?;
    demo.reached(Point::BeforeResponse).await;
    Ok(Created(charge.into(), 1))
}

/// `GET /payments/{id}`: where `Location` points.
async fn payment(State(gateway): State<Gateway>, Path(id): Path<String>) -> Result<Json<Payment>, Problem> {
    let charge = gateway.find(id).await?.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "No such payment", "No charge was made for a payment of this id.")
    })?;
    Ok(Json(charge.into()))
}

/// `GET /gateway`: what was really charged.
async fn report(State(gateway): State<Gateway>) -> Result<Json<Report>, Problem> {
    Ok(Json(gateway.report().await?))
}

fn app(options: &Options) -> Result<(Router, IdempotencyLayer), String> {
    let store = store::connect(&options.store).map_err(|error| format!("{error}; or choose another with --store"))?;
    let gateway = Gateway::open(&options.gateway_log).map_err(|error| {
        format!(
            "can't use {} as the gateway's log: {error}; name another with --gateway-log",
            options.gateway_log.display()
        )
    })?;
    // One caller, this shop's own web site, which makes up the keys. Where
    // users call, authenticate outside and use `Scope::extension::<UserId>()`.
    let layer = IdempotencyLayer::new(Engine::new(store).lease(options.lease).on_event(print_event), Scope::shared())
        .required()
        .request_limit(64 << 10);
    let layer = if options.opaque { layer } else { layer.resumable() };
    let payments = if options.opaque { post(pay_opaque) } else { post(pay) };
    let app = Router::new()
        .route("/payments", payments.layer(layer.clone()))
        .route("/payments/{id}", get(payment))
        .route("/gateway", get(report))
        .with_state(gateway);
    Ok((app, layer))
}

fn print_event(event: &Event) {
    let what = match &event.kind {
        EventKind::Claimed => "claimed: a first attempt starts".to_owned(),
        EventKind::Resumed { attempt } => format!("resumed: attempt {attempt} continues where the last one stopped"),
        EventKind::StepBegun { step } => format!("step {step}: intent stored"),
        EventKind::StepSaved { step } => format!("step {step}: done, result stored"),
        EventKind::StepFailed { step } => {
            format!("step {step}: failed, and the failure is stored: no attempt runs it again")
        }
        EventKind::StepReplayed { step } => format!("step {step}: done by an earlier attempt, not run"),
        EventKind::Completed { status, .. } => format!("completed: the response ({status}) is stored"),
        EventKind::Replayed => "replayed: the retry gets the stored response".to_owned(),
        EventKind::Released { mode: Mode::Resumable, .. } => {
            "released: no final response, a retry continues".to_owned()
        }
        EventKind::Released { .. } => {
            "released: no response, and the outcome is unknown; an operator has to decide".to_owned()
        }
        EventKind::Withdrawn { .. } => "withdrawn: nothing happened, the key is free".to_owned(),
        EventKind::Refused { refusal } => format!("refused: {refusal}"),
        EventKind::DrainBegun { .. } => "draining: new payments are refused, those that run are finished".to_owned(),
        EventKind::DrainEnded { left } => left.to_string(),
        other => format!("{other:?}"),
    };
    let key = event.key.map_or_else(|| "-".to_owned(), |key| key.to_string());
    say(&key, &what);
}

/// One line on what happened to which operation. A closed terminal is no reason to fail.
fn say(who: &str, what: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{who:8.8}  {what}");
}

/// A store's URL as it may be shown: without user and password.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => url.to_owned(),
    }
}

fn greet(address: SocketAddr, options: &Options) {
    let Options { gateway_log, opaque, .. } = options;
    let store = without_password(&options.store);
    let mode = if *opaque { "at-most-once, no steps" } else { "resumable" };
    let curl = |key: &str, order: &str, amount: u32, more: &str| {
        format!(
            "curl -i http://{address}/payments -H 'Idempotency-Key: \"{key}\"' -H 'Content-Type: application/json' \
             {more}-d '{{\"order\":\"{order}\",\"amount\":{amount},\"currency\":\"EUR\"}}'"
        )
    };
    let (pay, other) = (curl("first", "A-17", 1999, ""), curl("first", "A-17", 4999, ""));
    let crash = curl("second", "B-42", 500, "-H 'X-Demo: crash-after-charge' ");
    let retry = curl("second", "B-42", 500, "");
    let text = format!(
        "listening on http://{address} ({mode}; store {store}, gateway's log {})\n\n\
         Pay, and pay again: the second response is the first one, replayed.\n  {pay}\n\
         The same key with another body is refused.\n  {other}\n\
         Let the process die right after the charge, start it again, and retry: it does not charge twice.\n  {crash}\n  {retry}\n\
         What the gateway really charged:\n  curl http://{address}/gateway\n\n",
        gateway_log.display()
    );
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let (app, layer) = app(&options)?;
    let address = &options.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("can't listen on {address}: {error}; choose another address with --listen"))?;
    greet(listener.local_addr()?, &options);
    let (cut_short, is_cut_short) = oneshot::channel();
    let stopped = async move {
        stopped().await;
        let drained = layer.drain(options.drain).await;
        if !drained.is_empty() {
            let _ = cut_short.send(());
        }
    };
    tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(stopped).into_future() => served?,
        // It would wait for their connections. A retry resumes them elsewhere.
        Ok(()) = is_cut_short => {}
    }
    Ok(())
}

/// Ctrl-C or SIGTERM.
async fn stopped() {
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                () = ctrl_c => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    ctrl_c.await;
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = std::io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}; see --help");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
