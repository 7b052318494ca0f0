//! The page on which operators see what is stuck, and decide: a tower service.
//!
//! It may know what [`Operator`](crate::Operator) knows. Start with [`Inspector`]. Each page
//! is a file; all of them lie at one path, and the query says which one is asked for: so a
//! link between them works wherever the service is mounted.

pub(crate) mod authorise;
mod decide;
mod decision;
mod forgery;
mod form;
mod list;
mod maintenance;
mod operation;
mod overview;
pub(crate) mod page;
mod position;
mod refused;
#[cfg(feature = "schedule")]
mod schedules;
mod search;
mod visit;
mod words;

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use http::{Method, Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::operator::Operator;
use crate::operator::inspector::authorise::{Authorise, Who};
use crate::operator::inspector::form::Pairs;
use crate::operator::inspector::page::{InspectorBody, Reply, denied, head_alone};
use crate::operator::inspector::refused::Refused;
use crate::operator::inspector::visit::Visit;

/// A page for operators: what is stuck, why, and what to do about it.
///
/// It is a tower service. It needs no build step, no script and nothing from elsewhere: all
/// pages lie at one path, wherever that is. Where JSON is accepted and HTML is not, or the query has
/// `json`, it answers with JSON.
///
/// ```
/// use axum::{Router, body::Body, http::Request};
/// use tower_idempotency::{Authorise, Inspector, Operator, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Better from your layer: `Operator::new(&layer)`.
/// let operator = Operator::new(MemoryStore::new());
/// let inspector = Inspector::new(operator, Authorise::allow_all_as("on call"));
/// let app: Router = Router::new().nest_service("/operations", inspector);
///
/// # use tower::ServiceExt;
/// let request = Request::get("/operations").body(Body::empty())?;
/// assert_eq!(app.oneshot(request).await?.status(), 200);
/// # Ok(()) }
/// ```
///
/// The guide says [how to mount it, and whom to let in](crate::guide::inspector).
///
/// # Caveats
///
/// - The one who asks is who your [`Authorise`] says. The page keeps no sessions and knows
///   no passwords.
/// - It shows labels, paths, names of steps and of headers, and the reasons that handlers and
///   operators gave; of bodies and results only how large they are.
#[derive(Clone)]
#[must_use]
pub struct Inspector {
    operator: Operator,
    authorise: Authorise,
}

impl Inspector {
    /// Shows what this operator sees, to those whom this lets in. Who decides is said for
    /// each request: a name that the operator already has is not used.
    pub const fn new(operator: Operator, authorise: Authorise) -> Self {
        Self { operator, authorise }
    }

    async fn serve<B>(self, request: Request<B>) -> Response<InspectorBody>
    where
        B: Body<Data: Buf>,
    {
        let (parts, body) = request.into_parts();
        let asked = Pairs::parse(parts.uri.query().unwrap_or_default().as_bytes());
        // The page of a refusal has these as well; they say nothing.
        if asked.has("style") {
            return Reply::Style.into_response(&Who::named(""));
        }
        if asked.has("icon") {
            return Reply::Icon.into_response(&Who::named(""));
        }
        let who = match self.authorise.ask(parts.clone()).await {
            Ok(who) => who,
            Err(reason) => return denied(reason),
        };
        let visit = Visit::new(&self.operator, who, parts, asked);
        let reply = match visit.parts.method {
            Method::GET | Method::HEAD => shown(&visit).await,
            Method::POST => posted(&visit, body).await,
            _ => Err(Refused::NO_METHOD),
        };
        let reply = reply.unwrap_or_else(|refused| Reply::refused(&refused, visit.wants_json()));
        reply.into_response(&visit.who)
    }
}

async fn shown(visit: &Visit) -> Result<Reply, Refused> {
    let asked = &visit.asked;
    match (asked.get("operation"), asked.get("decide")) {
        (Some(hash), Some(what)) => return decide::ask(visit, hash, what).await,
        (Some(hash), None) => return operation::show(visit, hash).await,
        (None, _) => {}
    }
    if let Some(list) = asked.get("list") {
        return list::show(visit, list).await;
    }
    if asked.has("maintenance") {
        return maintenance::show(visit).await;
    }
    #[cfg(feature = "schedule")]
    if asked.has("schedule") {
        return schedules::show(visit).await;
    }
    if asked.has("search") {
        return Ok(search::show(None));
    }
    if asked.has_only(&["json", "done"]) { overview::show(visit).await } else { Err(Refused::NO_PAGE) }
}

async fn posted<B>(visit: &Visit, body: B) -> Result<Reply, Refused>
where
    B: Body<Data: Buf>,
{
    let form = form::read(body).await?;
    if visit.asked.has("search") {
        return search::find(visit, &form).await;
    }
    if let Some(what) = visit.asked.get("maintenance") {
        return maintenance::act(visit, what, &form).await;
    }
    #[cfg(feature = "schedule")]
    if let Some(name) = visit.asked.get("schedule") {
        return schedules::act(visit, name, &form).await;
    }
    match (visit.asked.get("operation"), visit.asked.get("decide")) {
        (Some(hash), Some(what)) => decide::act(visit, hash, what, &form).await,
        _ => Err(Refused::NO_METHOD),
    }
}

impl<B> Service<Request<B>> for Inspector
where
    B: Body<Data: Buf> + Send + 'static,
{
    type Response = Response<InspectorBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inspector = self.clone();
        let is_head = request.method() == Method::HEAD;
        Box::pin(async move {
            let response = inspector.serve(request).await;
            Ok(if is_head { head_alone(response) } else { response })
        })
    }
}

impl fmt::Debug for Inspector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inspector").finish_non_exhaustive()
    }
}
