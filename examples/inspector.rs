//! The page on which an operator sees what is stuck, and decides.
//!
//! ```console
//! $ cargo run --example inspector
//! ```
//!
//! Then open <http://localhost:3000/operations>. The program has made some operations that went
//! wrong: payments whose handlers panicked, and one that an operator parked. Decide about one,
//! say that it may run again, and send its request once more:
//!
//! ```console
//! $ curl -i localhost:3000/payments -H 'Idempotency-Key: "order-17"' -d 'panic'
//! ```

use std::error::Error;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;
use tower::ServiceExt;
use tower_idempotency::core::Resolution;
use tower_idempotency::{Authorise, Engine, IdempotencyLayer, Inspector, Operation, Operator, Scope, StepError, store};

const HELP: &str = "\
Shows operations that went wrong, on a page for operators.

Usage: inspector [OPTIONS]

  --listen ADDR    where to listen [127.0.0.1:3000]
  --store URL      where operations are kept, `sqlite:PATH` or `memory:` [memory:]
  --help           this text
";

/// In at-most-once mode: when this panics, what it did is unknown.
async fn pay(body: String) -> String {
    assert!(body != "panic", "a planned panic, while it charges");
    format!("paid {body}\n")
}

/// In resumable mode: what is done stays done.
async fn order(op: Operation, body: String) -> Result<String, (StatusCode, String)> {
    let failed = |error: StepError<String>| (StatusCode::BAD_GATEWAY, error.to_string());
    let number = op.step("order", |_| async { Ok(17) }).await.map_err(failed)?;
    let charge = op.pay("charge", |_| async {
        assert!(body != "panic", "a planned panic, while it charges");
        Ok("ch_1".to_owned())
    });
    let charge = charge.await.map_err(failed)?;
    Ok(format!("order {number}, charge {charge}\n"))
}

fn service(engine: &Engine) -> (Router, IdempotencyLayer) {
    let layer = IdempotencyLayer::new(engine.clone(), Scope::shared());
    let payments = Router::new().route("/payments", post(pay)).layer(layer.clone());
    let orders = Router::new().route("/orders", post(order)).layer(layer.clone().resumable());
    (payments.merge(orders), layer)
}

/// Requests as clients send them, some of which go wrong.
async fn go_wrong(service: &Router) -> Result<(), Box<dyn Error>> {
    let requests = [
        ("/payments", "order-17", "panic"),
        ("/payments", "order-18", "12 euros"),
        ("/orders", "cart-3", "panic"),
        ("/orders", "cart-4", "books"),
        ("/payments", "refund-9", "panic"),
    ];
    for (path, key, body) in requests {
        let request = Request::post(path).header("idempotency-key", format!("\"{key}\"")).body(Body::from(body))?;
        service.clone().oneshot(request).await?;
    }
    Ok(())
}

async fn run(listen: &str, store: &str) -> Result<(), Box<dyn Error>> {
    let engine = Engine::new(store::connect(store)?).instance("example");
    let (service, layer) = service(&engine);
    go_wrong(&service).await?;
    let operator = Operator::new(&layer);
    if let Ok(shown) = operator.find("", "refund-9").await {
        let why = "the bank looks for it, ticket 4711".into();
        operator.by("Ann").resolve(&shown, Resolution::Park { why }).await?;
    }

    // In a real service this asks who sent the request: see `Authorise::by`.
    let inspector = Inspector::new(operator, Authorise::allow_all_as("example"));
    let app = service.nest_service("/operations", inspector);
    let listener = TcpListener::bind(listen).await?;
    println!("open http://{}/operations", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let (mut listen, mut store) = ("127.0.0.1:3000".to_owned(), "memory:".to_owned());
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => listen = parser.value()?.string()?,
            Long("store") => store = parser.value()?.string()?,
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(());
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    run(&listen, &store).await
}
