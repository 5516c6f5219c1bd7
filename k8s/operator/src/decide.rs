//! What is to be done about an object, from what it says and what the cluster has. No IO.

use apogee_model::RetryPolicy;
use apogee_proto::admin::v1 as admin;

use crate::crds::{Backoff, ConsumerGroup, DeliveryOrder, Exponential, MessageType, Permission, Topic};
use crate::kept::{ADOPT, Held, Kept};
use crate::watched::{Watched as _, full_name};

/// What the cluster is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step<C, A> {
    Create(C),
    /// Somebody changed the one or the other.
    Alter(A),
    /// It is as the object says, as far as it can be.
    Nothing,
}

/// A step, and what is not as the object says even afterwards.
#[derive(Debug)]
pub(crate) struct Decision<K: Kept> {
    pub(crate) step: Step<K::Create, K::Alter>,
    pub(crate) lack: Option<Lack>,
}

/// What is in the cluster serves, but is not all that the object says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lack {
    #[error("the topic has {there} queues, and cannot have fewer: set queues to {there}, or to more")]
    FewerQueues { there: u32 },
    #[error("the topic gets {to} queues when its ordered groups have consumed what it has")]
    Growing { to: u32 },
}

/// Why nothing is done about an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "{name} is in the cluster, and this object did not make it: with the annotation {ADOPT}: \"true\" it takes it over"
    )]
    Foreign { name: String },
    #[error("{name} is kept by the object {by}")]
    Rival { name: String, by: String },
    #[error("{name} has {what} {there} in the cluster, and that cannot be changed to {wanted}")]
    Fixed { name: String, what: &'static str, there: String, wanted: String },
}

/// See [`Kept::decide`].
pub(crate) fn topic(wanted: &Topic, held: Held, there: Option<&admin::Topic>) -> Result<Decision<Topic>, Refusal> {
    let (spec, name) = (&wanted.spec, wanted.name_there());
    let kind = topic_type(spec.message_type);
    let lite_expiration_ms = spec.lite_expiration_seconds.map(millis);
    let Some(there) = there else {
        let create = admin::CreateTopicRequest {
            namespace: String::new(),
            name,
            r#type: kind.into(),
            read_queues: spec.queues,
            write_queues: spec.queues,
            lite_expiration_ms,
            no_key_index: !spec.key_index,
        };
        return Ok(Decision { step: Step::Create(create), lack: None });
    };
    ours(wanted, held, there.id)?;
    let words = |kind: admin::TopicType| word(kind.as_str_name(), "TOPIC_TYPE_");
    same(&name, "messageType", words(there.r#type()), words(kind))?;
    let seconds = |span: Option<u64>| span.map_or_else(|| "none".to_owned(), |ms| (ms / 1_000).to_string());
    same(&name, "liteExpirationSeconds", seconds(there.lite_expiration_ms), seconds(lite_expiration_ms))?;
    let (queues, lack) = grown(spec.queues, there);
    let permission = permission(spec.permission);
    let alter = admin::AlterTopicRequest {
        namespace: String::new(),
        name,
        queues,
        permission: if there.permission() == permission { 0 } else { permission.into() },
        key_index: (there.no_key_index == spec.key_index).then_some(spec.key_index),
    };
    let nothing = alter.queues == 0 && alter.permission == 0 && alter.key_index.is_none();
    Ok(Decision { step: if nothing { Step::Nothing } else { Step::Alter(alter) }, lack })
}

/// See [`Kept::decide`].
pub(crate) fn group(
    wanted: &ConsumerGroup,
    held: Held,
    there: Option<&admin::Group>,
) -> Result<Decision<ConsumerGroup>, Refusal> {
    let (spec, name) = (&wanted.spec, wanted.name_there());
    let order = match spec.delivery_order {
        DeliveryOrder::Concurrent => admin::DeliveryOrder::Concurrent,
        DeliveryOrder::Orderly => admin::DeliveryOrder::Orderly,
    };
    let retry = retry(spec.backoff.as_ref());
    let Some(there) = there else {
        let create = admin::CreateGroupRequest {
            namespace: String::new(),
            name,
            order: order.into(),
            max_attempts: spec.max_delivery_attempts,
            retry: Some(retry),
            priority_factor: Some(spec.priority_factor),
            lite: spec.lite_topic.clone().map(|topic| admin::LiteGroup { topic, ..Default::default() }),
        };
        return Ok(Decision { step: Step::Create(create), lack: None });
    };
    ours(wanted, held, there.id)?;
    let words = |order: admin::DeliveryOrder| word(order.as_str_name(), "DELIVERY_ORDER_");
    same(&name, "deliveryOrder", words(there.order()), words(order))?;
    let topic = |topic: Option<&String>| topic.map_or_else(|| "none".to_owned(), Clone::clone);
    same(&name, "liteTopic", topic(there.lite.as_ref().map(|lite| &lite.topic)), topic(spec.lite_topic.as_ref()))?;
    let (attempts, factor) = (spec.max_delivery_attempts, spec.priority_factor);
    let alter = admin::AlterGroupRequest {
        namespace: String::new(),
        name,
        max_attempts: (there.max_attempts != attempts).then_some(attempts),
        retry: Some(retry).filter(|retry| there.retry.as_ref() != Some(retry)),
        priority_factor: (there.priority_factor != factor).then_some(factor),
    };
    let nothing = alter.max_attempts.is_none() && alter.retry.is_none() && alter.priority_factor.is_none();
    Ok(Decision { step: if nothing { Step::Nothing } else { Step::Alter(alter) }, lack: None })
}

/// What an object made belongs to it, and what it adopts.
fn ours<K: Kept>(object: &K, held: Held, id: u32) -> Result<(), Refusal> {
    if held.owns(id) || object.adopts() { Ok(()) } else { Err(Refusal::Foreign { name: full_name(object) }) }
}

fn same(name: &str, what: &'static str, there: String, wanted: String) -> Result<(), Refusal> {
    if there == wanted { Ok(()) } else { Err(Refusal::Fixed { name: name.to_owned(), what, there, wanted }) }
}

/// Queues to ask for, 0 for none; and what stays in the way.
fn grown(wanted: u32, there: &admin::Topic) -> (u32, Option<Lack>) {
    let will_have = there.growing_to.unwrap_or(there.write_queues);
    if wanted < will_have {
        return (0, Some(Lack::FewerQueues { there: will_have }));
    }
    let growing = there.growing_to.map(|to| Lack::Growing { to });
    (if wanted == will_have { 0 } else { wanted }, growing)
}

fn topic_type(wanted: MessageType) -> admin::TopicType {
    match wanted {
        MessageType::Normal => admin::TopicType::Normal,
        MessageType::Fifo => admin::TopicType::Fifo,
        MessageType::Delay => admin::TopicType::Delay,
        MessageType::Transaction => admin::TopicType::Transaction,
        MessageType::Priority => admin::TopicType::Priority,
        MessageType::Lite => admin::TopicType::Lite,
        MessageType::Mixed => admin::TopicType::Mixed,
    }
}

fn permission(wanted: Permission) -> admin::Permission {
    match wanted {
        Permission::None => admin::Permission::None,
        Permission::Read => admin::Permission::Read,
        Permission::Write => admin::Permission::Write,
        Permission::ReadWrite => admin::Permission::ReadWrite,
    }
}

/// The rests an object asks for, or those it gets when it asks for none.
fn retry(backoff: Option<&Backoff>) -> admin::RetryPolicy {
    use admin::retry_policy::Kind;
    let (rests, exponential) = backoff.map_or((None, None), |it| (it.customized_seconds.as_ref(), it.exponential));
    let kind = match (rests, exponential) {
        (_, Some(Exponential { initial_seconds, max_seconds, multiplier })) => {
            let (initial_ms, max_ms) = (millis(initial_seconds), millis(max_seconds));
            Kind::Exponential(admin::ExponentialRetry { initial_ms, max_ms, multiplier })
        }
        (Some(rests), None) => {
            Kind::Customized(admin::CustomizedRetry { next_ms: rests.iter().copied().map(millis).collect() })
        }
        (None, None) => {
            Kind::Customized(admin::CustomizedRetry { next_ms: RetryPolicy::default().rests().as_millis().collect() })
        }
    };
    admin::RetryPolicy { kind: Some(kind) }
}

fn millis(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000
}

/// The word of our own in the name of a value of protobuf.
fn word(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_owned()
}

#[cfg(test)]
mod tests;
