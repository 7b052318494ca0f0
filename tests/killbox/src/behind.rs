//! A service that stands behind the proxy, and knows nothing of idempotency keys: each request
//! charges once more. With `--honours HEADER` it charges once for each value of that header.
//!
//! It is this program, started as `killbox behind`.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::books::Books;
use crate::service::{Pause, paid, read, say};

/// What all requests meet.
#[derive(Clone)]
struct Shop {
    books: Books,
    honours: Option<HeaderName>,
}

/// The work goes on if the proxy is gone, as that of most services does.
async fn pay(State(shop): State<Shop>, headers: HeaderMap, Json(payment): Json<Value>) -> Response {
    let work = tokio::spawn(async move { charge(&shop, &headers, &payment).await });
    work.await.ok().flatten().unwrap_or_else(|| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn charge(shop: &Shop, headers: &HeaderMap, payment: &Value) -> Option<Response> {
    let (pause, (order, amount)) = (Pause::of(headers), read(payment));
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
    let key = shop.honours.as_ref().and_then(text).unwrap_or_else(|| format!("{:032x}", fastrand::u128(..)));
    let attempt = text(&HeaderName::from_static("idempotency-attempt"))?.parse().ok()?;
    say(&format!("begun {order}"));
    pause.at("before-charge").await;
    let charged = shop.books.charge(key, order.clone(), amount).await.ok()?;
    pause.at("after-charge").await;
    say(&format!("ended {order}"));
    Some(paid(&charged, attempt))
}

async fn run(address: SocketAddr, shop: Shop) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    axum::serve(listener, Router::new().route("/payments", post(pay)).with_state(shop)).await?;
    Ok(())
}

/// Serves until it is killed.
pub fn serve(mut parser: lexopt::Parser) -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut shop = Shop { books: Books::new(PathBuf::from("gateway.log")), honours: None };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => address = parser.value()?.parse()?,
            Long("honours") => shop.honours = Some(parser.value()?.parse()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    tokio::runtime::Runtime::new()?.block_on(run(address, shop))
}
