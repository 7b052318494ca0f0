//! A cluster: each call goes to the node that has its slot.
//!
//! Every caller waits for the node that it asks, and for no other one: there is no task in between
//! (`docs/decisions/0022-clusters.md`).

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::{Client, Cmd, RedisError, make_extension_error};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::is_no_use;
use super::node::{Node, Replies};
use super::slots::{self, Address, Redirect};
use super::timeouts::Timeouts;
use crate::store::for_all::Joint;
use crate::util::backoff::{after, later};
use crate::util::signal::lock;

/// How often a call is sent elsewhere, as the driver of the field does it.
const REDIRECTS: usize = 5;

/// How many nodes are asked at once who has which slot.
const ASKED: usize = 8;

/// How much longer the others have once one has replied that is in doubt.
const MORE: Duration = Duration::from_millis(100);

/// How often at most it is asked: each call for a dead node's keys wants to know.
const PAUSE: Duration = Duration::from_millis(100);

type Ranges = Vec<(RangeInclusive<u16>, Address)>;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Cluster(Arc<Shared>);

struct Shared {
    /// Those that the user named.
    named: Vec<Arc<Node>>,
    timeouts: Timeouts,
    owners: Mutex<Owners>,
    looking: Joint<Result<(), RedisError>>,
    /// When a look ended last.
    looked: Mutex<Option<Instant>>,
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
            looking: Joint::new(),
            looked: Mutex::default(),
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
        for _ in 0..=REDIRECTS {
            let connection = match node.connect(self.0.timeouts.connect).await {
                Ok(connection) => connection,
                Err(error) => {
                    (node, asking) = (Box::pin(self.instead_of(&node, slot)).await.ok_or(error)?, false);
                    continue;
                }
            };
            let replies = node.send(&connection, commands, asking, self.0.timeouts.response).await?;
            let first = replies.first();
            // As one that is back while its replica has the slot, or that was cut off and replaced.
            let is_away = first.is_some_and(|first| first.as_ref().is_err_and(is_no_use));
            node.set_away(is_away);
            if is_away {
                let Some(other) = Box::pin(self.instead_of(&node, slot)).await else { return Ok(replies) };
                (node, asking) = (other, false);
                continue;
            }
            let redirect = first.and_then(|first| Redirect::parse(first, node.host()));
            let Some(redirect) = redirect else { return Ok(replies) };
            node = self.node_at(&redirect.to)?;
            asking = redirect.once;
            if !asking {
                lock(&self.0.owners).moved.insert(slot, Arc::clone(&node));
            }
        }
        // They may agree in a moment.
        let no_end = "the nodes of the cluster do not agree which of them has the key's slot";
        Err(make_extension_error("TRYAGAIN".to_owned(), Some(no_end.to_owned())))
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

    /// Asks who has which slot, once for all callers that want to know meanwhile.
    async fn look(&self) -> Result<(), RedisError> {
        let look = || {
            let cluster = self.clone();
            async move { cluster.look_now().await }
        };
        self.0.looking.run(look).await
    }

    async fn look_now(&self) -> Result<(), RedisError> {
        let last = *lock(&self.0.looked);
        if let Some(last) = last {
            sleep_until(later(last, PAUSE)).await;
        }
        let said = self.ask_around().await;
        *lock(&self.0.looked) = Some(Instant::now());
        self.learn(&said?)
    }

    /// The first that replies says it: one that hangs holds up no caller. What is in doubt counts
    /// only if no other one says better.
    async fn ask_around(&self) -> Result<Ranges, RedisError> {
        let (mut nodes, mut asked) = (self.those_that_know().into_iter(), JoinSet::new());
        nodes.by_ref().take(ASKED).for_each(|node| self.ask(&mut asked, node));
        let (mut away, mut in_doubt) = (Ok(Vec::new()), None);
        loop {
            let next = match &in_doubt {
                Some((until, _)) => timeout_at(*until, asked.join_next()).await.unwrap_or_default(),
                None => asked.join_next().await,
            };
            match next {
                Some(Ok((node, Ok(ranges)))) if !ranges.is_empty() => {
                    if !node.is_away() && !self.names_one_away(&ranges) {
                        return Ok(ranges);
                    }
                    in_doubt = in_doubt.or_else(|| Some((after(MORE), ranges)));
                }
                Some(Ok((_, said))) => away = said,
                Some(Err(_)) => {}
                None => return in_doubt.map_or(away, |(_, ranges)| Ok(ranges)),
            }
            nodes.next().into_iter().for_each(|node| self.ask(&mut asked, node));
        }
    }

    fn ask(&self, asked: &mut JoinSet<(Arc<Node>, Result<Ranges, RedisError>)>, node: Arc<Node>) {
        let timeouts = self.0.timeouts;
        asked.spawn(async move {
            let slots = node.ask(redis::cmd("CLUSTER").arg("SLOTS"), timeouts).await;
            let said = slots.map(|slots| slots::parse(slots, node.host()));
            (node, said)
        });
    }

    /// As the owner of a slot: the others may have chosen another one.
    fn names_one_away(&self, ranges: &[(RangeInclusive<u16>, Address)]) -> bool {
        let owners = lock(&self.0.owners);
        let away: Vec<_> = owners.nodes().chain(&self.0.named).filter(|node| node.is_away()).collect();
        !away.is_empty() && ranges.iter().any(|(_, at)| away.iter().any(|node| node.is_at(at)))
    }

    fn those_that_know(&self) -> Vec<Arc<Node>> {
        let mut nodes: Vec<_> = lock(&self.0.owners).nodes().chain(&self.0.named).cloned().collect();
        unique(&mut nodes);
        nodes.sort_by_key(|node| !node.is_connected());
        nodes
    }

    fn learn(&self, ranges: &[(RangeInclusive<u16>, Address)]) -> Result<(), RedisError> {
        // As of a node that was reset: it knows less than was known before.
        if ranges.is_empty() {
            return Ok(());
        }
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
