//! Words of ours as messages, and back. Whatever comes from the network may be wrong: it becomes a word of ours or
//! [`Malformed`].

mod refusal;
mod replicas;
mod retry;
mod update;

use std::time::Duration;

use apogee_model::{
    ConsumerGroup, DeliveryOrder, GroupChanges, GroupConfig, GroupId, LiteGroup, MacKey, MacKeys, NewGroup, NewNode,
    NewTopic, NodeName, NodeStanding, Permission, PriorityFactor, ProxyNode, ReplicaGroupId, StoreNodeConfig,
    Timestamp, Topic, TopicChanges, TopicConfig, TopicId, TopicType,
};
use apogee_proto::Malformed;
use apogee_proto::namesrv::v1;

use crate::proxies::ADDRESS_MAX;

pub(crate) use refusal::{refusal_of, status_of};
pub(crate) use update::{between, follow};

type Read<T> = Result<T, Malformed>;

fn bad(what: &'static str) -> Malformed {
    Malformed { what }
}

fn need<T>(part: Option<T>, what: &'static str) -> Read<T> {
    part.ok_or(bad(what))
}

pub(crate) fn topic_name(topic: &Topic) -> v1::Name {
    v1::Name { namespace: topic.namespace().to_owned(), name: topic.name().to_owned() }
}

pub(crate) fn group_name(group: &ConsumerGroup) -> v1::Name {
    v1::Name { namespace: group.namespace().to_owned(), name: group.name().to_owned() }
}

pub(crate) fn read_topic_name(name: Option<v1::Name>) -> Read<Topic> {
    let name = need(name, "the name of the topic")?;
    Topic::parse(&name.namespace, &name.name).map_err(|_| bad("the name of the topic"))
}

pub(crate) fn read_group_name(name: Option<v1::Name>) -> Read<ConsumerGroup> {
    let name = need(name, "the name of the consumer group")?;
    ConsumerGroup::parse(&name.namespace, &name.name).map_err(|_| bad("the name of the consumer group"))
}

pub(crate) fn read_node_name(name: &str) -> Read<NodeName> {
    NodeName::parse(name).map_err(|_| bad("the name of the store-node"))
}

pub(crate) fn new_node(node: &NewNode) -> v1::NewNode {
    let NewNode { name, lanes, replication, zone, incarnation } = node.clone();
    v1::NewNode { name: name.into(), lanes, replication, zone, incarnation }
}

pub(crate) fn read_new_node(node: Option<v1::NewNode>) -> Read<NewNode> {
    let v1::NewNode { name, lanes, replication, zone, incarnation } = need(node, "the store-node")?;
    Ok(NewNode { name: read_node_name(&name)?, lanes, replication, zone, incarnation })
}

pub(crate) fn proxy(proxy: ProxyNode) -> v1::Proxy {
    let ProxyNode { name, admin, incarnation } = proxy;
    v1::Proxy { name: name.into(), admin, incarnation }
}

pub(crate) fn read_proxy(proxy: v1::Proxy) -> Read<ProxyNode> {
    let v1::Proxy { name, admin, incarnation } = proxy;
    let name = NodeName::parse(&name).map_err(|_| bad("the name of the proxy"))?;
    if admin.is_empty() || admin.len() > ADDRESS_MAX {
        return Err(bad("the admin address of the proxy"));
    }
    Ok(ProxyNode { name, admin, incarnation })
}

fn node(node: &StoreNodeConfig) -> v1::Node {
    let StoreNodeConfig { name, lanes, replication, zone, standing, incarnation } = node.clone();
    let standing = match standing {
        NodeStanding::Alive => v1::Standing::Alive,
        NodeStanding::Suspect => v1::Standing::Suspect,
        NodeStanding::Draining => v1::Standing::Draining,
    };
    let node = v1::NewNode { name: name.into(), lanes, replication, zone, incarnation };
    v1::Node { node: Some(node), standing: standing.into() }
}

fn read_node(node: v1::Node) -> Read<StoreNodeConfig> {
    let standing = match node.standing() {
        v1::Standing::Unspecified => return Err(bad("the standing of a store-node")),
        v1::Standing::Alive => NodeStanding::Alive,
        v1::Standing::Suspect => NodeStanding::Suspect,
        v1::Standing::Draining => NodeStanding::Draining,
    };
    let NewNode { name, lanes, replication, zone, incarnation } = read_new_node(node.node)?;
    Ok(StoreNodeConfig { name, lanes, replication, zone, standing, incarnation })
}

fn mac_keys(keys: &MacKeys) -> v1::MacKeys {
    let key = |key: &MacKey| v1::MacKey { generation: key.generation.into(), secret: key.secret.to_vec().into() };
    v1::MacKeys { current: Some(key(&keys.current)), previous: keys.previous.as_ref().map(key) }
}

fn read_mac_keys(keys: v1::MacKeys) -> Read<MacKeys> {
    let key = |key: v1::MacKey| {
        let secret = key.secret[..].try_into().map_err(|_| bad("the secret of a MAC key"))?;
        let generation = u8::try_from(key.generation).map_err(|_| bad("the generation of a MAC key"))?;
        Ok(MacKey { generation, secret })
    };
    let current = key(need(keys.current, "the current MAC key")?)?;
    Ok(MacKeys { current, previous: keys.previous.map(key).transpose()? })
}

fn topic_type(topic_type: TopicType) -> v1::TopicType {
    match topic_type {
        TopicType::Normal => v1::TopicType::Normal,
        TopicType::Fifo => v1::TopicType::Fifo,
        TopicType::Delay => v1::TopicType::Delay,
        TopicType::Transaction => v1::TopicType::Transaction,
        TopicType::Mixed => v1::TopicType::Mixed,
        TopicType::Lite => v1::TopicType::Lite,
        TopicType::Priority => v1::TopicType::Priority,
    }
}

fn read_topic_type(topic_type: v1::TopicType) -> Read<TopicType> {
    Ok(match topic_type {
        v1::TopicType::Unspecified => return Err(bad("the type of the topic")),
        v1::TopicType::Normal => TopicType::Normal,
        v1::TopicType::Fifo => TopicType::Fifo,
        v1::TopicType::Delay => TopicType::Delay,
        v1::TopicType::Transaction => TopicType::Transaction,
        v1::TopicType::Mixed => TopicType::Mixed,
        v1::TopicType::Lite => TopicType::Lite,
        v1::TopicType::Priority => TopicType::Priority,
    })
}

fn permission(permission: Permission) -> v1::Permission {
    match permission {
        Permission::None => v1::Permission::None,
        Permission::Read => v1::Permission::Read,
        Permission::Write => v1::Permission::Write,
        Permission::ReadWrite => v1::Permission::ReadWrite,
    }
}

fn read_permission(permission: v1::Permission) -> Read<Permission> {
    Ok(match permission {
        v1::Permission::Unspecified => return Err(bad("the permission of the topic")),
        v1::Permission::None => Permission::None,
        v1::Permission::Read => Permission::Read,
        v1::Permission::Write => Permission::Write,
        v1::Permission::ReadWrite => Permission::ReadWrite,
    })
}

pub(crate) fn new_topic(new: &NewTopic) -> v1::CreateTopicRequest {
    v1::CreateTopicRequest {
        name: Some(topic_name(&new.topic)),
        topic_type: topic_type(new.topic_type).into(),
        queues: new.queues.into(),
        permission: permission(new.permission).into(),
        lite_expiration_ms: new.lite_expiration.map(as_millis),
        no_key_index: !new.key_index,
    }
}

pub(crate) fn read_new_topic(new: v1::CreateTopicRequest) -> Read<NewTopic> {
    let (topic_type, permission) = (read_topic_type(new.topic_type())?, read_permission(new.permission())?);
    // More queues than there can be are refused with the limit, not here.
    let queues = u16::try_from(new.queues).unwrap_or(u16::MAX);
    let lite_expiration = new.lite_expiration_ms.map(Duration::from_millis);
    let (topic, key_index) = (read_topic_name(new.name)?, !new.no_key_index);
    Ok(NewTopic { topic, topic_type, queues, permission, lite_expiration, key_index })
}

pub(crate) fn topic_changes(changes: &TopicChanges) -> v1::AlterTopicRequest {
    v1::AlterTopicRequest {
        name: Some(topic_name(&changes.topic)),
        queues: changes.queues.unwrap_or_default().into(),
        permission: changes.permission.map_or(v1::Permission::Unspecified, permission).into(),
        key_index: changes.key_index,
        open: changes.open,
    }
}

pub(crate) fn read_topic_changes(changes: v1::AlterTopicRequest) -> Read<TopicChanges> {
    let permission = match changes.permission() {
        v1::Permission::Unspecified => None,
        given => Some(read_permission(given)?),
    };
    let queues = Some(changes.queues).filter(|queues| *queues != 0);
    // More queues than there can be are refused with the limit, not here.
    let queues = queues.map(|queues| u16::try_from(queues).unwrap_or(u16::MAX));
    Ok(TopicChanges {
        topic: read_topic_name(changes.name)?,
        queues,
        permission,
        key_index: changes.key_index,
        open: changes.open,
    })
}

pub(crate) fn topic(version: u64, topic: &TopicConfig) -> v1::Topic {
    v1::Topic {
        version,
        name: Some(topic_name(&topic.topic)),
        id: topic.id.0,
        topic_type: topic_type(topic.topic_type).into(),
        queues: topic.queues.into(),
        placement: topic.placement.iter().map(|group| group.0).collect(),
        permission: permission(topic.permission).into(),
        created: topic.created.0,
        lite_expiration_ms: topic.lite_expiration.map(as_millis),
        no_key_index: !topic.key_index,
        epoch: topic.epoch,
        growing: topic.growing.map(Into::into),
    }
}

pub(crate) fn read_topic(topic: v1::Topic) -> Read<TopicConfig> {
    let (topic_type, permission) = (read_topic_type(topic.topic_type())?, read_permission(topic.permission())?);
    let queues = u16::try_from(topic.queues).map_err(|_| bad("the number of queues"))?;
    let growing = topic.growing.map(u16::try_from).transpose().map_err(|_| bad("the number of queues to come"))?;
    if usize::from(queues) != topic.placement.len() {
        return Err(bad("the placement of the topic"));
    }
    Ok(TopicConfig {
        topic: read_topic_name(topic.name)?,
        id: TopicId(topic.id),
        topic_type,
        queues,
        placement: topic.placement.into_iter().map(ReplicaGroupId).collect(),
        permission,
        lite_expiration: topic.lite_expiration_ms.map(Duration::from_millis),
        key_index: !topic.no_key_index,
        epoch: topic.epoch,
        growing,
        created: Timestamp(topic.created),
    })
}

pub(crate) fn new_group(new: &NewGroup) -> v1::CreateGroupRequest {
    let fifo = new.order == DeliveryOrder::Fifo;
    let (name, retry) = (Some(group_name(&new.group)), Some(retry::policy(&new.retry)));
    let priority_factor = Some(new.priority_factor.percent().into());
    v1::CreateGroupRequest {
        name,
        fifo,
        max_attempts: new.max_attempts,
        retry,
        priority_factor,
        lite: new.lite.as_ref().map(lite),
    }
}

pub(crate) fn read_new_group(new: v1::CreateGroupRequest) -> Read<NewGroup> {
    let group = read_group_name(new.name)?;
    let retry = retry::read_policy(need(new.retry, "the retry policy")?)?;
    let priority_factor = read_priority_factor(new.priority_factor)?.unwrap_or_default();
    let lite = new.lite.map(read_lite).transpose()?;
    Ok(NewGroup { group, order: order(new.fifo), max_attempts: new.max_attempts, retry, priority_factor, lite })
}

pub(crate) fn group_changes(changes: &GroupChanges) -> v1::AlterGroupRequest {
    v1::AlterGroupRequest {
        name: Some(group_name(&changes.group)),
        max_attempts: changes.max_attempts,
        retry: changes.retry.as_ref().map(retry::policy),
        priority_factor: changes.priority_factor.map(|factor| factor.percent().into()),
    }
}

pub(crate) fn read_group_changes(changes: v1::AlterGroupRequest) -> Read<GroupChanges> {
    Ok(GroupChanges {
        group: read_group_name(changes.name)?,
        max_attempts: changes.max_attempts,
        retry: changes.retry.map(retry::read_policy).transpose()?,
        priority_factor: read_priority_factor(changes.priority_factor)?,
    })
}

pub(crate) fn group(version: u64, group: &GroupConfig) -> v1::Group {
    v1::Group {
        version,
        name: Some(group_name(&group.group)),
        id: group.id.0,
        fifo: group.order == DeliveryOrder::Fifo,
        max_attempts: group.max_attempts,
        retry: Some(retry::policy(&group.retry)),
        priority_factor: Some(group.priority_factor.percent().into()),
        created: group.created.0,
        lite: group.lite.as_ref().map(lite),
    }
}

pub(crate) fn read_group(group: v1::Group) -> Read<GroupConfig> {
    Ok(GroupConfig {
        group: read_group_name(group.name)?,
        id: GroupId(group.id),
        order: order(group.fifo),
        max_attempts: group.max_attempts,
        retry: retry::read_policy(need(group.retry, "the retry policy")?)?,
        priority_factor: read_priority_factor(group.priority_factor)?.unwrap_or_default(),
        lite: group.lite.map(read_lite).transpose()?,
        created: Timestamp(group.created),
    })
}

fn read_priority_factor(percent: Option<u32>) -> Read<Option<PriorityFactor>> {
    percent.map(|percent| PriorityFactor::new(percent).map_err(|_| bad("the priority factor"))).transpose()
}

fn lite(lite: &LiteGroup) -> v1::LiteGroup {
    let LiteGroup { topic, exclusive, client_max, reset_on_takeover, reset_on_unsubscribe } = lite;
    v1::LiteGroup {
        topic: Some(topic_name(topic)),
        exclusive: *exclusive,
        client_max: *client_max,
        reset_on_takeover: *reset_on_takeover,
        reset_on_unsubscribe: *reset_on_unsubscribe,
    }
}

fn read_lite(lite: v1::LiteGroup) -> Read<LiteGroup> {
    let v1::LiteGroup { topic, exclusive, client_max, reset_on_takeover, reset_on_unsubscribe } = lite;
    let topic = read_topic_name(topic)?;
    Ok(LiteGroup { topic, exclusive, client_max, reset_on_takeover, reset_on_unsubscribe })
}

/// More than there can be is refused with the limit, not here.
fn as_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn order(fifo: bool) -> DeliveryOrder {
    if fifo { DeliveryOrder::Fifo } else { DeliveryOrder::Concurrent }
}
