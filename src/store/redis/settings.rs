//! What a server says about itself: role, eviction, persistence.

use std::collections::HashMap;

use redis::{RedisError, Value};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connection::{Connection, Server};
use super::error::{is_away, store_error, unavailable};
use super::timeouts::Timeouts;
use super::wait::Acknowledged;
use crate::store::contract::{DurabilityLevel, StoreError};

/// The settings of one server that matter here.
#[derive(Debug)]
pub(super) struct ServerSettings {
    info: HashMap<String, String>,
    /// `None` where `CONFIG GET` is refused.
    fsync: Option<String>,
    snapshots: Option<String>,
}

/// Asks the server, or every primary of a cluster; of these, one that is away
/// takes only its own keys with it.
pub(super) async fn read(connection: &Connection, timeouts: Timeouts) -> Result<Vec<ServerSettings>, StoreError> {
    let within = timeouts.response;
    let mut asked = JoinSet::new();
    let late = || unavailable(format!("redis did not reply within {within:?}"));
    let servers = timeout(within, connection.servers()).await.map_err(|_| late())?;
    for server in servers.map_err(store_error)? {
        asked.spawn(async move { timeout(within, read_one(&server, timeouts)).await });
    }
    let (mut servers, mut away) = (Vec::new(), unavailable("redis names no servers; is there a proxy?"));
    for answer in asked.join_all().await {
        match answer {
            // Since the cluster was asked for its primaries.
            Ok(Ok(server)) if connection.is_cluster() && server.is("role", "slave") => {
                away = unavailable("a primary of the cluster is away");
            }
            Ok(Ok(server)) => servers.push(server),
            Ok(Err(error)) if is_away(&error) => away = store_error(error),
            Ok(Err(error)) => return Err(store_error(error)),
            Err(_) => away = late(),
        }
    }
    if servers.is_empty() {
        return Err(away);
    }
    if servers.iter().any(|server| !server.info.contains_key("redis_version")) {
        return Err(unavailable("redis replies to INFO with nothing of use; is there a proxy in between?"));
    }
    Ok(servers)
}

async fn read_one(server: &Server, timeouts: Timeouts) -> Result<ServerSettings, RedisError> {
    let info = redis::cmd("INFO");
    let (info, fsync, snapshots) = tokio::join!(
        server.ask(&info, timeouts),
        config(server, timeouts, "appendfsync"),
        config(server, timeouts, "save")
    );
    let mut texts = Vec::new();
    collect_texts(info?, &mut texts);
    let lines = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.split_once(':'));
    Ok(ServerSettings {
        info: lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        fsync,
        snapshots,
    })
}

/// Managed servers refuse `CONFIG`.
async fn config(server: &Server, timeouts: Timeouts, name: &str) -> Option<String> {
    let reply = server.ask(redis::cmd("CONFIG").arg("GET").arg(name), timeouts).await.ok()?;
    let mut texts = Vec::new();
    collect_texts(reply, &mut texts);
    texts.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone())
}

fn collect_texts(value: Value, texts: &mut Vec<String>) {
    match value {
        Value::BulkString(bytes) => texts.push(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => texts.push(text),
        Value::Array(values) | Value::Set(values) => values.into_iter().for_each(|value| collect_texts(value, texts)),
        Value::Map(pairs) => pairs.into_iter().for_each(|(name, value)| {
            collect_texts(name, texts);
            collect_texts(value, texts);
        }),
        _ => {}
    }
}

/// Redis puts its writes to the file off, for up to two seconds, while a flush is late.
const LATE: &str = "power loss, or a kill of redis while its disk is busy, may forget the last two seconds of claims";

impl ServerSettings {
    fn is(&self, field: &str, value: &str) -> bool {
        self.info.get(field).is_some_and(|found| found == value)
    }

    fn policy(&self) -> &str {
        self.info.get("maxmemory_policy").map_or("", String::as_str)
    }

    /// Why this server must not be used.
    pub(super) fn refusal(&self) -> Option<String> {
        if !self.is("role", "master") {
            return Some("this redis is a replica, whose records may be old; name the primary, or Sentinel".to_owned());
        }
        let policy = self.policy();
        policy.starts_with("allkeys-").then(|| {
            format!(
                "redis has maxmemory-policy {policy} and may evict unfinished records: a retry of such a key runs the \
                 handler again; set maxmemory-policy noeviction"
            )
        })
    }

    pub(super) fn survives(&self, acknowledged: Option<&Acknowledged>) -> DurabilityLevel {
        let always = self.fsync.as_deref() == Some("always") || acknowledged.is_some_and(Acknowledged::is_on_disk);
        match (self.is("aof_enabled", "1"), always) {
            (true, true) => DurabilityLevel::PowerLoss,
            (true, false) => DurabilityLevel::StoreCrash,
            (false, _) => DurabilityLevel::AppCrash,
        }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let policy = self.policy();
        if policy.starts_with("volatile-") {
            warnings.push(format!(
                "maxmemory-policy {policy} may forget responses before their retention is over; set noeviction"
            ));
        }
        if self.is("aof_enabled", "1") {
            warnings.extend(self.fsync_warning());
        } else {
            warnings.push(self.persistence_warning());
        }
        for field in ["aof_last_write_status", "aof_last_bgrewrite_status"] {
            if self.info.get(field).is_some_and(|status| status != "ok") {
                warnings.push(format!("{field} is not ok: redis can't write its append-only file; see its log"));
            }
        }
        warnings
    }

    fn fsync_warning(&self) -> Option<String> {
        match self.fsync.as_deref() {
            Some("always") => None,
            Some(_) => Some(format!("{LATE}; set appendfsync always")),
            None => Some(format!("CONFIG GET is refused, so appendfsync is not known: {LATE}")),
        }
    }

    fn persistence_warning(&self) -> String {
        let snapshots = self.snapshots.as_deref().is_none_or(|save| !save.is_empty());
        let what = if snapshots { "all since the last snapshot" } else { "every claim" };
        format!("there is no append-only file: a restart of redis forgets {what}; set appendonly yes")
    }
}
