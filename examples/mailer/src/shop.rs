//! What the shop answers: `POST /customers/NAME`, and `GET /mails/STATE`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tower_idempotency::outbox::{Call, CallState, Outbox};

use crate::demo::{Demo, Point};
use crate::outbox::welcome;

#[derive(Clone)]
struct Shop {
    mails: Outbox,
    service: String,
    demo: Demo,
}

type Answer = Result<(StatusCode, Json<Value>), (StatusCode, String)>;

pub(crate) fn router(mails: Outbox, service: &str, demo: Demo) -> Router {
    Router::new().route("/customers/{name}", post(register)).route("/mails/{state}", get(list)).with_state(Shop {
        mails,
        service: service.to_owned(),
        demo,
    })
}

/// Who is registered gets a mail, once, and whatever becomes of this process.
async fn register(State(shop): State<Shop>, Path(name): Path<String>) -> Answer {
    let (key, request) = welcome(&shop.service, &name).map_err(later)?;
    let id = shop.mails.send_later(&key, request).await.map_err(later)?;
    shop.demo.reached(Point::Accepted).await;
    Ok((StatusCode::ACCEPTED, Json(json!({ "customer": name, "mail": id.to_string() }))))
}

/// What was sent, and what was not.
async fn list(State(shop): State<Shop>, Path(state): Path<String>) -> Answer {
    let states = [CallState::Waiting, CallState::Sending, CallState::Sent, CallState::NeedsAttention];
    let unknown = || (StatusCode::NOT_FOUND, format!("the states are {}", states.map(CallState::name).join(", ")));
    let state = states.into_iter().find(|known| known.name() == state).ok_or_else(unknown)?;
    let (mut mails, mut place) = (Vec::new(), None);
    loop {
        let page = shop.mails.list(state, place).await.map_err(later)?;
        mails.extend(page.calls.iter().map(shown));
        place = page.next;
        if place.is_none() {
            return Ok((StatusCode::OK, Json(mails.into())));
        }
    }
}

fn shown(call: &Call) -> Value {
    json!({
        "id": call.id.to_string(),
        "key": call.key,
        "state": call.state.name(),
        "accepted": call.accepted.as_millis(),
        "written": call.written.as_millis(),
        "attempts": call.attempts,
        "status": call.response.as_ref().map(|response| response.status().as_u16()),
        "why": call.why,
    })
}

fn later(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
