//! Admin messages to our types and back.

use std::collections::BTreeMap;
use std::time::Duration;

use apogee_model::store::{GroupStatus, QueueStatus};
use apogee_model::{
    Cluster, ConsumerGroup, DeliveryOrder, GroupChanges, GroupConfig, LiteGroup, MetadataError, MoveStage, NewGroup,
    NewTopic, NodeStanding, Permission, PriorityFactor, ReplicaMove, StoreNodeConfig, Timestamp, Topic, TopicChanges,
    TopicConfig, TopicType,
};
use apogee_proto::admin::v1;

use super::error::AdminError;
use super::retry;

pub(super) fn new_topic(ask: &v1::CreateTopicRequest) -> Result<NewTopic, AdminError> {
    let (read, write) = (ask.read_queues, ask.write_queues);
    if read != write {
        return Err(AdminError::UnequalQueues { read, write });
    }
    Ok(NewTopic {
        topic: Topic::parse(&ask.namespace, &ask.name)?,
        topic_type: topic_type(ask.r#type)?,
        queues: u16::try_from(read).map_err(|_| too_many_queues(read))?,
        permission: Permission::ReadWrite,
        lite_expiration: ask.lite_expiration_ms.map(Duration::from_millis),
        key_index: !ask.no_key_index,
    })
}

pub(super) fn topic_changes(ask: &v1::AlterTopicRequest) -> Result<TopicChanges, AdminError> {
    let queues = match ask.queues {
        0 => None,
        queues => Some(u16::try_from(queues).map_err(|_| too_many_queues(queues))?),
    };
    let permission = permission(ask.permission)?;
    Ok(TopicChanges {
        topic: Topic::parse(&ask.namespace, &ask.name)?,
        queues,
        permission,
        key_index: ask.key_index,
        open: None,
    })
}

/// `None` where nothing is said.
fn permission(given: i32) -> Result<Option<Permission>, AdminError> {
    let unknown = || AdminError::Choice { field: "permission", given, allowed: "NONE, READ, WRITE, READ_WRITE" };
    Ok(match v1::Permission::try_from(given).map_err(|_| unknown())? {
        v1::Permission::Unspecified => None,
        v1::Permission::None => Some(Permission::None),
        v1::Permission::Read => Some(Permission::Read),
        v1::Permission::Write => Some(Permission::Write),
        v1::Permission::ReadWrite => Some(Permission::ReadWrite),
    })
}

fn wire_permission(permission: Permission) -> v1::Permission {
    match permission {
        Permission::None => v1::Permission::None,
        Permission::Read => v1::Permission::Read,
        Permission::Write => v1::Permission::Write,
        Permission::ReadWrite => v1::Permission::ReadWrite,
    }
}

pub(super) fn new_group(ask: &v1::CreateGroupRequest) -> Result<NewGroup, AdminError> {
    Ok(NewGroup {
        group: ConsumerGroup::parse(&ask.namespace, &ask.name)?,
        order: order(ask.order)?,
        max_attempts: ask.max_attempts,
        retry: ask.retry.clone().map(retry::policy).transpose()?.unwrap_or_default(),
        priority_factor: ask.priority_factor.map(PriorityFactor::new).transpose()?.unwrap_or_default(),
        lite: ask.lite.as_ref().map(|lite| lite_group(&ask.namespace, lite)).transpose()?,
    })
}

fn lite_group(namespace: &str, lite: &v1::LiteGroup) -> Result<LiteGroup, AdminError> {
    let client_max = if lite.client_max == 0 { LiteGroup::CLIENT_MAX_DEFAULT } else { lite.client_max };
    Ok(LiteGroup {
        topic: Topic::parse(namespace, &lite.topic)?,
        exclusive: lite.exclusive,
        client_max,
        reset_on_takeover: lite.reset_on_takeover,
        reset_on_unsubscribe: lite.reset_on_unsubscribe,
    })
}

fn wire_lite_group(lite: &LiteGroup) -> v1::LiteGroup {
    v1::LiteGroup {
        topic: lite.topic.name().to_owned(),
        exclusive: lite.exclusive,
        client_max: lite.client_max,
        reset_on_takeover: lite.reset_on_takeover,
        reset_on_unsubscribe: lite.reset_on_unsubscribe,
    }
}

pub(super) fn group_changes(ask: v1::AlterGroupRequest) -> Result<GroupChanges, AdminError> {
    Ok(GroupChanges {
        group: ConsumerGroup::parse(&ask.namespace, &ask.name)?,
        max_attempts: ask.max_attempts,
        retry: ask.retry.map(retry::policy).transpose()?,
        priority_factor: ask.priority_factor.map(PriorityFactor::new).transpose()?,
    })
}

pub(super) fn topic(topic: &TopicConfig) -> v1::Topic {
    v1::Topic {
        namespace: topic.topic.namespace().to_owned(),
        name: topic.topic.name().to_owned(),
        r#type: wire_type(topic.topic_type).into(),
        read_queues: u32::from(topic.queues),
        write_queues: u32::from(topic.queues),
        id: topic.id.0,
        created: Some(time(topic.created)),
        permission: wire_permission(topic.permission).into(),
        lite_expiration_ms: topic.lite_expiration.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        no_key_index: !topic.key_index,
        growing_to: topic.growing.map(Into::into),
    }
}

/// Every queue of the topic, in order; one the store has nothing to say about is empty.
pub(super) fn queues(topic: &TopicConfig, statuses: &[QueueStatus]) -> Vec<v1::TopicQueueStats> {
    let known: BTreeMap<_, _> = statuses.iter().map(|status| (status.queue.0, status)).collect();
    let row = |queue| {
        let number = |of: fn(&QueueStatus) -> u64| known.get(&queue).map_or(0, |status| of(status));
        v1::TopicQueueStats {
            queue_id: u32::from(queue),
            min_offset: number(|status| status.min.0),
            max_offset: number(|status| status.max.0),
            delayed: number(|status| status.delayed),
        }
    };
    (0..topic.queues).map(row).collect()
}

pub(super) fn node(cluster: &Cluster, node: &StoreNodeConfig) -> v1::StoreNode {
    let standing = match node.standing {
        NodeStanding::Alive => v1::NodeStanding::Alive,
        NodeStanding::Suspect => v1::NodeStanding::Suspect,
        NodeStanding::Draining if cluster.hosted(&node.name).next().is_none() => v1::NodeStanding::Drained,
        NodeStanding::Draining => v1::NodeStanding::Draining,
    };
    v1::StoreNode {
        name: node.name.as_str().to_owned(),
        zone: node.zone.clone(),
        lanes: node.lanes.clone(),
        replication: node.replication.clone(),
        standing: standing.into(),
    }
}

pub(super) fn replica_move(moving: &ReplicaMove) -> v1::ReplicaMove {
    let stage = match moving.stage {
        MoveStage::Joins => v1::MoveStage::Joins,
        MoveStage::Swaps => v1::MoveStage::Swaps,
    };
    v1::ReplicaMove {
        leaves: moving.leaves.0,
        comes: moving.comes.0,
        node: moving.to.as_str().to_owned(),
        stage: stage.into(),
    }
}

pub(super) fn group(group: &GroupConfig) -> v1::Group {
    v1::Group {
        namespace: group.group.namespace().to_owned(),
        name: group.group.name().to_owned(),
        order: wire_order(group.order).into(),
        max_attempts: group.max_attempts,
        retry: Some(retry::wire(&group.retry)),
        priority_factor: group.priority_factor.percent().into(),
        id: group.id.0,
        created: Some(time(group.created)),
        lite: group.lite.as_ref().map(wire_lite_group),
    }
}

/// In order of (topic, queue). The store may know topics for a moment longer than the cluster does; they are left out.
pub(super) fn progress(cluster: &Cluster, statuses: &[GroupStatus]) -> Vec<v1::GroupQueueProgress> {
    let names: BTreeMap<_, _> = cluster.topics.values().map(|topic| (topic.id, topic.topic.name())).collect();
    let row = |status: &GroupStatus| {
        Some(v1::GroupQueueProgress {
            topic: (*names.get(&status.topic)?).to_owned(),
            queue_id: u32::from(status.queue.0),
            committed: status.floor.0,
            max_offset: status.max.0,
            in_flight: status.in_flight,
            pull_offset: status.pulled.map(|offset| offset.0),
        })
    };
    let mut rows: Vec<_> = statuses.iter().filter_map(row).collect();
    rows.sort_by(|a, b| (&a.topic, a.queue_id).cmp(&(&b.topic, b.queue_id)));
    rows
}

fn too_many_queues(asked: u32) -> MetadataError {
    let max = u64::from(TopicConfig::QUEUES_MAX);
    MetadataError::OutOfRange { what: "number of queues", asked: u64::from(asked), min: 1, max }
}

fn topic_type(given: i32) -> Result<TopicType, AdminError> {
    let allowed = "NORMAL, FIFO, DELAY, TRANSACTION, PRIORITY, LITE, MIXED";
    let unknown = || AdminError::Choice { field: "topic type", given, allowed };
    match v1::TopicType::try_from(given).map_err(|_| unknown())? {
        v1::TopicType::Unspecified => Err(unknown()),
        v1::TopicType::Normal => Ok(TopicType::Normal),
        v1::TopicType::Fifo => Ok(TopicType::Fifo),
        v1::TopicType::Delay => Ok(TopicType::Delay),
        v1::TopicType::Transaction => Ok(TopicType::Transaction),
        v1::TopicType::Priority => Ok(TopicType::Priority),
        v1::TopicType::Lite => Ok(TopicType::Lite),
        v1::TopicType::Mixed => Ok(TopicType::Mixed),
    }
}

fn wire_type(topic_type: TopicType) -> v1::TopicType {
    match topic_type {
        TopicType::Normal => v1::TopicType::Normal,
        TopicType::Fifo => v1::TopicType::Fifo,
        TopicType::Delay => v1::TopicType::Delay,
        TopicType::Transaction => v1::TopicType::Transaction,
        TopicType::Priority => v1::TopicType::Priority,
        TopicType::Lite => v1::TopicType::Lite,
        TopicType::Mixed => v1::TopicType::Mixed,
    }
}

fn order(given: i32) -> Result<DeliveryOrder, AdminError> {
    let unknown = || AdminError::Choice { field: "delivery order", given, allowed: "CONCURRENT, ORDERLY" };
    match v1::DeliveryOrder::try_from(given).map_err(|_| unknown())? {
        v1::DeliveryOrder::Unspecified => Err(unknown()),
        v1::DeliveryOrder::Concurrent => Ok(DeliveryOrder::Concurrent),
        v1::DeliveryOrder::Orderly => Ok(DeliveryOrder::Fifo),
    }
}

fn wire_order(order: DeliveryOrder) -> v1::DeliveryOrder {
    match order {
        DeliveryOrder::Concurrent => v1::DeliveryOrder::Concurrent,
        DeliveryOrder::Fifo => v1::DeliveryOrder::Orderly,
    }
}

/// Before the epoch nothing happened.
pub(super) fn moment(at: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(at.seconds).unwrap_or(0).saturating_mul(1000);
    Timestamp(seconds.saturating_add(u64::try_from(at.nanos).unwrap_or(0) / 1_000_000))
}

pub(super) fn time(at: Timestamp) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.0 % 1000 * 1_000_000).expect("less than a second of nanoseconds");
    prost_types::Timestamp { seconds: i64::try_from(at.0 / 1000).unwrap_or(i64::MAX), nanos }
}
