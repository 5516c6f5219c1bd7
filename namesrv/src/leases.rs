//! When store-nodes were heard: memory of the leader. A new one presumes that all are well.

use std::collections::BTreeMap;
use std::time::Duration;

use apogee_model::{Cluster, NodeName, NodeStanding};
use tokio::time::Instant;

/// A store-node that is not heard for this long is suspect.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often store-nodes let themselves be heard, and how often their leases are looked at.
pub const BEAT: Duration = Duration::from_secs(1);

/// When each store-node was heard last.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    heard: BTreeMap<NodeName, Instant>,
}

impl Leases {
    pub(crate) fn hear(&mut self, node: &NodeName, now: Instant) {
        self.heard.insert(node.clone(), now);
    }

    /// The store-nodes that are taken to be alive and were not heard for [`LEASE`]. A lease that nobody knows of begins
    /// now, so that a new leader, and a store-node that stays after all, have some time.
    pub(crate) fn ended(&mut self, cluster: &Cluster, now: Instant) -> Vec<NodeName> {
        let alive = cluster.nodes.values().filter(|node| node.standing == NodeStanding::Alive);
        let alive: Vec<&NodeName> = alive.map(|node| &node.name).collect();
        self.heard.retain(|node, _| alive.contains(&node));
        let ended = |node: &&&NodeName| {
            let heard = *self.heard.entry((**node).clone()).or_insert(now);
            now.duration_since(heard) >= LEASE
        };
        alive.iter().filter(ended).map(|node| (*node).clone()).collect()
    }
}
