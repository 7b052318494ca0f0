//! Once a day: what was sold becomes a CSV file and one mail. Any number of instances may run, and
//! any of them may die at any moment.
//!
//! README.md says what to try. `export.rs` is the run, step by step; `shop.rs` is the table that it
//! reads; `mail.rs` sends the mail, and finds out whether it was sent; `demo.rs` makes things go
//! wrong; `sink/` is the mail server to try it with.

mod demo;
mod export;
mod mail;
mod options;
mod shop;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tower_idempotency::schedule::{Missed, Schedule, Scheduler};
use tower_idempotency::{Backoff, Engine, Event, EventKind, store};

use self::export::Export;
use self::options::{HELP, Options};

/// What is caught up with at most, if no instance ran for long: a month of days.
const MISSED: Missed = Missed::Newest(31);

/// How long a run may take that is at work when the process is asked to end.
const DRAIN: Duration = Duration::from_secs(20);

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let store = store::connect(&options.store).map_err(|error| format!("{error}; or choose another with --store"))?;
    let engine = Engine::new(store).instance(&options.name).lease(options.lease).on_event(print_event);
    let schedule = Schedule::new("daily-export", options.timing.clone())
        .missed(MISSED)
        .backoff(Backoff::new(options.backoff, options.backoff.saturating_mul(60)));
    say("-", &format!("instance {} runs `daily-export`, {}", options.name, options.timing));
    let export = Arc::new(Export::new(options)?);
    let scheduler = Scheduler::new(engine.clone())
        .schedule(schedule, move |period, operation| Arc::clone(&export).run(period, operation))?;
    scheduler.run(stopped()).await;
    engine.drain(DRAIN).await;
    Ok(())
}

/// What an operator is to know, and what the library did.
fn print_event(event: &Event) {
    let run = event.key.map_or_else(|| "-".to_owned(), |key| key.to_string());
    match &event.kind {
        kind if kind.needs_attention() => alert(&run, &kind.to_string()),
        // Said by the export itself.
        EventKind::Claimed | EventKind::Resumed { .. } => {}
        kind => say(&run, &kind.to_string()),
    }
}

/// Where a real service would page an operator.
fn alert(run: &str, what: &str) {
    say(run, &format!("ALERT: {what}"));
}

/// One line about one run. A closed terminal is no reason to fail.
fn say(run: &str, what: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{run:12.12}  {what}");
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
