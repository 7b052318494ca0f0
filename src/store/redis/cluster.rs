//! A cluster: each call goes to the node that has its slot.
//!
//! Every caller waits for the node that it asks, and for no other one: there is no task in between
//! (`docs/decisions/0022-clusters.md`).

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use redis::{Client, Cmd, RedisError};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::error::is_loading;
use super::node::{Node, Replies};
use super::slots::{self, Address, Redirect};
use super::timeouts::Timeouts;
use crate::util::signal::lock;

/// How often a call is sent elsewhere, as the driver of the field does it.
const REDIRECTS: usize = 5;

/// How many nodes are asked at once who has which slot.
const ASKED: usize = 8;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Shared>);

struct Shared {
    /// Those that the user named.
    named: Vec<Arc<Node>>,
    timeouts: Timeouts,
    owners: Mutex<Owners>,
    /// Held by the caller that looks; when it began, and how it ended.
    looked: tokio::sync::Mutex<Option<(Instant, Result<(), RedisError>)>>,
}

#[derive(Default)]
struct Owners {
    ranges: Vec<(RangeInclusive<u16>, Arc<Node>)>,
    /// What nodes said since.
    moved: HashMap<u16, Arc<Node>>,
}

impl Owners {
    fn of(&self, slot: u16) -> Option<&Arc<Node>> {
        let range = || self.ranges.iter().find(|(slots, _)| slots.contains(&slot));
        self.moved.get(&slot).or_else(|| range().map(|(_, node)| node))
    }

    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.ranges.iter().map(|(_, node)| node).chain(self.moved.values())
    }
}

impl Cluster {
    pub(super) async fn open(named: &[Client], timeouts: Timeouts) -> Result<Self, RedisError> {
        let cluster = Self(Arc::new(Shared {
            named: named.iter().cloned().map(Node::new).map(Arc::new).collect(),
            timeouts,
            owners: Mutex::default(),
            looked: tokio::sync::Mutex::default(),
        }));
        cluster.look().await?;
        Ok(cluster)
    }

    /// Sends commands to the node that has this slot, and follows it if the slot has moved.
    ///
    /// A call that reached no node is tried again at another one, if there is one by now; one that
    /// was sent is the caller's to find out.
    pub(super) async fn send(&self, slot: u16, commands: &[&Cmd]) -> Result<Replies, RedisError> {
        let (mut node, mut asking) = (self.owner(slot), false);
        let mut replies = Vec::new();
        for _ in 0..=REDIRECTS {
            let connection = match node.connect(self.0.timeouts.connect).await {
                Ok(connection) => connection,
                Err(error) => {
                    (node, asking) = (Box::pin(self.instead_of(&node, slot)).await.ok_or(error)?, false);
                    continue;
                }
            };
            replies = node.send(&connection, commands, asking, self.0.timeouts.response).await?;
            let first = replies.first();
            // As one that is back while its replica has the slot.
            if first.is_some_and(|first| first.as_ref().is_err_and(is_loading)) {
                let Some(other) = Box::pin(self.instead_of(&node, slot)).await else { break };
                (node, asking) = (other, false);
                continue;
            }
            let redirect = first.and_then(|first| Redirect::parse(first, node.host()));
            let Some(redirect) = redirect else { break };
            node = self.node_at(&redirect.to)?;
            asking = redirect.once;
            if !asking {
                lock(&self.0.owners).moved.insert(slot, Arc::clone(&node));
            }
        }
        Ok(replies)
    }

    /// The nodes that have slots, as the cluster says now.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Node>>, RedisError> {
        self.look().await?;
        let mut nodes: Vec<_> = lock(&self.0.owners).ranges.iter().map(|(_, node)| Arc::clone(node)).collect();
        unique(&mut nodes);
        Ok(nodes)
    }

    /// If no node is known to have it, any one knows better, or says so.
    fn owner(&self, slot: u16) -> Arc<Node> {
        let owners = lock(&self.0.owners);
        let owner = owners.of(slot).or_else(|| owners.nodes().next()).unwrap_or(&self.0.named[0]);
        Arc::clone(owner)
    }

    /// The node that has the slot by now, if this one can't be reached.
    async fn instead_of(&self, node: &Arc<Node>, slot: u16) -> Option<Arc<Node>> {
        self.look().await.ok()?;
        Some(self.owner(slot)).filter(|owner| !Arc::ptr_eq(owner, node))
    }

    fn node_at(&self, at: &Address) -> Result<Arc<Node>, RedisError> {
        let owners = lock(&self.0.owners);
        let known = owners.nodes().chain(&self.0.named).find(|node| node.is_at(at));
        known.map_or_else(|| self.0.named[0].another(at).map(Arc::new), |node| Ok(Arc::clone(node)))
    }

    /// Asks who has which slot. The callers that ask meanwhile share the answer.
    async fn look(&self) -> Result<(), RedisError> {
        let asked = Instant::now();
        let mut looked = self.0.looked.lock().await;
        if let Some((_, result)) = looked.as_ref().filter(|(began, _)| *began >= asked) {
            return result.clone();
        }
        let began = Instant::now();
        let result = self.ask_around().await.and_then(|ranges| self.learn(&ranges));
        *looked = Some((began, result.clone()));
        result
    }

    /// The first that replies says it: one that hangs holds up no caller.
    async fn ask_around(&self) -> Result<Vec<(RangeInclusive<u16>, Address)>, RedisError> {
        let mut asked = JoinSet::new();
        for node in self.those_that_know() {
            let timeouts = self.0.timeouts;
            asked.spawn(async move {
                let slots = node.ask(redis::cmd("CLUSTER").arg("SLOTS"), timeouts).await?;
                Ok(slots::parse(slots, node.host()))
            });
        }
        let mut away = Ok(Vec::new());
        while let Some(Ok(said)) = asked.join_next().await {
            match said {
                Ok(ranges) if !ranges.is_empty() => return Ok(ranges),
                said => away = said,
            }
        }
        away
    }

    fn those_that_know(&self) -> Vec<Arc<Node>> {
        let mut nodes: Vec<_> = lock(&self.0.owners).nodes().chain(&self.0.named).cloned().collect();
        unique(&mut nodes);
        nodes.sort_by_key(|node| !node.is_connected());
        nodes.truncate(ASKED);
        nodes
    }

    fn learn(&self, ranges: &[(RangeInclusive<u16>, Address)]) -> Result<(), RedisError> {
        let mut learned = Owners::default();
        for (slots, at) in ranges {
            let again = learned.nodes().find(|node| node.is_at(at)).map(Arc::clone);
            let node = again.map_or_else(|| self.node_at(at), Ok)?;
            learned.ranges.push((slots.clone(), node));
        }
        *lock(&self.0.owners) = learned;
        Ok(())
    }
}

fn unique(nodes: &mut Vec<Arc<Node>>) {
    nodes.sort_unstable_by_key(Arc::as_ptr);
    nodes.dedup_by(|one, other| Arc::ptr_eq(one, other));
}
