//! A mail service for trying the mailer out. It honours idempotency keys, as a layer in front of its
//! handler does, writes each mail it takes into a file, and goes wrong when it is told to.
//!
//! Usage: `mail_service [--listen ADDR] [--folder FOLDER]`
//!
//! `PUT /faults` with a list such as `503,drop,slow=2000,500`: what becomes of the next mails, one
//! after the other. `drop` takes the mail and breaks off; `slow` takes it, and responds late.
//! `GET /mails` shows those that were taken.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_idempotency::{IdempotencyLayer, Scope, store};

/// What the file and the list of faults are to all requests.
#[derive(Clone)]
struct Service {
    log: PathBuf,
    file: Arc<Mutex<File>>,
    faults: Arc<Mutex<VecDeque<String>>>,
}

impl Service {
    /// What is on disk is taken.
    fn take(&self, mail: &Value) -> std::io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{mail}\n").as_bytes())?;
        file.sync_data()
    }

    fn next_fault(&self) -> Option<String> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

/// What goes wrong around the layer: on the way to it, and on the way back.
async fn fault(State(service): State<Service>, request: Request, next: Next) -> Response {
    if request.headers().get(AUTHORIZATION).is_none() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let fault = service.next_fault().unwrap_or_default();
    if let Some(status) = fault.parse().ok().and_then(|status| StatusCode::from_u16(status).ok()) {
        return status.into_response();
    }
    let response = next.run(request).await;
    if let Some(millis) = fault.strip_prefix("slow=").and_then(|millis| millis.parse().ok()) {
        println!("slow: a mail is taken");
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    if fault == "drop" {
        println!("drop: a mail is taken");
        // The connection of a task that unwinds is closed, with nothing said.
        std::panic::resume_unwind(Box::new("dropped"));
    }
    response
}

async fn send(State(service): State<Service>, Json(mail): Json<Value>) -> Result<Json<Value>, StatusCode> {
    service.take(&mail).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(json!({ "queued": mail["to"] })))
}

async fn taken(State(service): State<Service>) -> Result<Json<Value>, StatusCode> {
    let text = std::fs::read_to_string(&service.log).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect()))
}

async fn set_faults(State(service): State<Service>, list: String) {
    let faults = list.split(',').map(|fault| fault.trim().to_owned()).collect();
    *service.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
}

async fn serve(listen: &str, folder: PathBuf) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(&folder)?;
    let log = folder.join("mails.log");
    let file = OpenOptions::new().create(true).append(true).open(&log)?;
    let service = Service { log, file: Arc::new(Mutex::new(file)), faults: Arc::default() };
    let store = store::connect(&format!("sqlite:{}", folder.join("mail_service.db").display()))?;
    // One customer of the service, so one scope.
    let layer = IdempotencyLayer::new(store, Scope::shared()).required();
    let mails = post(send).layer(layer).layer(from_fn_with_state(service.clone(), fault));
    let app =
        Router::new().route("/mails", mails.merge(get(taken))).route("/faults", put(set_faults)).with_state(service);
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    use lexopt::prelude::*;

    let (mut listen, mut folder) = ("127.0.0.1:3025".to_owned(), PathBuf::from("."));
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => listen = parser.value()?.string()?,
            Long("folder") => folder = parser.value()?.into(),
            Long("help") | Short('h') => {
                println!("mail_service [--listen ADDR] [--folder FOLDER]");
                return Ok(());
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    serve(&listen, folder).await
}
