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
    let token = token()?;
    let listener = TcpListener::bind(serve.listen).await.map_err(|error| {
        Failure::refused(format!("can't listen on {}: {error}; choose another --listen", serve.listen))
    })?;
    announce(listener.local_addr()?, &token, &target.name, output)?;
    let app = app(Operator::new(target.engine), &who(serve.who.as_deref()), token);
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

fn announce(address: SocketAddr, token: &str, store: &str, output: Output) -> std::io::Result<()> {
    let url = format!("http://{address}/?token={token}");
    if output.is_json() {
        return output.value(&json!({ "url": url }));
    }
    output.line(&format!("{store}: open this page; Ctrl-C ends it"), Tone::Quiet)?;
    output.line(&url, Tone::Heading)
}

/// 256 random bits.
fn token() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failure::refused(format!("can't draw a token: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn app(operator: Operator, name: &str, token: String) -> Router {
    let (name, expected) = (name.to_owned(), token.clone());
    let authorise = Authorise::by(move |parts: Parts| {
        let known = cookie(&parts.headers).is_some_and(|given| same(given, &expected));
        let who = Who::named(&name).may_decide().may_plan_maintenance();
        std::future::ready(if known { Ok(who) } else { Err(Denied::unauthenticated()) })
    });
    Router::new().fallback_service(Inspector::new(operator, authorise)).layer(from_fn_with_state(token, exchange))
}

/// The token of the link becomes a cookie, and is gone from the address.
async fn exchange(State(token): State<String>, request: Request, next: Next) -> Response {
    let given = request.uri().query().and_then(|query| query.strip_prefix("token="));
    match given {
        Some(given) if same(given, &token) => {
            let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
            let headers = [
                (header::SET_COOKIE, cookie),
                (header::LOCATION, "/".to_owned()),
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
