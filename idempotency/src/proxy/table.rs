//! What requests meet, as the settings have it: a layer for each route, all over one engine.

use std::future::poll_fn;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;
use toml::Spanned;
use tower::{Layer, Service};
use tower_idempotency::{Engine, Idempotency, IdempotencyLayer, Refusal, ResponseBody, Scope};

use super::answer;
use super::arrival::Arrival;
use super::config::values::Upstream as Address;
use super::config::{Preset, Rules};
use super::forward;
use super::scope::{Caller, ScopeRule};
use super::settings::Settings;
use super::upstream::{Answered, Connections, Manner, Upstream};

/// How long the upstream may take to begin its response.
const TIMEOUT: Duration = Duration::from_secs(60);

/// All that a change of the settings changes.
pub(crate) struct Table {
    upstream: Address,
    scope: ScopeRule,
    tls: Option<TlsAcceptor>,
    trusted_peers: Vec<IpNet>,
    drain: Duration,
    access_log: bool,
    routes: Vec<Route>,
}

/// What a client gets.
pub(crate) type Given = Either<ResponseBody<Answered>, Full<Bytes>>;

#[derive(Debug)]
struct Route {
    /// `None` is for all paths.
    path: Option<String>,
    service: Idempotency<Upstream>,
}

impl Table {
    pub(crate) fn new(settings: Settings, engine: &Engine) -> Self {
        let Settings { upstream, scope, tls, trusted_peers, routes, drain, lease, access_log, .. } = settings;
        let engine = engine.clone().lease(lease);
        let shortest = routes.iter().map(timeout).min().unwrap_or(TIMEOUT);
        let connections = Connections::to(&upstream, shortest);
        let step_keys: Vec<_> = routes.iter().filter_map(step_key).collect();
        let routes = routes.iter().map(|rules| {
            let layer = layer(rules, &engine, &scope);
            let manner = manner(rules, &layer, &step_keys);
            Route {
                path: rules.path.as_ref().map(|path| path.as_ref().trim_end_matches('/').to_owned()),
                service: layer.layer(Upstream::new(connections.clone(), manner)),
            }
        });
        let routes = routes.collect();
        Self { upstream, scope, tls, trusted_peers, drain, access_log, routes }
    }

    /// How long what runs may take to end when the proxy stops.
    pub(crate) const fn drain(&self) -> Duration {
        self.drain
    }

    /// Whether each request has a line in the log.
    pub(crate) const fn is_logged(&self) -> bool {
        self.access_log
    }

    /// The service that is asked.
    pub(crate) const fn upstream(&self) -> &Address {
        &self.upstream
    }

    /// What new connections are encrypted with, if they are.
    pub(crate) const fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref()
    }

    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_peers.iter().any(|network| network.contains(&peer))
    }

    /// Serves a request that arrived like this.
    pub(crate) async fn serve(&self, arrival: Arrival, mut request: Request<Incoming>) -> Response<Given> {
        if let Err(trouble) = forward::check(&request) {
            return trouble.response().map(Either::Right);
        }
        if let Some(name) = self.scope.header().filter(|_| !arrival.is_trusted) {
            request.headers_mut().remove(name);
        }
        let path = request.uri().path();
        // The last one is for all.
        let route = self.routes.iter().find(|route| route.covers(path)).unwrap_or(&self.routes[self.routes.len() - 1]);
        let mut service = route.service.clone();
        let (mut parts, body) = request.into_parts();
        let caller = self.scope.caller(&parts, &arrival).await;
        let denied = caller.map(|caller| parts.extensions.insert(caller)).err();
        parts.extensions.insert(arrival);
        let Ok(()) = poll_fn(|cx| Service::<Request<Incoming>>::poll_ready(&mut service, cx)).await;
        let Ok(response) = service.call(Request::from_parts(parts, body)).await;
        // Only a request that needs a client is refused for having none that is known.
        match denied.and_then(|denied| answer::denied(&denied)) {
            Some(denied) if response.extensions().get::<Refusal>() == Some(&Refusal::ScopeUnknown) => {
                denied.map(Either::Right)
            }
            _ => response.map(Either::Left),
        }
    }
}

impl Route {
    /// Whether this is the route's path, or below it.
    fn covers(&self, path: &str) -> bool {
        let Some(own) = &self.path else { return true };
        path.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// How the requests of a route are sent. `step_keys` has the headers of all routes in which the
/// upstream gets the key of a step: a client that could set one could take the place of another
/// client's request.
fn manner(rules: &Rules, layer: &IdempotencyLayer, step_keys: &[HeaderName]) -> Manner {
    let (keys, own) = (layer.key_header_names(), step_key(rules));
    let mut hidden = step_keys.to_vec();
    if rules.forward_key == Some(false) {
        hidden.extend(keys);
    } else {
        // There it is the client's own key.
        hidden.retain(|name| !keys.contains(name) || own.as_ref() == Some(name));
    }
    Manner {
        timeout: timeout(rules),
        hidden,
        nothing_happened: rules.nothing_happened.iter().flatten().map(|status| status.0).collect(),
        step_key: own,
    }
}

/// The header in which the upstream gets the key of a step.
fn step_key(rules: &Rules) -> Option<HeaderName> {
    rules.step_key_header.as_ref().filter(|_| is_resumable(rules)).map(|name| name.as_ref().0.clone())
}

fn timeout(rules: &Rules) -> Duration {
    rules.timeout.as_ref().map_or(TIMEOUT, |timeout| timeout.0)
}

fn is_resumable(rules: &Rules) -> bool {
    rules.resumable.as_ref().is_some_and(|resumable| *Spanned::as_ref(resumable))
}

fn layer(rules: &Rules, engine: &Engine, scope: &ScopeRule) -> IdempotencyLayer {
    let engine = match &rules.retention {
        Some(retention) => engine.clone().retention(retention.0),
        None => engine.clone(),
    };
    let scope = match scope {
        ScopeRule::OneTenant => Scope::shared(),
        _ => Scope::extension::<Caller>(),
    };
    let mut layer = preset(IdempotencyLayer::new(engine, scope), rules.preset);
    if let Some(methods) = &rules.methods {
        layer = layer.methods(methods.as_ref().iter().map(|method| method.0.clone()));
    }
    if rules.required == Some(true) {
        layer = layer.required();
    }
    if let Some(bytes) = rules.request_limit {
        layer = layer.request_limit(bytes);
    }
    if let Some(bytes) = rules.response_limit {
        layer = layer.response_limit(bytes);
    }
    if let Some(pause) = &rules.stream_after {
        layer = layer.stream_after(pause.0);
    }
    if is_resumable(rules) {
        layer = layer.resumable();
    }
    if rules.pass == Some(true) {
        layer = layer.skip(|_| true);
    }
    layer
}

fn preset(layer: IdempotencyLayer, preset: Option<Preset>) -> IdempotencyLayer {
    match preset {
        None => layer,
        Some(Preset::Ietf) => layer.ietf(),
        Some(Preset::StripeV1) => layer.stripe_v1(),
        Some(Preset::StripeV2) => layer.stripe_v2(),
        Some(Preset::Adyen) => layer.adyen(),
        Some(Preset::Paypal) => layer.paypal(),
        Some(Preset::Oasis) => layer.oasis_repeatable_requests(),
    }
}
