//! `X-Demo`: what shall go wrong this time.
//!
//! It is not part of what makes two requests the same one (method, path, body
//! and content type are), so a retry without it is a retry.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use crate::problem::Problem;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demo {
    Nothing,
    CrashBeforeCharge,
    CrashAfterCharge,
    CrashBeforeResponse,
    Slow(Duration),
    Decline,
    GatewayDown,
}

impl Demo {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.trim() {
            "crash-before-charge" => Self::CrashBeforeCharge,
            "crash-after-charge" => Self::CrashAfterCharge,
            "crash-before-response" => Self::CrashBeforeResponse,
            "decline" => Self::Decline,
            "gateway-down" => Self::GatewayDown,
            slow => Self::Slow(Duration::from_millis(slow.strip_prefix("slow=")?.parse::<u32>().ok()?.into())),
        })
    }

    /// Dies here, if that is what was asked for: no destructors, no flushing.
    pub(crate) fn crash_if(self, point: Self) {
        if self == point {
            crate::say("X-Demo", "this process dies now");
            std::process::abort();
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Demo {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("x-demo") else { return Ok(Self::Nothing) };
        value.to_str().ok().and_then(Self::parse).ok_or_else(|| {
            let known = "`X-Demo` is one of crash-before-charge, crash-after-charge, crash-before-response, \
                         slow=MILLISECONDS, decline, gateway-down.";
            Problem::new(StatusCode::BAD_REQUEST, "No such demonstration", known).nothing_happened()
        })
    }
}
