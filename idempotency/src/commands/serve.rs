//! `serve`: the page for operators, for the one who started it.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tower_idempotency::{Authorise, Denied, Inspector, Operator, Who};

use super::decide::who;
use crate::arguments::{Common, Serve};
use crate::failure::{DONE, Failure};
use crate::output::{Output, Tone};
use crate::target::Target;

/// The name of the cookie that has the token.
const COOKIE: &str = "idempotency-operator";

pub(crate) async fn run(common: &Common, serve: &Serve, output: Output) -> Result<u8, Failure> {
    if !serve.listen.ip().is_loopback() && !serve.without_tls_to_the_network {
        return Err(Failure::usage(format!(
            "{} can be reached from other machines, and there is no TLS here: listen on 127.0.0.1 and use a tunnel, as \
             ssh -L, or mount `Inspector` in your own service; or add --without-tls-to-the-network",
            serve.listen
        )));
    }
    let target = Target::open(common)?;
    let access = Access::new()?;
    let listener = TcpListener::bind(serve.listen).await.map_err(|error| {
        Failure::refused(format!("can't listen on {}: {error}; choose another --listen", serve.listen))
    })?;
    announce(listener.local_addr()?, &access, &target.name, output)?;
    let app = app(Operator::new(target.engine), &who(serve.who.as_deref()), access);
    axum::serve(listener, app)
        .with_graceful_shutdown(async {
            // Without the signal there is nothing to wait for but being killed.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    Ok(DONE)
}

/// What the link has, and cannot be guessed: where the page is, and what lets in.
///
/// A browser gives its cookies of 127.0.0.1 to all ports of it, but only to the path that they
/// are for: programs on other ports don't get this page's, since they don't know its path.
#[derive(Clone)]
struct Access {
    path: String,
    token: String,
}

impl Access {
    fn new() -> Result<Self, Failure> {
        Ok(Self { path: format!("/{}/", random()?), token: random()? })
    }
}

fn announce(address: SocketAddr, access: &Access, store: &str, output: Output) -> std::io::Result<()> {
    let url = format!("http://{address}{}?token={}", access.path, access.token);
    if output.is_json() {
        return output.value(&json!({ "url": url }));
    }
    output.line(&format!("{store}: open this page; Ctrl-C ends it"), Tone::Quiet)?;
    output.line(&url, Tone::Heading)
}

/// 256 random bits.
fn random() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failure::refused(format!("can't draw a token: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn app(operator: Operator, name: &str, access: Access) -> Router {
    let (name, expected) = (name.to_owned(), access.token.clone());
    let authorise = Authorise::by(move |parts: Parts| {
        let known = cookie(&parts.headers).is_some_and(|given| same(given, &expected));
        let who = Who::named(&name).may_decide().may_plan_maintenance();
        std::future::ready(if known { Ok(who) } else { Err(Denied::unauthenticated()) })
    });
    let page = Router::new().nest_service(&access.path, Inspector::new(operator, authorise));
    page.layer(from_fn_with_state(access, exchange))
}

/// The token of the link becomes a cookie, and is gone from the address.
async fn exchange(State(access): State<Access>, request: Request, next: Next) -> Response {
    let given = request.uri().query().and_then(|query| query.strip_prefix("token="));
    match given {
        Some(given) if request.uri().path() == access.path && same(given, &access.token) => {
            let cookie = format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path={}", access.token, access.path);
            let headers = [
                (header::SET_COOKIE, cookie),
                (header::LOCATION, access.path),
                (header::CACHE_CONTROL, "no-store".to_owned()),
                (header::REFERRER_POLICY, "no-referrer".to_owned()),
            ];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        _ => next.run(request).await,
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split("; ")).filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// In a time that does not say how much of it is right.
fn same(given: &str, token: &str) -> bool {
    given.len() == token.len() && given.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}
