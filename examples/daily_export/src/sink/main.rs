//! A mail server that takes mails into a folder, and goes wrong when it is told to.
//!
//! `session.rs` is the exchange of SMTP, `mailbox.rs` what was taken. It is asked over HTTP:
//!
//! - `GET /mails`: what was taken, as JSON.
//! - `GET /mails/ID`: 200 if the mail with this Message-ID was taken, 404 if it was not, and 409
//!   if that is still open, because the server works on a mail.
//! - `PUT /faults`, with a list as of `--faults`: what is to go wrong next.

mod mailbox;
mod session;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::{Json, Router};
use tokio::net::TcpListener;

use self::mailbox::{Fault, Head, Mailbox};

const HELP: &str = "\
A mail server for trying things out: it takes mails into a folder, and passes none on.

Usage: smtp_sink [OPTIONS]

  --smtp ADDR      where it takes mails [127.0.0.1:2525]
  --http ADDR      where it is asked what it took [127.0.0.1:8025]
  --mails FOLDER   where it keeps them [mails]
  --faults LIST    what goes wrong with the next mails, one after the other, with commas:
                     accept          nothing
                     refuse          451 in place of taking its sender
                     reject          554 after the content
                     take-and-drop   it is taken, and the connection breaks before the response
                     lose            the connection breaks after the content, and it is not taken
                     slow=MS         so many milliseconds later than it could be
  --help           this text
";

struct Options {
    smtp: String,
    http: String,
    mails: std::path::PathBuf,
    faults: Vec<Fault>,
}

impl Options {
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;

        let mut options = Self {
            smtp: "127.0.0.1:2525".to_owned(),
            http: "127.0.0.1:8025".to_owned(),
            mails: "mails".into(),
            faults: Vec::new(),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Long("smtp") => options.smtp = parser.value()?.string()?,
                Long("http") => options.http = parser.value()?.string()?,
                Long("mails") => options.mails = parser.value()?.into(),
                Long("faults") => options.faults = parser.value()?.parse_with(Fault::list)?,
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(arg.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

async fn mails(State(mailbox): State<Arc<Mailbox>>) -> Json<Vec<Head>> {
    Json(mailbox.all())
}

async fn mail(State(mailbox): State<Arc<Mailbox>>, Path(id): Path<String>) -> StatusCode {
    match mailbox.was_taken(&id) {
        Some(true) => StatusCode::OK,
        Some(false) => StatusCode::NOT_FOUND,
        None => StatusCode::CONFLICT,
    }
}

async fn faults(State(mailbox): State<Arc<Mailbox>>, list: String) -> Result<(), (StatusCode, String)> {
    mailbox.set_faults(Fault::list(&list).map_err(|error| (StatusCode::BAD_REQUEST, error))?);
    Ok(())
}

async fn listen(address: &str, option: &str) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("can't listen on {address}: {error}; choose another address with {option}"))
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let mailbox = Arc::new(Mailbox::open(options.mails, options.faults)?);
    let (smtp, http) = (listen(&options.smtp, "--smtp").await?, listen(&options.http, "--http").await?);
    say(&format!("SMTP on {}, HTTP on {}", smtp.local_addr()?, http.local_addr()?));
    let app = Router::new()
        .route("/mails", get(mails))
        .route("/mails/{id}", get(mail))
        .route("/faults", put(faults))
        .with_state(Arc::clone(&mailbox));
    tokio::spawn(async move {
        loop {
            // Out of descriptors, say: the next one may be better.
            let Ok((stream, _)) = smtp.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            let mailbox = Arc::clone(&mailbox);
            tokio::spawn(async move { session::run(stream, &mailbox).await });
        }
    });
    Ok(axum::serve(http, app).await?)
}

/// One line. A closed terminal is no reason to fail.
fn say(what: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{what}");
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
