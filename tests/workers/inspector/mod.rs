//! The page for operators, request by request. How it looks in a browser is in
//! `tests/browser`.

mod decisions;
mod maintenance;
mod others;
mod refusals;
mod schedules;
mod views;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tower_idempotency::core::Resolution;
use tower_idempotency::{Authorise, Denied, Inspector, Operator, Shown, Who};

use crate::support::bodies::Failure;
use crate::support::lab::{Lab, operation, reply, request, send, serve};

const HOSTILE: &str = "\"><script>alert('x')</script>&amp;<img src=x onerror=alert(1)>";

/// Who is let in: eve and zoe decide, max plans maintenance, ann only looks, tim sees what `/orders` did.
fn authorise() -> Authorise {
    Authorise::by(|parts| async move {
        let user = parts.headers.get("x-user").ok_or_else(Denied::unauthenticated)?;
        match user.to_str().unwrap() {
            "eve" => Ok(Who::named("eve").may_decide()),
            "zoe" => Ok(Who::named("zoe").may_decide()),
            "ann" => Ok(Who::named("ann")),
            "max" => Ok(Who::named("max").may_plan_maintenance()),
            "nameless" => Ok(Who::named(" ").may_decide().may_plan_maintenance()),
            "tim" => Ok(Who::named("tim")
                .may_decide()
                .may_plan_maintenance()
                .sees(|shown| path(shown).starts_with("/orders"))),
            "basic" => Err(Denied::challenge(HeaderValue::from_static("Basic realm=\"operators\""))),
            "new" => Err(Denied::log_in_at(HeaderValue::from_static("/login"))),
            _ => Err(Denied::forbidden()),
        }
    })
}

fn path(shown: &Shown) -> &str {
    shown.record.request().map_or("", |request| request.uri().path())
}

/// A person at the page.
struct Visitor {
    inspector: Inspector,
    headers: HeaderMap,
}

/// What the page answered.
struct Page {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

/// A form, as a browser has it once it was shown.
#[derive(Clone)]
struct Form {
    action: String,
    cookie: Option<String>,
    fields: Vec<(String, String)>,
}

impl Visitor {
    fn new(lab: &Lab, user: &'static str) -> Self {
        let inspector = Inspector::new(Operator::new(lab.engine()), authorise());
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("ops.test"));
        headers.insert("x-user", HeaderValue::from_static(user));
        Self { inspector, headers }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    async fn send(&self, method: Method, query: &str, form: String) -> Page {
        let mut request = Request::builder().method(method).uri(format!("/any/where{query}"));
        *request.headers_mut().unwrap() = self.headers.clone();
        let request = request.body(Full::new(Bytes::from(form))).unwrap();
        let response = self.inspector.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Page { status: parts.status, headers: parts.headers, text }
    }

    async fn get(&self, query: &str) -> Page {
        self.send(Method::GET, query, String::new()).await
    }

    async fn json(&self, query: &str) -> (StatusCode, serde_json::Value) {
        let visitor = Self { inspector: self.inspector.clone(), headers: self.headers.clone() };
        let page = visitor.with("accept", "application/json").get(query).await;
        assert_eq!(page.headers["content-type"], "application/json", "{}", page.text);
        (page.status, serde_json::from_str(&page.text).unwrap())
    }

    /// Opens the form of a decision, with a reason typed in.
    async fn open(&self, key: &str, decide: &str) -> Form {
        let page = self.get(&format!("?operation={key}&decide={decide}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        page.form().with("why", "the bank says so")
    }

    async fn submit(&self, form: &Form) -> Page {
        let sender = Self { inspector: self.inspector.clone(), headers: self.headers.clone() };
        let sender = match &form.cookie {
            Some(cookie) => sender.with("cookie", cookie),
            None => sender,
        };
        let pairs = form.fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        sender.send(Method::POST, &form.action, pairs.collect::<Vec<_>>().join("&")).await
    }
}

fn encoded(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl Page {
    fn form(&self) -> Form {
        let (_, form) = self.text.split_once("<form class=\"stack\"").expect("a form");
        let value = |text: &str, name: &str| {
            let (_, rest) = text.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.replace("&amp;", "&"))
        };
        let fields = form.split("<input ").skip(1).filter_map(|input| {
            let input = &input[..input.find('>')?];
            Some((value(input, " name").or_else(|| value(input, "name"))?, value(input, "value").unwrap_or_default()))
        });
        let cookie = self.headers.get(SET_COOKIE).map(|cookie| cookie.to_str().unwrap());
        Form {
            action: value(form, "action").unwrap(),
            cookie: cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned()),
            fields: fields.collect(),
        }
    }

    #[track_caller]
    fn assert(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.text.contains(words), "no {words:?} in {}", self.text);
    }
}

impl Form {
    fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(found, _)| found != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(found, _)| found != name);
        self
    }
}

/// What went wrong in a lab, and the hashes of its keys.
struct Trouble {
    lab: Lab,
    operator: Operator,
    /// In at-most-once mode, and its outcome is unknown.
    unknown: String,
    /// Parked, for a hostile reason.
    parked: String,
    /// In resumable mode, with a step in doubt.
    in_doubt: String,
    complete: String,
}

impl Trouble {
    async fn new() -> Self {
        let lab = Lab::new();
        let once = serve(&lab.layer(), |request| async move {
            assert!(request.headers().contains_key("works"), "a planned panic");
            Ok(reply(201, "paid"))
        });
        let resumable = serve(&lab.layer().resumable(), |request| async move {
            let operation = operation(&request);
            operation.step("order", |_| async { Ok::<_, Failure>(17) }).await.unwrap();
            let paid = operation.pay(HOSTILE, |_| async { Err::<(), _>("no answer".to_owned()) }).await;
            Ok(reply(502, paid.unwrap_err().to_string()))
        });
        send(&once, request("POST", "/pay", "unknown", "")).await;
        send(&once, request("POST", "/pay", "parked", "")).await;
        send(&once, crate::support::lab::with(request("POST", "/pay", "complete", ""), "works", "1")).await;
        send(&resumable, request("POST", "/orders/9", "in-doubt", "")).await;
        lab.decide("parked", Resolution::Park { why: HOSTILE.into() }).await;
        let operator = Operator::new(lab.engine());
        let hash = async |key: &str| operator.find("", key).await.unwrap().key.to_string();
        let (unknown, parked) = (hash("unknown").await, hash("parked").await);
        let (in_doubt, complete) = (hash("in-doubt").await, hash("complete").await);
        Self { lab, operator, unknown, parked, in_doubt, complete }
    }

    fn visitor(&self, user: &'static str) -> Visitor {
        Visitor::new(&self.lab, user)
    }

    async fn shown(&self, hash: &str) -> Shown {
        self.operator.find_by_hash(hash).await.unwrap()
    }

    /// The versions of all that there is.
    async fn versions(&self) -> Vec<u64> {
        let mut versions = Vec::new();
        for hash in [&self.unknown, &self.parked, &self.in_doubt, &self.complete] {
            versions.push(self.shown(hash).await.record.version().get());
        }
        versions
    }
}

/// The reason that a decision leaves in the history, and who gave it.
async fn last(trouble: &Trouble, hash: &str) -> (String, Option<Arc<str>>) {
    let history = trouble.shown(hash).await.record.history();
    let decided = history.iter().rfind(|entry| entry.event.name() == "decided").unwrap();
    (decided.text.as_deref().unwrap_or_default().to_owned(), decided.by.clone())
}
