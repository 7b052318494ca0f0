//! Which servers a URL names.

use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, TlsMode};

use super::connection::{Sentinels, Source};

/// Why a URL names no servers.
pub(super) enum Problem {
    Plain(&'static str),
    Precise(String),
    Driver(RedisError),
}

impl From<RedisError> for Problem {
    fn from(error: RedisError) -> Self {
        Self::Driver(error)
    }
}

const SENTINEL_FORM: Problem = Problem::Plain(
    "write redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/NAME[/DATABASE]; after ? there may be prefix, \
     partitions, index_complete and index_labels, and no #",
);
const CLUSTER_FORM: Problem = Problem::Plain(
    "write redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT; after ? there may be prefix, partitions, \
     index_complete and index_labels; no / and no #",
);

/// The parameters that are the store's own.
const OWN: [&str; 4] = ["prefix", "partitions", "index_complete", "index_labels"];

/// The parameters that are the store's own, and the URL without them.
pub(super) fn split_parameters(url: &str) -> (String, Vec<(&str, &str)>) {
    // A password may have a `?` in it, and the user of a socket is a parameter.
    let is_socket = url.split_once("://").is_some_and(|(scheme, _)| scheme.ends_with("unix"));
    let behind_user = url.rfind('@').filter(|_| !is_socket).unwrap_or_default();
    let Some(mark) = url[behind_user..].find('?').map(|at| behind_user + at) else {
        return (url.to_owned(), Vec::new());
    };
    let (query, fragment) = url[mark + 1..].split_at(url[mark + 1..].find('#').unwrap_or(url.len() - mark - 1));
    let is_own = |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| OWN.contains(&name));
    let (own, others): (Vec<_>, Vec<_>) = query.split('&').partition(is_own);
    let rest = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
    let servers = format!("{}{rest}{fragment}", &url[..mark]);
    (servers, own.into_iter().filter_map(|pair| pair.split_once('=')).collect())
}

pub(super) fn parse(url: &str) -> Result<Source, Problem> {
    let (scheme, rest) = url.split_once("://").ok_or(Problem::Plain(
        "write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], redis+sentinel://… or redis+cluster://…",
    ))?;
    let (plain, topology) = scheme.split_once('+').unwrap_or((scheme, ""));
    if matches!(plain, "rediss" | "valkeys") && !choose_cryptography() {
        return Err(Problem::Plain("compiled without the feature `redis-tls` of tower-idempotency; enable it"));
    }
    match topology {
        "sentinel" => sentinel(plain, rest),
        "cluster" => cluster(plain, rest),
        _ => {
            refuse_unknown(url)?;
            Ok(Source::Single(Client::open(url)?))
        }
    }
}

/// The driver passes over what it does not know, be it a database or a password.
fn refuse_unknown(url: &str) -> Result<(), Problem> {
    // What does not parse, it refuses by itself.
    let Some(url) = redis::parse_redis_url(url) else { return Ok(()) };
    let known: &[&str] =
        if url.scheme().ends_with("unix") { &["db", "user", "pass", "protocol"] } else { &["protocol"] };
    if let Some((name, _)) = url.query_pairs().find(|(name, _)| !known.contains(&&**name)) {
        // Not if it may be half a password, in which a `?` must be escaped.
        let name = if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) { &name } else { "what follows ?" };
        return Err(Problem::Precise(format!(
            "{name:?} is not known here; after ? there may be: {}, {}; write \
             redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]",
            OWN.join(", "),
            known.join(", ")
        )));
    }
    // Of others, the driver takes #insecure only.
    if url.fragment().is_some() && !matches!(url.scheme(), "rediss" | "valkeys") {
        return Err(Problem::Plain("nothing may follow #, which is for rediss; in a password write %23"));
    }
    Ok(())
}

/// The driver takes the process's choice, and panics if there is none.
#[cfg(feature = "redis-tls")]
fn choose_cryptography() -> bool {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error says that another part of the program chose just now.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    true
}

#[cfg(not(feature = "redis-tls"))]
const fn choose_cryptography() -> bool {
    false
}

/// Each of the comma-separated servers, as a URL of its own.
fn servers(scheme: &str, user: &str, hosts: &str) -> Result<Vec<ConnectionInfo>, RedisError> {
    hosts.split(',').map(|host| format!("{scheme}://{user}{host}").into_connection_info()).collect()
}

/// `USER:PASSWORD@`, or nothing, and what follows it.
fn split_user(rest: &str) -> (&str, &str) {
    rest.rfind('@').map_or(("", rest), |at| rest.split_at(at + 1))
}

fn cluster(scheme: &str, rest: &str) -> Result<Source, Problem> {
    let (user, hosts) = split_user(rest);
    if hosts.is_empty() || hosts.contains(['/', '?', '#']) {
        return Err(CLUSTER_FORM);
    }
    let nodes = servers(scheme, user, hosts)?.into_iter().map(Client::open);
    Ok(Source::Cluster(nodes.collect::<Result<_, _>>()?))
}

fn sentinel(scheme: &str, rest: &str) -> Result<Source, Problem> {
    let (user, rest) = split_user(rest);
    let (hosts, name) = rest.split_once('/').ok_or(SENTINEL_FORM)?;
    let (name, database) = name.split_once('/').unwrap_or((name, "0"));
    let database = database.parse().map_err(|_| SENTINEL_FORM)?;
    if hosts.is_empty() || name.is_empty() || rest.contains(['?', '#']) {
        return Err(SENTINEL_FORM);
    }
    let sentinels: Vec<ConnectionAddr> =
        servers(scheme, "", hosts)?.into_iter().map(|server| server.addr().clone()).collect();
    let mut builder = SentinelClientBuilder::new(sentinels, name, SentinelServerType::Master)?;
    builder = builder.set_client_to_redis_db(database);
    // The primary's user; the driver knows how it is escaped.
    let primary = format!("{scheme}://{user}localhost").into_connection_info()?;
    if let Some(name) = primary.redis_settings().username() {
        builder = builder.set_client_to_redis_username(name);
    }
    if let Some(password) = primary.redis_settings().password() {
        builder = builder.set_client_to_redis_password(password);
    }
    if scheme == "rediss" {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    Ok(Source::Sentinel(Box::new(Sentinels::new(builder.build()?))))
}
