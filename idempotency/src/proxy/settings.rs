//! What the proxy does: the flags and the file, taken together and checked.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;
use toml::Spanned;

use super::arguments::Proxy;
use super::config::values::{Switch, Upstream};
use super::config::{self, File, Rules, Source};
use super::forward;
use super::scope::ScopeRule;
use super::tls;
use crate::arguments::Common;
use crate::failure::Failure;

/// How long what runs may take to end when the proxy stops.
const DRAIN: Duration = Duration::from_secs(20);

/// How long a request is held whose proxy died: until then, a retry has to wait.
const LEASE: Duration = Duration::from_secs(60);

/// With less, a proxy that is busy could lose what it runs.
const LEAST_LEASE: Duration = Duration::from_secs(1);

/// What was typed and what the file says, without contradictions.
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) upstream: Upstream,
    pub(crate) store: String,
    pub(crate) drain: Duration,
    pub(crate) lease: Duration,
    pub(crate) access_log: bool,
    pub(crate) trusted_peers: Vec<IpNet>,
    pub(crate) scope: ScopeRule,
    pub(crate) tls: Option<TlsAcceptor>,
    /// With the longest path first; the last one is for all that no other one is for.
    pub(crate) routes: Vec<Rules>,
}

impl Settings {
    /// Reads the file that was named, if one was.
    ///
    /// # Errors
    ///
    /// [`Failure`] with what is wrong, in which line, and what to write instead.
    pub(crate) fn read(common: &Common, typed: &Proxy) -> Result<Self, Failure> {
        let (file, source) = match &typed.config {
            Some(path) => config::read(path)?,
            None => Default::default(),
        };
        let listen = typed.listen.clone().or(file.listen.clone());
        let upstream = typed.upstream.clone().or(file.upstream.clone());
        let store = common.store.clone().or(file.store.clone().map(|store| store.0));
        let networks = if typed.trusted_peer.is_empty() { &file.trusted_peers } else { &typed.trusted_peer };
        let trusted_peers: Vec<_> = networks.iter().map(|network| network.0).collect();
        Ok(Self {
            listen: listen.ok_or_else(|| missing("where to listen", "--listen 127.0.0.1:8080", "listen"))?.0,
            admin: typed.admin.clone().or(file.admin.clone()).map(|admin| admin.0),
            upstream: upstream.ok_or_else(|| {
                missing("which service to stand before", "--upstream http://127.0.0.1:3000", "upstream")
            })?,
            store: store.ok_or_else(|| {
                missing("which store to use", "--store sqlite:PATH, redis://…, postgres://… or memory:", "store")
            })?,
            drain: file.drain.as_ref().map_or(DRAIN, |drain| drain.0),
            lease: lease(&file, &source)?,
            access_log: !typed.no_access_log && file.access_log.is_none_or(Switch::is_on),
            scope: ScopeRule::of(typed, &file, &source)?,
            tls: tls(&file, &source)?,
            trusted_peers,
            routes: routes(typed, &file, &source)?,
        })
    }
}

fn lease(file: &File, source: &Source) -> Result<Duration, Failure> {
    let Some(lease) = &file.lease else { return Ok(LEASE) };
    let length = lease.as_ref().0;
    let why = "a proxy that is busy for so long would lose what it runs; write 1s or more";
    if length < LEAST_LEASE { Err(source.wrong(&lease.span(), why)) } else { Ok(length) }
}

fn tls(file: &File, source: &Source) -> Result<Option<TlsAcceptor>, Failure> {
    let Some(table) = &file.tls else { return Ok(None) };
    tls::acceptor(table.as_ref()).map(Some).map_err(|why| source.wrong(&table.span(), &why))
}

fn missing(what: &str, flag: &str, setting: &str) -> Failure {
    Failure::usage(format!("{what} is not said: give {flag}, or set `{setting}` in the file of --config"))
}

/// Each route, with what is said for all.
fn routes(typed: &Proxy, file: &File, source: &Source) -> Result<Vec<Rules>, Failure> {
    let mut all = Rules::default();
    if let Some(guard) = &file.guard {
        if let Some(path) = &guard.as_ref().path {
            return Err(source.wrong(&path.span(), "[guard] is for all paths; write [[route]] for one"));
        }
        all = guard.as_ref().clone();
    }
    all.preset = typed.preset.or(all.preset);
    let mut routes = vec![checked(all.clone(), source)?];
    for route in &file.route {
        let rules = checked(route.as_ref().clone().or(&all), source)?;
        let path = rules.path.as_ref().ok_or_else(|| {
            source.wrong(
                &route.span(),
                "a [[route]] needs its `path`, as \"/payments\"; settings for all belong to [guard]",
            )
        })?;
        let (text, at) = (path.as_ref(), path.span());
        if !text.starts_with('/') || text.contains(['?', '#', '*', '{']) {
            return Err(
                source.wrong(&at, "write the beginning of a path, as \"/payments\": it stands for all below it")
            );
        }
        let covers = |path: &Spanned<String>| path.as_ref().trim_end_matches('/') == text.trim_end_matches('/');
        if routes.iter().any(|other| other.path.as_ref().is_some_and(covers)) {
            return Err(source.wrong(&at, "there is another [[route]] for this path; keep one of the two"));
        }
        routes.push(rules);
    }
    routes.sort_by_key(|rules| std::cmp::Reverse(rules.path.as_ref().map_or(0, |path| path.as_ref().len())));
    Ok(routes)
}

fn checked(rules: Rules, source: &Source) -> Result<Rules, Failure> {
    if let Some(methods) = rules.methods.as_ref().filter(|methods| methods.as_ref().is_empty()) {
        return Err(source.wrong(&methods.span(), "this guards no method; write pass = true if that is meant"));
    }
    if let Some(name) = rules.step_key_header.as_ref().filter(|name| forward::is_own(&name.as_ref().0)) {
        let why = "the proxy itself sets or removes this header; name the one by which the upstream does a thing once";
        return Err(source.wrong(&name.span(), why));
    }
    let Some(resumable) = rules.resumable.as_ref().filter(|resumable| *resumable.as_ref()) else { return Ok(rules) };
    if rules.step_key_header.is_none() {
        let why = "`resumable` sends a retry to the upstream again: name the header by which the upstream does it once, \
                   as step_key_header = \"idempotency-key\", or leave `resumable` out";
        return Err(source.wrong(&resumable.span(), why));
    }
    Ok(rules)
}
