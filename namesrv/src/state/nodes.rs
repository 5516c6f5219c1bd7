//! What becomes of store-nodes. An expired lease never takes a queue out of a route: it only says so.

use std::sync::Arc;

use apogee_model::{Cluster, MetadataError, NewNode, NodeName, NodeStanding, StoreNodeConfig};

use super::placement::new_groups;
use super::{Change, State};

impl State {
    /// A store-node that is draining stays so over its restarts.
    pub(super) fn register(&self, cluster: &Cluster, new: &NewNode) -> Change {
        let before = cluster.nodes.get(&new.name);
        let drains = before.is_some_and(|node| node.standing == NodeStanding::Draining);
        let standing = if drains { NodeStanding::Draining } else { NodeStanding::Alive };
        let NewNode { name, lanes, replication, zone, incarnation } = new.clone();
        self.change(cluster, StoreNodeConfig { name, lanes, replication, zone, standing, incarnation })
    }

    pub(super) fn node_heard(
        &self,
        cluster: &Cluster,
        node: &NodeName,
        incarnation: u64,
        alive: bool,
    ) -> Result<Change, MetadataError> {
        let before = existing(cluster, node)?;
        if before.incarnation != incarnation {
            return Err(MetadataError::OtherIncarnation { node: node.clone() });
        }
        let standing = match (before.standing, alive) {
            (NodeStanding::Draining, _) => NodeStanding::Draining,
            (NodeStanding::Alive | NodeStanding::Suspect, true) => NodeStanding::Alive,
            (NodeStanding::Alive | NodeStanding::Suspect, false) => NodeStanding::Suspect,
        };
        Ok(self.change(cluster, StoreNodeConfig { standing, ..before.clone() }))
    }

    /// Suspect from now on, unless a replica group loses its majority by it.
    pub(super) fn leave_in_turn(
        &self,
        cluster: &Cluster,
        node: &NodeName,
        incarnation: u64,
    ) -> Result<Change, MetadataError> {
        let there =
            |host: &NodeName| cluster.nodes.get(host).is_some_and(|host| host.standing != NodeStanding::Suspect);
        for group in cluster.hosted(node) {
            let loses = |voters: &Vec<&NodeName>| {
                let majority = voters.len() / 2 + 1;
                let with = voters.iter().filter(|host| there(host)).count();
                let without = voters.iter().filter(|host| there(host) && **host != node).count();
                // One that is without a majority anyway, or has one replica, loses nothing by waiting less.
                with >= majority && without < majority && voters.len() > 1
            };
            if group.electorates().iter().any(loses) {
                return Err(MetadataError::NoTurn { group: group.id });
            }
        }
        self.node_heard(cluster, node, incarnation, false)
    }

    pub(super) fn drain(&self, cluster: &Cluster, node: &NodeName) -> Result<Change, MetadataError> {
        self.stand(cluster, node, |_| NodeStanding::Draining)
    }

    /// Alive until its lease says something else.
    pub(super) fn undrain(&self, cluster: &Cluster, node: &NodeName) -> Result<Change, MetadataError> {
        self.stand(cluster, node, |standing| match standing {
            NodeStanding::Draining => NodeStanding::Alive,
            other @ (NodeStanding::Alive | NodeStanding::Suspect) => other,
        })
    }

    fn stand(
        &self,
        cluster: &Cluster,
        node: &NodeName,
        next: impl FnOnce(NodeStanding) -> NodeStanding,
    ) -> Result<Change, MetadataError> {
        let before = existing(cluster, node)?;
        let after = StoreNodeConfig { standing: next(before.standing), ..before.clone() };
        Ok(self.change(cluster, after))
    }

    fn change(&self, cluster: &Cluster, node: StoreNodeConfig) -> Change {
        if cluster.nodes.get(&node.name).is_some_and(|before| **before == node) {
            return Change::Nothing;
        }
        let node = Arc::new(node);
        let mut nodes = cluster.nodes.clone();
        nodes.insert(node.name.clone(), Arc::clone(&node));
        let groups = new_groups(cluster, &nodes, self.next_replica_group);
        Change::NodeChanged { node, groups }
    }
}

/// # Errors
/// [`MetadataError::NoSuchNode`]; [`MetadataError::Refused`] unless it drains; [`MetadataError::KeepsReplicas`].
pub(super) fn removed(cluster: &Cluster, node: &NodeName) -> Result<Change, MetadataError> {
    let replicas = cluster.hosted(node).count();
    match existing(cluster, node)?.standing {
        _ if replicas > 0 => Err(MetadataError::KeepsReplicas { node: node.clone(), replicas }),
        NodeStanding::Draining => Ok(Change::NodeRemoved(node.clone())),
        NodeStanding::Alive | NodeStanding::Suspect => {
            Err(MetadataError::Refused { why: format!("store-node {node} does not drain") })
        }
    }
}

fn existing<'a>(cluster: &'a Cluster, node: &NodeName) -> Result<&'a StoreNodeConfig, MetadataError> {
    let found = cluster.nodes.get(node).map(AsRef::as_ref);
    found.ok_or_else(|| MetadataError::NoSuchNode { node: node.clone() })
}
