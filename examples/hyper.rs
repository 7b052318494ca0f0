//! A plain hyper server, without axum: the layer wraps any tower service.
//!
//! ```console
//! $ cargo run --example hyper
//! $ curl -i localhost:3000/ -H 'Idempotency-Key: "greeting-1"' -d 'Ada'
//! $ curl -i localhost:3000/ -H 'Idempotency-Key: "greeting-1"' -d 'Ada'
//! $ curl -i localhost:3000/ -H 'Idempotency-Key: "greeting-1"' -d 'Bob'
//! ```
//!
//! The second response is the first one, replayed; the third request is refused.

use std::convert::Infallible;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Layer, service_fn};
use tower_idempotency::store::MemoryStore;
use tower_idempotency::{IdempotencyLayer, RequestBody, Scope};

static GREETED: AtomicU64 = AtomicU64::new(0);

// The layer has read the body already, to tell a retry from another request;
// `RequestBody` hands it on.
async fn greet(request: Request<RequestBody<Incoming>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    match request.into_body().collect().await {
        Ok(body) => {
            let number = GREETED.fetch_add(1, Ordering::Relaxed) + 1;
            let name = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            *response.body_mut() = format!("Hello {name}, you are number {number}\n").into();
        }
        // Only without a key: then the layer leaves the body alone.
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // One service for all connections: its clones share the store.
    let service = IdempotencyLayer::new(MemoryStore::new(), Scope::shared()).layer(service_fn(greet));

    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let server = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = server.await {
                eprintln!("connection: {error}");
            }
        });
    }
}
