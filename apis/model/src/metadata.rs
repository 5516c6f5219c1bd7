//! Topics and groups as namesrv keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{ConsumerGroup, GroupId, MacKeys, Timestamp, Topic, TopicId, TopicType};

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
    /// Queues are numbered from 0 to `queues − 1`.
    pub queues: u16,
    pub permission: Permission,
    pub created: Timestamp,
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
    pub created: Timestamp,
}

impl GroupConfig {
    /// Source: apache/rocketmq `SubscriptionGroupConfig.java` (retryMaxTimes 16, plus the first delivery).
    pub const MAX_ATTEMPTS_DEFAULT: u32 = 17;
}

impl TopicConfig {
    /// Queues of a topic when nobody says otherwise.
    pub const QUEUES_DEFAULT: u16 = 8;
    pub const QUEUES_MAX: u16 = 1024;
}

/// Everything namesrv tells the cluster, at one version. Cheap to clone behind an `Arc`; a change makes a new one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// Grows by one with every change.
    pub version: u64,
    /// Drawn once when the cluster is born.
    pub cluster_id: u64,
    pub mac_keys: Arc<MacKeys>,
    pub topics: BTreeMap<Topic, Arc<TopicConfig>>,
    pub groups: BTreeMap<ConsumerGroup, Arc<GroupConfig>>,
}

/// A topic somebody wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewTopic {
    pub topic: Topic,
    pub topic_type: TopicType,
    /// 1 to [`TopicConfig::QUEUES_MAX`].
    pub queues: u16,
    pub permission: Permission,
}

/// A consumer group somebody wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewGroup {
    pub group: ConsumerGroup,
    pub order: DeliveryOrder,
    /// At least 1.
    pub max_attempts: u32,
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
    #[error("namesrv stopped before it answered; whether the change was made is unknown")]
    Stopped,
}
