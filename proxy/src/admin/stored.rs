//! Stored messages as the admin API shows them.

use apogee_model::store::{FetchedMessage, StoreError};
use apogee_model::{QueueId, TopicConfig};
use apogee_proto::admin::v1;
use apogee_proto::v2;
use prost::Message as _;

use super::convert::time;

/// # Errors
/// [`StoreError::Unreadable`] when what is stored is no message; a proxy wrote it, so something is damaged.
pub(super) fn shown(topic: &TopicConfig, queue: QueueId, found: FetchedMessage) -> Result<v1::Message, StoreError> {
    let FetchedMessage { offset, stored_at, message } = found;
    let unreadable = |why| StoreError::Unreadable { why: format!("queue {queue} at offset {offset}: {why}") };
    let content = v2::Message::decode(message.body_part).map_err(unreadable)?;
    let system = v2::SystemProperties::decode(message.properties_part).map_err(unreadable)?;
    let encoding = match system.body_encoding() {
        v2::Encoding::Gzip => v1::BodyEncoding::Gzip,
        v2::Encoding::Identity | v2::Encoding::Unspecified => v1::BodyEncoding::Identity,
    };
    Ok(v1::Message {
        namespace: topic.topic.namespace().to_owned(),
        topic: topic.topic.name().to_owned(),
        queue_id: queue.0.into(),
        offset: offset.0,
        stored: Some(time(stored_at)),
        message_id: system.message_id,
        tag: system.tag,
        keys: system.keys,
        properties: content.user_properties,
        born: system.born_timestamp,
        born_host: system.born_host,
        message_group: system.message_group,
        delivery: system.delivery_timestamp,
        body_encoding: encoding.into(),
        body: content.body,
    })
}
