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
    /// Numbers from 1 on; never given twice in one group. One that is about to leave is here until it has left, the one
    /// that comes instead is not.
    pub replicas: BTreeMap<ReplicaId, NodeName>,
    /// The replica that leads when all are well, so that leaders are spread over the store-nodes.
    pub preferred: ReplicaId,
    /// One of the replicas is about to leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<ReplicaMove>,
    /// The largest number of a replica that was here once, or was to come; 0 when there was none.
    #[serde(default, skip_serializing_if = "is_none_gone")]
    pub last_gone: ReplicaId,
}

/// A replica leaves its store-node, because another one comes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReplicaMove {
    pub leaves: ReplicaId,
    pub comes: ReplicaId,
    /// The store-node of the replica that comes.
    pub to: NodeName,
    pub stage: MoveStage,
}

/// How far a move has come, as all may know it. It never goes back.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveStage {
    /// The replica that comes gets what the others have. It has no vote, and the move may be given up.
    Joins,
    /// It may get the vote of the replica that leaves at any moment, and may have it. The move is not given up any more.
    Swaps,
}

fn is_none_gone(last_gone: &ReplicaId) -> bool {
    *last_gone == ReplicaId::default()
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
    /// One that nobody leaves and nobody has left.
    pub fn new(id: ReplicaGroupId, replicas: BTreeMap<ReplicaId, NodeName>, preferred: ReplicaId) -> Self {
        Self { id, replicas, preferred, moving: None, last_gone: ReplicaId::default() }
    }

    /// See [`ReplicaGroupId::broker_name`].
    pub fn broker_name(&self) -> String {
        self.id.broker_name()
    }

    /// The store-node that leads when all are well; `None` for a group that lists no such replica.
    pub fn home(&self) -> Option<&NodeName> {
        self.replicas.get(&self.preferred)
    }

    /// All replicas with their store-nodes, those that leave and those that come, too.
    pub fn hosts(&self) -> impl Iterator<Item = (ReplicaId, &NodeName)> {
        let comes = self.moving.iter().map(|moving| (moving.comes, &moving.to));
        self.replicas.iter().map(|(replica, host)| (*replica, host)).chain(comes)
    }

    /// The store-node of a replica, if there is such a replica.
    pub fn host(&self, replica: ReplicaId) -> Option<&NodeName> {
        self.hosts().find(|(other, _)| *other == replica).map(|(_, host)| host)
    }

    /// The replica that a store-node hosts or is to host, if there is one.
    pub fn replica_of(&self, node: &NodeName) -> Option<ReplicaId> {
        self.hosts().find(|(_, host)| *host == node).map(|(replica, _)| replica)
    }

    /// The store-nodes of those that may vote together. Consensus goes on while each of these sets has a majority: there
    /// are two while one may follow the other.
    pub fn electorates(&self) -> Vec<Vec<&NodeName>> {
        let now = self.replicas.values().collect();
        let Some(moving) = self.moving.as_ref().filter(|moving| moving.stage == MoveStage::Swaps) else {
            return vec![now];
        };
        let next = self.hosts().filter(|(replica, _)| *replica != moving.leaves).map(|(_, host)| host);
        vec![now, next.collect()]
    }

    /// The largest number that a replica of this group was ever given.
    pub fn last_replica(&self) -> ReplicaId {
        self.hosts().map(|(replica, _)| replica).max().unwrap_or_default().max(self.last_gone)
    }

    /// Whether a replica was given this number and is here no more. Never true of one that is yet to come, however old
    /// this picture of the group is.
    pub fn is_gone(&self, replica: ReplicaId) -> bool {
        replica <= self.last_replica() && self.hosts().all(|(other, _)| other != replica)
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

    /// Replicas 1, 2 and 3 on n1, n2 and n3; 5 comes to n5 for 1, if it is said how far that is.
    fn group(stage: Option<MoveStage>) -> ReplicaGroup {
        let name = |replica| NodeName::parse(&format!("n{replica}")).unwrap();
        let replicas = [1, 2, 3].map(|replica| (ReplicaId(replica), name(replica))).into();
        let moving = stage.map(|stage| ReplicaMove { leaves: ReplicaId(1), comes: ReplicaId(5), to: name(5), stage });
        let group = ReplicaGroup::new(ReplicaGroupId(0), replicas, ReplicaId(1));
        ReplicaGroup { moving, last_gone: ReplicaId(4), ..group }
    }

    #[test]
    fn whoever_comes_votes_only_in_the_last_stage() {
        let electorates = |stage| -> Vec<String> {
            let of = |hosts: Vec<&NodeName>| hosts.iter().map(|host| host.as_str()).collect::<Vec<_>>().join(" ");
            group(stage).electorates().into_iter().map(of).collect()
        };
        assert_eq!(electorates(None), ["n1 n2 n3"]);
        assert_eq!(electorates(Some(MoveStage::Joins)), ["n1 n2 n3"]);
        assert_eq!(electorates(Some(MoveStage::Swaps)), ["n1 n2 n3", "n2 n3 n5"]);
    }

    #[test]
    fn only_who_was_here_is_gone() {
        let gone = |stage| (1..=6).filter(|replica| group(stage).is_gone(ReplicaId(*replica))).collect::<Vec<_>>();
        assert_eq!((gone(None), gone(Some(MoveStage::Joins))), (vec![4], vec![4]));
        assert_eq!(
            (group(None).last_replica(), group(Some(MoveStage::Swaps)).last_replica()),
            (ReplicaId(4), ReplicaId(5))
        );
        let node = NodeName::parse("n5").unwrap();
        assert_eq!(
            (group(None).replica_of(&node), group(Some(MoveStage::Joins)).replica_of(&node)),
            (None, Some(ReplicaId(5)))
        );
    }
}
