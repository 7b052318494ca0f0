//! The outbox, and the client through which it sends.

use axum::body::Bytes;
use axum::http::{HeaderValue, Request, header::AUTHORIZATION};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Layer as _, service_fn};
use tower_idempotency::Engine;
use tower_idempotency::client::{RetryLayer, Server};
use tower_idempotency::core::IdempotencyKey;
use tower_idempotency::outbox::Outbox;

use crate::demo::{Demo, Point};

/// The token that the mail service knows this shop by. It is not stored with the calls.
const TOKEN: HeaderValue = HeaderValue::from_static("Bearer example");

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The mails of this shop, over a store that all of its processes share.
pub(crate) fn mails(engine: &Engine, service: &str, demo: &Demo) -> Result<Outbox, Error> {
    let http = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let demo = demo.clone();
    let send = service_fn(move |mut request: Request<Full<Bytes>>| {
        let (http, demo) = (http.clone(), demo.clone());
        async move {
            demo.reached(Point::BeforeSend).await;
            request.headers_mut().insert(AUTHORIZATION, TOKEN);
            let response = http.request(request).await?;
            demo.reached(Point::Answered).await;
            Ok::<_, Error>(response)
        }
    });
    // A second try soon, and further ones by the outbox: they outlive this process.
    let client = RetryLayer::new(Server::honours_keys(service)?).max_tries(2).layer(send);
    Ok(Outbox::new("mail", engine, client)?)
}

/// The mail to a new customer. Its key is derived from the customer, so that it is one mail
/// however often it is asked for.
pub(crate) fn welcome(service: &str, customer: &str) -> Result<(IdempotencyKey, Request<Full<Bytes>>), Error> {
    let mail = serde_json::json!({ "to": customer, "subject": "Welcome!" }).to_string();
    let request = Request::post(format!("{service}/mails"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(mail)))?;
    Ok((IdempotencyKey::derived("welcome", customer), request))
}
