//! What every page has, and how it goes out.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, REFERRER_POLICY,
    SET_COOKIE, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use maud::{DOCTYPE, Markup, html};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::operator::inspector::authorise::{Denial, Denied, Who};
use crate::operator::inspector::form::link;
use crate::operator::inspector::refused::Refused;

const STYLE: &str = include_str!("style.css");
const ICON: &str = include_str!("icon.svg");

/// Another one for each style, so that a browser may keep it for good.
static STYLE_VERSION: LazyLock<String> =
    LazyLock::new(|| Sha256::digest(STYLE).iter().take(6).map(|byte| format!("{byte:02x}")).collect());

/// A page loads its style and its icon from here, and nothing else from anywhere; it has no
/// script.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// What the inspector answers.
pub(super) enum Reply {
    Page(Page),
    Json(StatusCode, Value),
    /// Elsewhere on this page.
    See(String),
    Style,
    Icon,
}

/// A page in full.
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) title: String,
    pub(super) content: Markup,
    /// A cookie that the browser is to keep.
    pub(super) cookie: Option<String>,
}

impl Page {
    pub(super) fn new(title: impl Into<String>, content: Markup) -> Self {
        Self { status: StatusCode::OK, title: title.into(), content, cookie: None }
    }
}

/// The body of the [`Inspector`](crate::Inspector)'s responses.
#[derive(Default)]
pub struct InspectorBody(Option<Bytes>);

impl Body for InspectorBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

impl fmt::Debug for InspectorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InspectorBody").finish_non_exhaustive()
    }
}

impl Reply {
    pub(super) fn refused(refused: &Refused, wants_json: bool) -> Self {
        if wants_json {
            return Self::Json(refused.status, json!({ "title": refused.title, "detail": refused.advice }));
        }
        let content = html! {
            h1 { (refused.title) }
            p.advice { (refused.advice) }
            p { a href="?" { "To the overview" } }
        };
        Self::Page(Page { status: refused.status, ..Page::new(refused.title, content) })
    }

    /// As it goes out to them.
    pub(super) fn into_response(self, who: &Who) -> Response<InspectorBody> {
        match self {
            Self::Page(page) => {
                let body = shell(&page.title, Some(who), &page.content).into_string();
                let mut response = respond(page.status, "text/html; charset=utf-8", body);
                if let Some(cookie) = page.cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
                    response.headers_mut().insert(SET_COOKIE, cookie);
                }
                response
            }
            Self::Json(status, value) => respond(status, "application/json", value.to_string()),
            Self::See(link) => {
                let mut response = respond(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", Bytes::new());
                response.headers_mut().extend(HeaderValue::try_from(link).ok().map(|link| (LOCATION, link)));
                response
            }
            Self::Style => kept(respond(StatusCode::OK, "text/css; charset=utf-8", STYLE)),
            Self::Icon => kept(respond(StatusCode::OK, "image/svg+xml", ICON)),
        }
    }
}

/// To those who may not see the page. It says nothing of what is there.
pub(super) fn denied(denied: Denied) -> Response<InspectorBody> {
    let (status, title, header) = match denied.0 {
        Denial::Unauthenticated(challenge) => {
            (StatusCode::UNAUTHORIZED, "Log in to see this page", challenge.map(|value| (WWW_AUTHENTICATE, value)))
        }
        Denial::Forbidden => (StatusCode::FORBIDDEN, "You may not see this page", None),
        Denial::LogIn(address) => (StatusCode::SEE_OTHER, "Log in to see this page", Some((LOCATION, address))),
    };
    let content = html! {
        h1 { (title) }
        p.advice { "The operators of this service say who may see it." }
    };
    let mut response = respond(status, "text/html; charset=utf-8", shell(title, None, &content).into_string());
    response.headers_mut().extend(header);
    response
}

/// Without its body, as HEAD is answered: the length stays.
pub(super) fn head_alone(response: Response<InspectorBody>) -> Response<InspectorBody> {
    let (mut parts, body) = response.into_parts();
    let length = body.0.as_ref().map_or(0, Bytes::len);
    parts.headers.insert(http::header::CONTENT_LENGTH, length.into());
    Response::from_parts(parts, InspectorBody::default())
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<InspectorBody> {
    let mut response = Response::new(InspectorBody(Some(body.into()).filter(|body: &Bytes| !body.is_empty())));
    *response.status_mut() = status;
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Not `no-referrer`: browsers would then hide the origin of the page's own forms.
        // Other sites learn nothing by either.
        (REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // What stands there depends on who looks, and on what they accept.
        (VARY, "Accept, Authorization, Cookie"),
    ];
    response.headers_mut().extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
    }
    response
}

fn kept(mut response: Response<InspectorBody>) -> Response<InspectorBody> {
    let for_good = HeaderValue::from_static("public, max-age=31536000, immutable");
    response.headers_mut().insert(CACHE_CONTROL, for_good);
    response.headers_mut().remove(VARY);
    response
}

fn shell(title: &str, who: Option<&Who>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Idempotency" }
                link rel="stylesheet" href=(link(&[("style", &STYLE_VERSION)]));
                link rel="icon" href=(link(&[("icon", "1")])) type="image/svg+xml";
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                @if let Some(who) = who { (top(who)) }
                main id="main" tabindex="-1" { (content) }
            }
        }
    }
}

fn top(who: &Who) -> Markup {
    html! {
        header {
            a.brand href="?" { "Idempotency" }
            nav aria-label="Pages" {
                a href="?" { "Overview" }
                a href="?list=needs-attention" { "Operations" }
                @if who.sees_all() { a href="?maintenance" { "Maintenance" } }
                @if who.sees_all() && cfg!(feature = "schedule") { a href="?schedule" { "Schedules" } }
                a href="?search" { "Search" }
            }
            p.who { "You are " strong { (who.name()) } @if !who.decides() { ", looking only" } }
        }
    }
}
