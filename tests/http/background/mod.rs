//! What is answered 202 and run later, and what the status resource shows.

mod accepted;
mod handed_over;
mod status;

use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_idempotency::{Background, Backoff, IdempotencyLayer, Operation, StatusService};

use crate::support::Count;
use crate::support::bodies::TestBody;
use crate::support::lab::{Answer, App, Inner, Lab, operation, post, reply, secs, serve, with};

fn layer(lab: &Lab) -> IdempotencyLayer {
    lab.layer_with(|engine| engine.backoff(Backoff::new(secs(10), secs(10))))
        .resumable()
        .background(Background::at("/operations"))
}

/// A handler that gets its operation, and the number of times it ran.
fn counting<F, Fut>(layer: &IdempotencyLayer, handler: F) -> (App, Count)
where
    F: Fn(Operation) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<TestBody>> + Send + 'static,
{
    let runs = Count::default();
    let count = runs.clone();
    let app = serve(layer, move |request: Inner| {
        count.up();
        let run = handler(operation(&request));
        async move { Ok(run.await) }
    });
    (app, runs)
}

fn paying(layer: &IdempotencyLayer) -> (App, Count) {
    counting(layer, |_| async { reply(201, "paid") })
}

fn later(key: &str) -> Request<TestBody> {
    with(post(key), "prefer", "respond-async")
}

#[track_caller]
fn assert_accepted(answer: &Answer, location: &str) {
    assert_eq!((answer.status.as_u16(), answer.refusal), (202, None), "{answer:?}");
    assert_eq!(answer.headers["location"], location);
    assert_eq!(answer.headers["preference-applied"], "respond-async");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert!(!answer.headers.contains_key("idempotent-replayed"), "it is no stored answer");
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body, json!({ "state": "accepted", "location": location }));
}

/// An answer of the status resource.
struct Shown {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Shown {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn tag(&self) -> &str {
        self.headers["etag"].to_str().unwrap()
    }
}

async fn ask(service: &StatusService, method: &str, path: &str, headers: &[(&'static str, &str)]) -> Shown {
    let mut request = Request::builder().method(method).uri(path).body(()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let (parts, body) = service.clone().oneshot(request).await.unwrap().into_parts();
    let text = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    Shown { status: parts.status.as_u16(), headers: parts.headers, text: String::from_utf8(text.to_vec()).unwrap() }
}

async fn shown(layer: &IdempotencyLayer, key: &str) -> Shown {
    ask(&StatusService::new(layer), "GET", &format!("/operations/{key}"), &[]).await
}
