//! SendMessage: checks in the order of the reference, then the bytes that will be stored and sent again.

use std::time::Duration;

use apogee_model::store::Half;
use apogee_model::{MessageType, Topic};
use apogee_proto::v2::{self, Encoding};
use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::property::{check_key, check_lite_topic, check_message_group, check_properties, check_size, check_tag};
use super::{Parse, named, time, topic};
use crate::edge::answer::{message_type, timestamp};
use crate::service::send::Batch;
use crate::service::{Call, Draft, MessageError, ServiceError};

/// Largest body in bytes, as it was sent.
pub(super) const BODY_MAX: usize = 4 * 1024 * 1024;
/// When a producer is asked first that says nothing else.
///
/// Source: apache/rocketmq `BrokerConfig.java` (transactionTimeOut).
const CHECK_AFTER: Duration = Duration::from_secs(6);
/// Longest recovery duration of a transaction in seconds.
const RECOVERY_SECONDS_MAX: i64 = 3600;
/// Farthest delivery time.
const DELAY_MAX: Duration = Duration::from_secs(40 * 24 * 3600);
/// Longest message id, born host and trace context in bytes.
const MESSAGE_ID_MAX: usize = 1024;
const BORN_HOST_MAX: usize = 1024;
const TRACE_CONTEXT_MAX: usize = 16_384;

impl Parse<v2::SendMessageRequest> for Batch {
    fn parse(wire: v2::SendMessageRequest, call: &Call) -> Result<Self, ServiceError> {
        let Some(first) = wire.messages.first() else { return Err(ServiceError::NoMessages) };
        let topic = topic(first.topic.as_ref(), call)?;
        one_topic(&topic, &wire.messages, call)?;
        let hint = first.system_properties.as_ref().and_then(|properties| u32::try_from(properties.queue_id).ok());
        let count = wire.messages.len();
        let messages = wire.messages.into_iter().enumerate().map(|(index, message)| {
            draft(&topic, message, call).map_err(|error| ServiceError::from(error).of_message(index, count))
        });
        Ok(Self { queue_hint: hint, messages: messages.collect::<Result<_, ServiceError>>()?, topic })
    }
}

fn one_topic(expected: &Topic, messages: &[v2::Message], call: &Call) -> Result<(), ServiceError> {
    for (index, message) in messages.iter().enumerate().skip(1) {
        if message.topic == messages[0].topic {
            continue; // the usual case needs no parsing
        }
        if named(message.topic.as_ref(), call, Topic::parse).ok().as_ref() != Some(expected) {
            let found = message.topic.as_ref().map_or("", |topic| &topic.name).chars().take(128).collect();
            return Err(ServiceError::MixedTopics { index, expected: expected.clone(), found });
        }
    }
    Ok(())
}

fn draft(topic: &Topic, mut message: v2::Message, call: &Call) -> Result<Draft, MessageError> {
    let properties = message.system_properties.take().unwrap_or_default();
    check(&message, &properties, call)?;
    let body = message.body.clone();
    let message_type = type_of(&properties);
    let message_id = properties.message_id.clone();
    let message_group = Some(properties.message_group()).filter(|group| !group.is_empty()).map(Into::into);
    let priority = priority(&properties, message_type);
    let lite_topic = Some(properties.lite_topic()).filter(|_| message_type == MessageType::Lite).map(Into::into);
    let due =
        properties.delivery_timestamp.as_ref().filter(|_| message_type == MessageType::Delay).map(time::timestamp);
    let half = (message_type == MessageType::Transaction).then(|| half(&properties));
    Ok(Draft {
        message_type,
        message_id,
        message_group,
        priority,
        lite_topic,
        due,
        half,
        body,
        body_part: body_part(topic, message),
        properties: properties_part(properties, message_type, call),
    })
}

/// First failure wins.
///
/// Source: apache/rocketmq `proxy/.../SendMessageActivity.java`, `GrpcValidator.java`.
fn check(message: &v2::Message, properties: &v2::SystemProperties, call: &Call) -> Result<(), MessageError> {
    match message.body.len() {
        0 => return Err(MessageError::BodyEmpty),
        bytes if bytes > BODY_MAX => return Err(MessageError::BodyTooLarge { bytes, max: BODY_MAX }),
        _ => {}
    }
    check_properties(message)?;
    check_tag(properties.tag())?;
    properties.keys.iter().try_for_each(|key| check_key(key))?;
    check_size(message, properties)?;
    if properties.message_id.trim().is_empty() {
        return Err(MessageError::MessageId);
    }
    if properties.message_id.len() > MESSAGE_ID_MAX {
        return Err(MessageError::MessageIdTooLong { bytes: properties.message_id.len(), max: MESSAGE_ID_MAX });
    }
    check_length("born host", &properties.born_host, BORN_HOST_MAX)?;
    check_length("trace context", properties.trace_context(), TRACE_CONTEXT_MAX)?;
    check_recovery(properties)?;
    check_delivery(properties, call)?;
    check_message_group(properties.message_group())?;
    check_priority(properties.priority)?;
    check_lite_topic(properties.lite_topic())
}

fn check_length(field: &'static str, text: &str, max: usize) -> Result<(), MessageError> {
    if text.len() > max { Err(MessageError::FieldTooLong { field, bytes: text.len(), max }) } else { Ok(()) }
}

fn check_recovery(properties: &v2::SystemProperties) -> Result<(), MessageError> {
    let asked = properties.orphaned_transaction_recovery_duration.map_or(0, |duration| duration.seconds);
    if type_of(properties) == MessageType::Transaction && asked > RECOVERY_SECONDS_MAX {
        return Err(MessageError::RecoveryDuration { asked, max: RECOVERY_SECONDS_MAX });
    }
    Ok(())
}

/// Only PRIORITY messages have one: what else a message is comes before it.
fn priority(properties: &v2::SystemProperties, actual: MessageType) -> Option<u32> {
    properties.priority.filter(|_| actual == MessageType::Priority).and_then(|priority| priority.try_into().ok())
}

fn check_priority(priority: Option<i32>) -> Result<(), MessageError> {
    match priority {
        Some(priority @ ..0) => Err(MessageError::Priority { priority }),
        _ => Ok(()),
    }
}

/// No time at all would ask while the transaction is under way, and is taken for nothing said.
fn half(properties: &v2::SystemProperties) -> Half {
    let asked = properties.orphaned_transaction_recovery_duration.and_then(time::duration);
    Half { check_after: asked.filter(|asked| !asked.is_zero()).unwrap_or(CHECK_AFTER) }
}

/// The past is fine and means at once.
fn check_delivery(properties: &v2::SystemProperties, call: &Call) -> Result<(), MessageError> {
    let Some(at) = &properties.delivery_timestamp else { return Ok(()) };
    let ahead = time::timestamp(at).since(call.received);
    if ahead > DELAY_MAX {
        return Err(MessageError::DeliveryTimestamp { ahead, max: DELAY_MAX });
    }
    if type_of(properties) == MessageType::Transaction {
        return Err(MessageError::TransactionWithDelay);
    }
    Ok(())
}

/// What a message is follows from what it carries; only a transaction has to say it.
///
/// Source: apache/rocketmq `common/.../TopicMessageType.java` (parseFromMessageProperty).
fn type_of(properties: &v2::SystemProperties) -> MessageType {
    if properties.message_type() == v2::MessageType::Transaction {
        MessageType::Transaction
    } else if properties.delivery_timestamp.is_some() {
        MessageType::Delay
    } else if !properties.message_group().is_empty() {
        MessageType::Fifo
    } else if properties.priority.is_some() {
        MessageType::Priority
    } else if !properties.lite_topic().is_empty() {
        MessageType::Lite
    } else {
        MessageType::Normal
    }
}

/// Fields 1, 2 and 4 of `Message`. prost writes fields by number, so the body comes last.
fn body_part(topic: &Topic, message: v2::Message) -> Bytes {
    let resource = v2::Resource { resource_namespace: topic.namespace().to_owned(), name: topic.name().to_owned() };
    let part = v2::Message { topic: Some(resource), system_properties: None, ..message };
    part.encode_to_vec().into()
}

/// The fields of `SystemProperties` that never change, without the digest. Encoding is always told: 0 breaks SDKs.
fn properties_part(given: v2::SystemProperties, actual: MessageType, call: &Call) -> BytesMut {
    let encoding = match given.body_encoding() {
        Encoding::Gzip => Encoding::Gzip,
        Encoding::Identity | Encoding::Unspecified => Encoding::Identity,
    };
    let born = given.born_timestamp.as_ref().map_or(call.received, time::timestamp);
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let properties = v2::SystemProperties {
        tag: text(given.tag),
        keys: given.keys.into_iter().filter(|key| !key.is_empty()).collect(),
        message_id: given.message_id,
        body_encoding: encoding.into(),
        message_type: message_type(actual).into(),
        born_timestamp: Some(timestamp(born)),
        born_host: if given.born_host.trim().is_empty() { peer(call) } else { given.born_host },
        delivery_timestamp: given.delivery_timestamp.as_ref().map(|at| timestamp(time::timestamp(at))),
        message_group: text(given.message_group),
        trace_context: text(given.trace_context),
        orphaned_transaction_recovery_duration: given.orphaned_transaction_recovery_duration,
        lite_topic: text(given.lite_topic),
        priority: given.priority.filter(|_| actual == MessageType::Priority),
        ..v2::SystemProperties::default()
    };
    let mut part = BytesMut::with_capacity(properties.encoded_len() + Draft::DIGEST_FIELD);
    properties.encode(&mut part).expect("a buffer that grows has room");
    part
}

fn peer(call: &Call) -> String {
    call.peer.map(|peer| peer.to_string()).unwrap_or_default()
}
