//! What clients, handlers and operators say, in each place of a record where it is kept;
//! and whether it is found in what a store has.
#![allow(dead_code, reason = "no test binary uses all of it")]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{ServiceExt, service_fn};
use tower_idempotency::core::{IdempotencyKey, Key, Resolution};
use tower_idempotency::encryption::{EncryptionKey, Keyring};
use tower_idempotency::{
    Background, Engine, IdempotencyLayer, Operation, Operator, RequestBody, Runner, Scope, StepError,
};
use tower_layer::Layer;

/// Each is said in one place, and stored.
pub(crate) const SECRETS: [&str; 13] = [
    "secret-of-the-body",
    "secret-of-the-target",
    "secret-of-the-header",
    "secret-of-a-step-name",
    "secret-of-a-step-result",
    "secret-of-a-done-step-name",
    "secret-of-the-response",
    "secret-of-a-response-header",
    "secret-of-a-plan",
    "secret-of-a-reason",
    "secret-of-an-operator",
    "secret-of-an-operators-name",
    "secret-of-a-runner",
];

/// The operations that are made.
const KEYS: [&str; 5] = ["done", "unfinished", "undoing", "parked", "later"];

pub(crate) fn secret(name: &str) -> EncryptionKey {
    let mut bytes = [7; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    EncryptionKey::new(name, &bytes).unwrap()
}

pub(crate) fn ring() -> Keyring {
    Keyring::new(secret("first"))
}

pub(crate) fn key(text: &str) -> Key {
    Key::new("", &IdempotencyKey::parse(text.as_bytes()).unwrap())
}

/// All that is in the store after [`fill`].
pub(crate) fn keys() -> Vec<Key> {
    let runner = Key::of_runner("s", &IdempotencyKey::parse(b"k").unwrap());
    KEYS.iter().map(|text| key(text)).chain([runner]).collect()
}

async fn handle(request: Request<RequestBody<Full<Bytes>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let operation = request.extensions().get::<Operation>().unwrap().clone();
    let is_done = path == "/done";
    let name = if is_done { "secret-of-a-done-step-name" } else { "secret-of-a-step-name" };
    let step = operation.step(name, |_| async { Ok::<_, Infallible>("secret-of-a-step-result".to_owned()) });
    let step = step.input(&"small");
    let (status, body) = match path.as_str() {
        "/undoing" => {
            step.undo_with(|_: String, _| async { Err(std::io::Error::other("secret-of-a-reason").into()) })
                .await
                .unwrap();
            (422, "secret-of-a-plan")
        }
        "/done" => {
            step.await.unwrap();
            (201, "secret-of-the-response")
        }
        _ => {
            step.await.unwrap();
            (503, "not now")
        }
    };
    let response = Response::builder().status(status).header("x-customer", "secret-of-a-response-header");
    Ok(response.body(Full::from(body)).unwrap())
}

/// Has all of it stored through this engine.
pub(crate) async fn fill(engine: &Engine) {
    let layer = IdempotencyLayer::new(engine, Scope::shared()).resumable().background(Background::at("/operations"));
    let service = layer.layer(service_fn(handle));
    for text in KEYS {
        let request = Request::post(format!("/{text}?q=secret-of-the-target")).header("idempotency-key", text);
        let request = request.header("x-note", "secret-of-the-header");
        let request = request.header("prefer", if text == "later" { "respond-async" } else { "wait=1" });
        let request = request.body(Full::from(r#"{"card":"secret-of-the-body"}"#)).unwrap();
        service.clone().oneshot(request).await.unwrap();
    }
    let operator = Operator::new(engine.clone().instance("secret-of-an-operators-name"));
    let shown = operator.find("", "parked").await.unwrap();
    operator.resolve(&shown, Resolution::Park { why: "secret-of-an-operator".into() }).await.unwrap();
    let work = |_| async { Ok::<_, StepError<Infallible>>("secret-of-a-runner".to_owned()) };
    Runner::new(engine).run("s", "k", "", work).await.unwrap();
}

/// Which of them are found in these bytes, as text or as hexadecimal digits.
pub(crate) fn found_in(dump: &[u8]) -> Vec<&'static str> {
    SECRETS.into_iter().filter(|secret| is_in(dump, secret.as_bytes())).collect()
}

pub(crate) fn is_in(dump: &[u8], bytes: &[u8]) -> bool {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let find = |bytes: &[u8]| dump.windows(bytes.len()).any(|window| window == bytes);
    find(bytes) || find(hex.as_bytes())
}
