//! A shop that sends each new customer a mail, through the service of another company. The mail is
//! kept in the shop's store before the shop says "done", and any process of the shop sends it.
//!
//! README.md says what to try. `outbox.rs` is the outbox and its client; `shop.rs` what the shop
//! answers; `demo.rs` makes things go wrong; `service/` is the mail service to try it with.

mod demo;
mod options;
mod outbox;
mod shop;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpListener;
use tower_idempotency::{Backoff, Engine, Event, store};

use self::demo::Demo;
use self::options::{HELP, Options};

/// How long a mail may take that is being sent when the process is asked to end.
const DRAIN: Duration = Duration::from_secs(20);

async fn serve(options: Options) -> Result<(), Box<dyn Error + Send + Sync>> {
    let store = store::connect(&options.store).map_err(|error| format!("{error}; or choose another with --store"))?;
    let engine = Engine::new(store)
        .instance(&options.name)
        .lease(options.lease)
        .backoff(Backoff::new(options.backoff, options.backoff * 60))
        .on_event(print_event);
    let demo = Demo(options.demo);
    let mails = outbox::mails(&engine, &options.service, &demo)?.poll(options.poll);
    let listener = TcpListener::bind(&options.listen).await?;
    let sending = tokio::spawn({
        let mails = mails.clone();
        async move { mails.run(stopped()).await }
    });
    say(&format!("listening on http://{} as {}", listener.local_addr()?, options.name));
    let shop = shop::router(mails, &options.service, demo);
    axum::serve(listener, shop).with_graceful_shutdown(stopped()).await?;
    engine.drain(DRAIN).await;
    Ok(sending.await?)
}

/// What an operator is to know, and what the library did.
fn print_event(event: &Event) {
    let call = event.key.map_or_else(|| "-".to_owned(), |key| key.to_string());
    let alert = if event.kind.needs_attention() { "ALERT: " } else { "" };
    say(&format!("{call:12.12}  {alert}{}", event.kind));
}

/// One line. A closed terminal is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
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

#[tokio::main]
async fn main() -> ExitCode {
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
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
