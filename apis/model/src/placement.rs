//! Where queues are: store-nodes, and the replica groups they share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ReplicaGroupId, ReplicaId};

/// The name of a store-node, the same after every restart: 1 to 63 lower-case letters, digits, `-` and `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// A text that names no store-node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no name of a store-node: 1 to 63 lower-case letters, digits, - and .")]
pub struct BadNodeName {
    text: String,
}

/// A store-node as namesrv knows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoreNodeConfig {
    pub name: NodeName,
    /// Host and port that proxies reach.
    pub lanes: String,
    /// Host and port that other store-nodes reach.
    pub replication: String,
    /// Where it stands; replicas of one group go to different zones while there are enough.
    pub zone: String,
    pub standing: NodeStanding,
    /// Which of its lives registered last; see [`NewNode::incarnation`].
    pub incarnation: u64,
}

/// What a store-node says of itself when it registers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewNode {
    pub name: NodeName,
    /// See [`StoreNodeConfig::lanes`].
    pub lanes: String,
    /// See [`StoreNodeConfig::replication`].
    pub replication: String,
    /// See [`StoreNodeConfig::zone`].
    pub zone: String,
    /// Drawn at every start of the process; tells it from its earlier lives.
    pub incarnation: u64,
}

/// What namesrv thinks of a store-node. None of these takes its queues out of a route.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStanding {
    Alive,
    /// Its lease ended, or it said that it stops.
    Suspect,
    /// It is about to leave: it gets nothing new, and leads nothing if others can.
    Draining,
}

/// Replicas of one CommitLog on different store-nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaGroup {
    pub id: ReplicaGroupId,
    /// Numbers from 1 on; never given twice in one group.
    pub replicas: BTreeMap<ReplicaId, NodeName>,
    /// The replica that leads when all are well, so that leaders are spread over the store-nodes.
    pub preferred: ReplicaId,
}

impl NodeName {
    /// # Errors
    /// [`BadNodeName`].
    pub fn parse(text: &str) -> Result<Self, BadNodeName> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        if text.is_empty() || text.len() > 63 || !text.bytes().all(good) {
            return Err(BadNodeName { text: text.to_owned() });
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = BadNodeName;

    fn try_from(text: String) -> Result<Self, BadNodeName> {
        Self::parse(&text)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ReplicaGroup {
    /// See [`ReplicaGroupId::broker_name`].
    pub fn broker_name(&self) -> String {
        self.id.broker_name()
    }

    /// The store-node that leads when all are well; `None` for a group that lists no such replica.
    pub fn home(&self) -> Option<&NodeName> {
        self.replicas.get(&self.preferred)
    }

    /// The replica that a store-node hosts, if it hosts one.
    pub fn replica_of(&self, node: &NodeName) -> Option<ReplicaId> {
        self.replicas.iter().find(|(_, host)| *host == node).map(|(replica, _)| *replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_is_a_host_name() {
        for good in ["store-0", "store-0.store.queue", "a", &"x".repeat(63)] {
            assert_eq!(NodeName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "Store", "a_b", "a b", "ä", &"x".repeat(64)] {
            assert_eq!(NodeName::parse(bad), Err(BadNodeName { text: bad.to_owned() }));
        }
        assert!(NodeName::try_from("A".to_owned()).is_err());
    }
}
