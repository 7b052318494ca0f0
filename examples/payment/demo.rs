//! `X-Demo`: what is to go wrong this time.
//!
//! The header is not part of the fingerprint (method, authority, path, body and
//! content type are), so a request without it still counts as a retry.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::problem::Problem;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demo {
    Nothing,
    Crash(Point),
    Pause(Point, Duration),
    Decline,
    GatewayDown,
}

/// Where in a payment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    BeforeCharge,
    AfterCharge,
    BeforeResponse,
}

impl Point {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "before-charge" => Self::BeforeCharge,
            "after-charge" => Self::AfterCharge,
            "before-response" => Self::BeforeResponse,
            _ => return None,
        })
    }
}

impl Demo {
    fn parse(text: &str) -> Option<Self> {
        let pause = |milliseconds: &str| Some(Duration::from_millis(milliseconds.parse::<u32>().ok()?.into()));
        Some(match text.trim() {
            "decline" => Self::Decline,
            "gateway-down" => Self::GatewayDown,
            other => match (other.split_once('='), other.strip_prefix("crash-")) {
                (Some(("slow", time)), _) => Self::Pause(Point::BeforeCharge, pause(time)?),
                (Some((point, time)), _) => Self::Pause(Point::parse(point.strip_prefix("pause-")?)?, pause(time)?),
                (None, Some(point)) => Self::Crash(Point::parse(point)?),
                (None, None) => return None,
            },
        })
    }

    /// Dies or waits here, if that is what was asked for.
    pub(crate) async fn reached(self, point: Point) {
        match self {
            Self::Crash(at) if at == point => {
                // No destructors, no flushing.
                crate::say("X-Demo", "this process dies now");
                std::process::abort();
            }
            Self::Pause(at, time) if at == point => {
                crate::say("X-Demo", "pausing");
                tokio::time::sleep(time).await;
            }
            _ => {}
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Demo {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("x-demo") else { return Ok(Self::Nothing) };
        value.to_str().ok().and_then(Self::parse).ok_or_else(|| {
            let known = "`X-Demo` is one of crash-POINT, pause-POINT=MILLISECONDS, slow=MILLISECONDS, decline, \
                         gateway-down; POINT is before-charge, after-charge or before-response.";
            Problem::new(StatusCode::BAD_REQUEST, "No such demonstration", known).nothing_happened()
        })
    }
}
