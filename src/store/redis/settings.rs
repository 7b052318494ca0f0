//! What a server says about itself: role, eviction, persistence.

use std::collections::HashMap;

use redis::Value;

use super::connection::Connection;
use super::error::{store_error, unavailable};
use super::wait::Acknowledged;
use crate::store::{StoreError, Survives};

/// The settings of one server that matter here.
#[derive(Debug)]
pub(super) struct Settings {
    info: HashMap<String, String>,
    /// `None` where `CONFIG GET` is refused.
    fsync: Option<String>,
    snapshots: Option<String>,
}

/// Asks the server, or every primary of a cluster.
pub(super) async fn read(connection: &Connection) -> Result<Vec<Settings>, StoreError> {
    let info = connection.send(&redis::cmd("INFO")).await.map_err(store_error)?;
    let fsync = config(connection, "appendfsync").await;
    let snapshots = config(connection, "save").await;
    let mut texts = Vec::new();
    collect_texts(info, &mut texts);
    let servers = texts.iter().filter(|text| text.contains("redis_version:"));
    let servers: Vec<_> = servers
        .map(|text| {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            let info = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            Settings { info, fsync: fsync.clone(), snapshots: snapshots.clone() }
        })
        .collect();
    if servers.is_empty() {
        return Err(unavailable("redis answers INFO with nothing of use; is there a proxy?"));
    }
    Ok(servers)
}

/// Managed servers refuse `CONFIG`. The weakest answer of a cluster's nodes.
async fn config(connection: &Connection, name: &str) -> Option<String> {
    let reply = connection.send(redis::cmd("CONFIG").arg("GET").arg(name)).await.ok()?;
    let mut texts = Vec::new();
    collect_texts(reply, &mut texts);
    let mut values = texts.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].clone());
    let first = values.next()?;
    Some(values.fold(first, |all, one| if one == "always" { all } else { one }))
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

impl Settings {
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

    pub(super) fn survives(&self, acknowledged: Option<&Acknowledged>) -> Survives {
        let always = self.fsync.as_deref() == Some("always") || acknowledged.is_some_and(Acknowledged::is_on_disk);
        match (self.is("aof_enabled", "1"), always) {
            (true, true) => Survives::PowerLoss,
            (true, false) => Survives::StoreCrash,
            (false, _) => Survives::AppCrash,
        }
    }

    pub(super) fn cautions(&self) -> Vec<String> {
        let mut cautions = Vec::new();
        let policy = self.policy();
        if policy.starts_with("volatile-") {
            cautions.push(format!(
                "maxmemory-policy {policy} may forget answers before their retention is over; set noeviction"
            ));
        }
        if self.is("aof_enabled", "1") {
            cautions.extend(self.fsync_caution());
        } else {
            cautions.push(self.persistence_caution());
        }
        for field in ["aof_last_write_status", "aof_last_bgrewrite_status"] {
            if self.info.get(field).is_some_and(|status| status != "ok") {
                cautions.push(format!("{field} is not ok: redis can't write its append-only file; see its log"));
            }
        }
        cautions
    }

    fn fsync_caution(&self) -> Option<String> {
        match self.fsync.as_deref() {
            Some("always") => None,
            Some(_) => Some("power loss may forget the last two seconds of claims; set appendfsync always".to_owned()),
            None => Some(
                "CONFIG GET is refused, so appendfsync is not known: power loss may forget the last two seconds of \
                 claims"
                    .to_owned(),
            ),
        }
    }

    fn persistence_caution(&self) -> String {
        let snapshots = self.snapshots.as_deref().is_none_or(|save| !save.is_empty());
        let what = if snapshots { "all since the last snapshot" } else { "every claim" };
        format!("there is no append-only file: a restart of redis forgets {what}; set appendonly yes")
    }
}
