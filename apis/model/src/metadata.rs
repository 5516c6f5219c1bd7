//! Topics and groups as namesrv keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    BadRetryPolicy, ConsumerGroup, GroupId, MacKeys, NodeName, NodeStanding, PriorityFactor, QueueId, ReplicaGroup,
    ReplicaGroupId, RetryPolicy, StoreNodeConfig, Timestamp, Topic, TopicId, TopicType, message_group_queue,
    priority_queue,
};

/// What clients may do with a topic.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    None,
    Read,
    Write,
    ReadWrite,
}

impl Permission {
    pub fn readable(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    pub fn writable(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// A topic with everything that decides about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicConfig {
    pub topic: Topic,
    pub id: TopicId,
    pub topic_type: TopicType,
    /// Queues are numbered from 0 to `queues − 1`. Those of a PRIORITY topic are its levels.
    pub queues: u16,
    /// The replica group of each queue; the place in the list is the number of the queue.
    pub placement: Vec<ReplicaGroupId>,
    pub permission: Permission,
    /// How long lite topics of it outlive their last message. `None`: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lite_expiration: Option<Duration>,
    /// Its messages are found by their keys.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub key_index: bool,
    /// Grows by one when message groups are hashed over more queues than before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u32,
    /// So many queues it gets when what it has of message groups is consumed; until then it takes no more of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growing: Option<u16>,
    pub created: Timestamp,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_yes(it: &bool) -> bool {
    *it
}

/// How a group's messages reach its consumers.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryOrder {
    Concurrent,
    /// One message group is worked on by one consumer at a time, in order.
    Fifo,
}

/// A consumer group with everything that decides about it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupConfig {
    pub group: ConsumerGroup,
    pub id: GroupId,
    pub order: DeliveryOrder,
    /// Deliveries before a message is a dead letter: retries + 1, so 17 by default.
    pub max_attempts: u32,
    /// Rests between them.
    pub retry: RetryPolicy,
    /// How often it receives the most urgent messages of a PRIORITY topic first, if it is concurrent.
    #[serde(default)]
    pub priority_factor: PriorityFactor,
    /// Set: the group reads lite topics, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lite: Option<LiteGroup>,
    pub created: Timestamp,
}

/// How a consumer group reads lite topics: each client those that it subscribes to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LiteGroup {
    /// The topic that they are parts of.
    pub topic: Topic,
    /// One client at a time: the newest takes a lite topic over from the others.
    pub exclusive: bool,
    /// Lite topics of one client.
    pub client_max: u32,
    /// Who takes over begins at the first message.
    pub reset_on_takeover: bool,
    /// When the last one leaves, the group is back at the first message.
    pub reset_on_unsubscribe: bool,
}

impl LiteGroup {
    /// Source: apache/rocketmq 5.5 `LiteSubscriptionGroupAttributes` (lite.sub.client.quota).
    pub const CLIENT_MAX_DEFAULT: u32 = 2000;
}

impl GroupConfig {
    /// Source: apache/rocketmq `SubscriptionGroupConfig.java` (retryMaxTimes 16, plus the first delivery).
    pub const MAX_ATTEMPTS_DEFAULT: u32 = 17;
}

impl TopicConfig {
    /// Queues of a topic when nobody says otherwise.
    pub const QUEUES_DEFAULT: u16 = 8;
    pub const QUEUES_MAX: u16 = 1024;
    /// Shortest and longest life of lite topics behind their last message.
    ///
    /// Source: apache/rocketmq 5.5 (lite.topic.expiration, in minutes, at most 30 days).
    pub const LITE_EXPIRATION_MIN: Duration = Duration::from_secs(60);
    pub const LITE_EXPIRATION_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

    /// The replica groups that keep queues of this topic, each once.
    pub fn replica_groups(&self) -> BTreeSet<ReplicaGroupId> {
        self.placement.iter().copied().collect()
    }

    /// The replica group that keeps a queue; `None` when the topic has no such queue.
    pub fn replica_group(&self, queue: QueueId) -> Option<ReplicaGroupId> {
        self.placement.get(usize::from(queue.0)).copied()
    }

    /// The queue where a message belongs for what it carries: that of its message group, or of its level in a PRIORITY topic.
    /// `None`: any queue does.
    pub fn queue_of(&self, message_group: Option<&str>, priority: Option<u32>) -> Option<QueueId> {
        let level = |priority| priority_queue(priority, self.queues);
        let of_group = message_group.map(|group| message_group_queue(group, self.queues));
        of_group.or_else(|| priority.filter(|_| self.topic_type == TopicType::Priority).map(level))
    }

    /// The first queue that a replica group keeps.
    pub fn queue_in(&self, group: ReplicaGroupId) -> Option<QueueId> {
        let queue = self.placement.iter().position(|of| *of == group)?;
        u16::try_from(queue).ok().map(QueueId)
    }
}

/// Everything namesrv tells the cluster, at one version. Cheap to clone behind an `Arc`; a change makes a new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// Grows by one with every change.
    pub version: u64,
    /// Drawn once when the cluster is born.
    pub cluster_id: u64,
    /// What all members of the cluster can read; grows when the last of them can do more.
    pub feature_level: u32,
    /// Replicas of every replica group: 1, 3 or 5.
    pub replication_factor: u8,
    pub mac_keys: Arc<MacKeys>,
    pub nodes: BTreeMap<NodeName, Arc<StoreNodeConfig>>,
    pub replica_groups: BTreeMap<ReplicaGroupId, Arc<ReplicaGroup>>,
    pub topics: BTreeMap<Topic, Arc<TopicConfig>>,
    pub groups: BTreeMap<ConsumerGroup, Arc<GroupConfig>>,
}

impl Cluster {
    /// Feature level of this version of ApogeeMQ.
    pub const FEATURE_LEVEL: u32 = 1;

    /// A cluster at its birth, version 1: no store-node, no topic, no group.
    pub fn born(cluster_id: u64, replication_factor: u8, mac_keys: Arc<MacKeys>) -> Self {
        Self {
            version: 1,
            cluster_id,
            feature_level: Self::FEATURE_LEVEL,
            replication_factor,
            mac_keys,
            nodes: BTreeMap::new(),
            replica_groups: BTreeMap::new(),
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    /// The replica groups that a store-node has a replica of, or is to have one of.
    pub fn hosted<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Arc<ReplicaGroup>> {
        self.replica_groups.values().filter(|group| group.replica_of(node).is_some())
    }

    /// The store-nodes that could take a replica of a group: those that are alive and have none of it.
    pub fn takers<'a>(&'a self, group: &'a ReplicaGroup) -> impl Iterator<Item = &'a StoreNodeConfig> {
        let alive = self.nodes.values().filter(|node| node.standing == NodeStanding::Alive);
        alive.map(|node| &**node).filter(|node| group.replica_of(&node.name).is_none())
    }
}

/// A topic somebody wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewTopic {
    pub topic: Topic,
    pub topic_type: TopicType,
    /// 1 to [`TopicConfig::QUEUES_MAX`].
    pub queues: u16,
    pub permission: Permission,
    /// 1 minute to 30 days, of a LITE topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lite_expiration: Option<Duration>,
    /// Its messages are to be found by their keys.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub key_index: bool,
}

/// What somebody wants to be otherwise about a topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicChanges {
    pub topic: Topic,
    /// `None` leaves them as they are. Never fewer than there are, and never others in LITE topics, where lite topics are
    /// hashed over them. FIFO and MIXED topics, which hash message groups, get them later, see [`TopicConfig::growing`].
    pub queues: Option<u16>,
    /// `None` leaves it as it is.
    pub permission: Option<Permission>,
    /// `None` leaves it as it is. Messages that are there already stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_index: Option<bool>,
    /// It gets the queues now that it waited for, if this is its epoch. Nothing else changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<u32>,
}

/// A consumer group somebody wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewGroup {
    pub group: ConsumerGroup,
    pub order: DeliveryOrder,
    /// At least 1.
    pub max_attempts: u32,
    pub retry: RetryPolicy,
    #[serde(default)]
    pub priority_factor: PriorityFactor,
    /// Of a group that reads lite topics; their topic must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lite: Option<LiteGroup>,
}

/// What somebody wants to be otherwise about a consumer group; `None` leaves it as it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupChanges {
    pub group: ConsumerGroup,
    /// At least 1.
    pub max_attempts: Option<u32>,
    pub retry: Option<RetryPolicy>,
    #[serde(default)]
    pub priority_factor: Option<PriorityFactor>,
}

/// Why namesrv refused a change, or could not make it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("topic {topic} exists already")]
    TopicExists { topic: Topic },
    #[error("topic {topic} does not exist")]
    NoSuchTopic { topic: Topic },
    #[error("consumer group {group} exists already")]
    GroupExists { group: ConsumerGroup },
    #[error("consumer group {group} does not exist")]
    NoSuchGroup { group: ConsumerGroup },
    #[error("{what} is {asked}, allowed are {min} to {max}")]
    OutOfRange { what: &'static str, asked: u64, min: u64, max: u64 },
    #[error("there is no replica group yet: {nodes} of {needed} store-nodes have registered")]
    NoReplicaGroups { nodes: usize, needed: u8 },
    #[error("store-node {node} has not registered")]
    NoSuchNode { node: NodeName },
    #[error("store-node {node} was registered by a later start of it, or by another process of the same name")]
    OtherIncarnation { node: NodeName },
    #[error("broker-{group} would lose its majority, because another of its store-nodes is away; try again")]
    NoTurn { group: ReplicaGroupId },
    #[error("store-node {node} keeps {replicas} replicas; drain it, and wait until it keeps none")]
    KeepsReplicas { node: NodeName, replicas: usize },
    /// The leader, when it is known, as `host:port`.
    #[error("this namesrv does not lead; {}", leader_text(leader.as_deref()))]
    NotLeader { leader: Option<String> },
    #[error("no namesrv has answered: {why}; whether the change was made is unknown")]
    Unreachable { why: String },
    #[error("namesrv refuses: {why}")]
    Refused { why: String },
    #[error("namesrv stopped before it answered; whether the change was made is unknown")]
    Stopped,
}

impl From<BadRetryPolicy> for MetadataError {
    fn from(BadRetryPolicy { what, asked, min, max }: BadRetryPolicy) -> Self {
        Self::OutOfRange { what, asked, min, max }
    }
}

fn leader_text(leader: Option<&str>) -> String {
    leader.map_or_else(|| "nobody is known to".to_owned(), |leader| format!("{leader} does"))
}
