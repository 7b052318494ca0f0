//! An order of forty tickets, drawn at the same time, and then one mail.
//!
//! ```console
//! $ cargo run --example tickets
//! ```
//!
//! Order. The response is a 202 at once; a completer draws the tickets in the background.
//!
//! ```console
//! $ curl -i localhost:3000/orders -H 'Idempotency-Key: "concert"' -d 40
//! ```
//!
//! Ask how far it is, again and again: `steps_done` grows.
//!
//! ```console
//! $ curl localhost:3000/operations/concert
//! ```
//!
//! Die after the 27th ticket. Start the program again and send nothing: it goes
//! on by itself, and draws thirteen. `shop.log` is what the shop did, line by
//! line.
//!
//! ```console
//! $ curl -i localhost:3000/orders -H 'Idempotency-Key: "opera"' -H 'X-Demo: crash-after=27' -d 40
//! $ cargo run --example tickets
//! $ curl localhost:3000/operations/opera
//! ```
//!
//! The same request now gets the response itself. Say that you have it,
//! and it is forgotten early.
//!
//! ```console
//! $ curl -i localhost:3000/orders -H 'Idempotency-Key: "opera"' -d 40
//! $ curl -i -X DELETE localhost:3000/operations/opera
//! ```

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{any_service, post};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower_idempotency::{
    Background, Completer, IdempotencyLayer, Operation, Reconciled, Scope, StatusService, StepError, StepKey, store,
};

const HELP: &str = "\
Draws forty tickets at once, in the background, and sends one mail.

Usage: tickets [OPTIONS]

  --listen ADDR    where to listen [127.0.0.1:3000]
  --store URL      where operations are kept, `sqlite:PATH` or `memory:` [sqlite:tickets.db]
  --log FILE       where the shop writes what it does [shop.log]
  --pause MILLIS   how much longer each ticket takes than the one before [200]
  --help           this text
";

struct Options {
    listen: String,
    store: String,
    log: String,
    pause: Duration,
}

impl Options {
    /// `None` if all that is wanted is help.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Self {
            listen: "127.0.0.1:3000".to_owned(),
            store: "sqlite:tickets.db".to_owned(),
            log: "shop.log".to_owned(),
            pause: Duration::from_millis(200),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("listen") => options.listen = parser.value()?.string()?,
                Long("store") => options.store = parser.value()?.string()?,
                Long("log") => options.log = parser.value()?.string()?,
                Long("pause") => options.pause = Duration::from_millis(parser.value()?.parse::<u32>()?.into()),
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

/// A printer and a mailer, which keep books of what they do.
#[derive(Clone)]
struct Shop {
    log: Arc<File>,
    path: Arc<str>,
    pause: Duration,
}

impl Shop {
    fn open(options: &Options) -> io::Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(&options.log)?;
        Ok(Self { log: Arc::new(log), path: options.log.as_str().into(), pause: options.pause })
    }

    fn write(&self, line: &str) -> io::Result<()> {
        (&*self.log).write_all(format!("{line}\n").as_bytes())
    }

    /// Draws one ticket. Doing it twice wastes paper and harms nobody.
    async fn draw(self, order: String, number: u32) -> io::Result<String> {
        self.write(&format!("draw {order} {number}"))?;
        tokio::time::sleep(self.pause * number).await;
        Ok(format!("ticket {number} of order {order}"))
    }

    /// Sends the mail. Twice would annoy.
    fn mail(&self, order: &str, tickets: usize) -> io::Result<()> {
        self.write(&format!("mail {order} {tickets}"))
    }

    fn has_mailed(&self, order: &str) -> io::Result<bool> {
        let start = format!("mail {order} ");
        Ok(std::fs::read_to_string(&*self.path)?.lines().any(|line| line.starts_with(&start)))
    }
}

/// `POST /orders`: the number of tickets.
async fn order(
    op: Operation,
    State(shop): State<Shop>,
    headers: HeaderMap,
    number: String,
) -> Result<(StatusCode, Json<Vec<String>>), (StatusCode, String)> {
    let Some(number) = number.trim().parse().ok().filter(|number| (1..=100).contains(number)) else {
        return Err((StatusCode::BAD_REQUEST, "1 to 100 tickets, please\n".to_owned()));
    };
    let crash_after = crash_after(&headers).filter(|_| !op.is_resumed());
    // Stable: whoever goes on with this operation calls the order the same.
    let name = op.step_key("order").to_string();

    let tickets = draw_all(&op, &shop, &name, number, crash_after).await.map_err(later)?;
    op.once("mail", || async { shop.mail(&name, tickets.len()) })
        .reconcile(|| async {
            match shop.has_mailed(&name) {
                Ok(true) => Reconciled::Happened(()),
                Ok(false) => Reconciled::DidNotHappen,
                Err(_) => Reconciled::Unknown,
            }
        })
        .await
        .map_err(later)?;
    Ok((StatusCode::CREATED, Json(tickets)))
}

/// Fan out, fan in. Every ticket is a step: an attempt that resumes finds the
/// ones that are there, and draws the others.
async fn draw_all(
    op: &Operation,
    shop: &Shop,
    order: &str,
    number: u32,
    crash_after: Option<usize>,
) -> Result<Vec<String>, StepError<io::Error>> {
    let (mut drawing, saved) = (JoinSet::<Result<_, StepError<io::Error>>>::new(), Arc::new(AtomicUsize::new(0)));
    for ticket in 1..=number {
        let (op, shop, order, saved) = (op.clone(), shop.clone(), order.to_owned(), Arc::clone(&saved));
        drawing.spawn(async move {
            let log = shop.clone();
            let draw = |_: StepKey| shop.draw(order.clone(), ticket);
            let drawn = op.step(format!("ticket {ticket}"), draw).await?;
            if crash_after.is_some() {
                // For the demonstration: from here on it is never drawn again.
                let _ = log.write(&format!("saved {order} {ticket}"));
                if Some(saved.fetch_add(1, Ordering::SeqCst) + 1) == crash_after {
                    std::process::abort();
                }
            }
            Ok::<_, StepError<io::Error>>((ticket, drawn))
        });
    }
    let mut tickets = Vec::new();
    while let Some(drawn) = drawing.join_next().await {
        // A task that panicked panics here.
        tickets.push(drawn.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?);
    }
    tickets.sort_unstable();
    Ok(tickets.into_iter().map(|(_, ticket)| ticket).collect())
}

fn crash_after(headers: &HeaderMap) -> Option<usize> {
    headers.get("x-demo")?.to_str().ok()?.strip_prefix("crash-after=")?.parse().ok()
}

/// Resumable: a 503 is not final, and the completer tries again.
fn later(error: StepError<io::Error>) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let layer = IdempotencyLayer::new(store::connect(&options.store)?, Scope::shared())
        .resumable()
        .required()
        .background(Background::at("/operations").always());
    let app = Router::new()
        .route("/orders", post(order).layer(layer.clone()))
        .route("/operations/{key}", any_service(StatusService::new(&layer)))
        .with_state(Shop::open(&options)?);

    // It runs what is accepted, and what an earlier process left behind.
    let completer = Completer::new(&layer, app.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let completing = tokio::spawn(async move { completer.run(async { stopped.await.unwrap_or(()) }).await });

    let listener = TcpListener::bind(&options.listen).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}\n");
    println!("  curl -i http://{address}/orders -H 'Idempotency-Key: \"concert\"' -d 40");
    println!("  curl http://{address}/operations/concert");
    println!("  curl -i http://{address}/orders -H 'Idempotency-Key: \"opera\"' -H 'X-Demo: crash-after=27' -d 40");
    let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app).with_graceful_shutdown(ctrl_c).await?;

    // What runs is finished; what waits is found by the next process.
    let _ = stop.send(());
    completing.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let served = match Options::parse() {
        Ok(Some(options)) => serve(options).await,
        Ok(None) => io::stdout().write_all(HELP.as_bytes()).map_err(Into::into),
        Err(error) => Err(format!("{error}; see --help").into()),
    };
    match served {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
