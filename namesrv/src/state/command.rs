//! What somebody asks of the cluster, with everything the answer depends on.

use std::fmt;

use apogee_model::{
    ConsumerGroup, GroupChanges, NewGroup, NewNode, NewTopic, NodeName, ReplicaGroupId, ReplicaId, Timestamp, Topic,
    TopicChanges,
};
use serde::{Deserialize, Serialize};

/// One request for a change, as the journal keeps it. What was random or read from a clock is in here, drawn before
/// the command was made; ids are not, because the state gives them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    /// The first command of every cluster, and only the first.
    Birth {
        cluster_id: u64,
        replication_factor: u8,
        mac_key: Secret,
    },
    CreateTopic {
        new: NewTopic,
        created: Timestamp,
    },
    AlterTopic {
        changes: TopicChanges,
    },
    DeleteTopic {
        topic: Topic,
    },
    CreateGroup {
        new: NewGroup,
        created: Timestamp,
    },
    AlterGroup {
        changes: GroupChanges,
    },
    DeleteGroup {
        group: ConsumerGroup,
    },
    RotateMacKey {
        secret: Secret,
    },
    RegisterNode {
        new: NewNode,
    },
    /// The lease of a store-node ended or it said that it stops, or it was heard again.
    NodeHeard {
        node: NodeName,
        /// The life of the store-node this is about; does nothing to a later one.
        incarnation: u64,
        alive: bool,
    },
    /// A store-node is about to stop, if no replica group loses its majority by it.
    LeaveInTurn {
        node: NodeName,
        /// As in `NodeHeard`.
        incarnation: u64,
    },
    DrainNode {
        node: NodeName,
    },
    UndrainNode {
        node: NodeName,
    },
    /// Forgets a store-node that drains and keeps nothing.
    RemoveNode {
        node: NodeName,
    },
    /// Replicas that should move, because their store-nodes drain or do so no more.
    BeginMoves,
    /// A replica that comes has nearly all that the others of its replica group have.
    MoveReady {
        group: ReplicaGroupId,
        comes: ReplicaId,
    },
    /// It votes, and the one that leaves does not.
    MoveDone {
        group: ReplicaGroupId,
        comes: ReplicaId,
    },
}

/// What it does and to whom, for logs.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Birth { cluster_id, .. } => write!(f, "birth of {cluster_id:016x}"),
            Command::CreateTopic { new, .. } => write!(f, "create topic {}", new.topic),
            Command::AlterTopic { changes } => write!(f, "alter topic {}", changes.topic),
            Command::DeleteTopic { topic } => write!(f, "delete topic {topic}"),
            Command::CreateGroup { new, .. } => write!(f, "create group {}", new.group),
            Command::AlterGroup { changes } => write!(f, "alter group {}", changes.group),
            Command::DeleteGroup { group } => write!(f, "delete group {group}"),
            Command::RotateMacKey { .. } => f.write_str("rotate MAC keys"),
            Command::RegisterNode { new } => write!(f, "register {}", new.name),
            Command::NodeHeard { node, alive, .. } => write!(f, "{node} alive: {alive}"),
            Command::LeaveInTurn { node, .. } => write!(f, "{node} leaves"),
            Command::DrainNode { node } => write!(f, "drain {node}"),
            Command::UndrainNode { node } => write!(f, "undrain {node}"),
            Command::RemoveNode { node } => write!(f, "remove {node}"),
            Command::BeginMoves => f.write_str("begin moves"),
            Command::MoveReady { group, comes } => write!(f, "replica {comes} of broker-{group} is ready"),
            Command::MoveDone { group, comes } => write!(f, "replica {comes} of broker-{group} has come"),
        }
    }
}

/// The secret of a MAC key; stays out of logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
