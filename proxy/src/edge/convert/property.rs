//! What users may attach to a message: properties, tag, keys, message group.

use apogee_proto::v2;

use crate::service::MessageError;

/// Most user properties of a message.
pub(super) const PROPERTIES_MAX: usize = 128;
/// Most UTF-8 bytes of user properties (keys and values), tag and keys together.
pub(super) const PROPERTY_BYTES_MAX: usize = 16_384;
/// Longest message group in UTF-8 bytes.
pub(super) const MESSAGE_GROUP_MAX: usize = 63;
/// Longest lite topic in UTF-8 bytes.
const LITE_TOPIC_MAX: usize = 64;

/// Names of internal properties, which no user may set. Sorted.
///
/// Source: apache/rocketmq `common/.../MessageConst.java` (STRING_HASH_SET), and two names that would change what a
/// message is.
const RESERVED: [&str; 56] = [
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_TIMESTAMP",
    "BUYER_ID",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INNER_MULTI_DISPATCH",
    "INNER_MULTI_QUEUE_OFFSET",
    "INSTANCE_ID",
    "KEYS",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_GROUP",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "POP_CK_OFFSET",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TAGS",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DEQUEUE_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_OUT_MS",
    "TIMER_ROLL_TIMES",
    "TRACE_ON",
    "TRANSFER_FLAG",
    "TRAN_MSG",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "_SYS_MSG_PRIORITY_",
    "__BORNHOST",
    "__CRC32#",
    "__LITE_TOPIC",
    "__SHARDINGKEY",
];

/// Count, names and characters of user properties.
pub(super) fn check_properties(message: &v2::Message) -> Result<(), MessageError> {
    let properties = &message.user_properties;
    if properties.len() > PROPERTIES_MAX {
        return Err(MessageError::TooManyProperties { count: properties.len(), max: PROPERTIES_MAX });
    }
    if properties.contains_key("") {
        return Err(MessageError::EmptyPropertyKey);
    }
    if let Some(key) = properties.keys().find(|key| RESERVED.binary_search(&key.as_str()).is_ok()) {
        return Err(MessageError::ReservedProperty { key: key.clone() });
    }
    for (key, value) in properties {
        for (text, place) in [(key, "key"), (value, "value")] {
            if has_control(text) {
                return Err(MessageError::PropertyCharacter { key: shorten(key), place });
            }
        }
    }
    Ok(())
}

/// An empty tag is no tag.
pub(super) fn check_tag(tag: &str) -> Result<(), MessageError> {
    let problem = match tag {
        "" => return Ok(()),
        blank if blank.trim().is_empty() => "is only white space",
        tag if tag.contains('|') => "has the character '|', which separates tags in filters",
        tag if has_control(tag) => "has a control character",
        _ => return Ok(()),
    };
    Err(MessageError::Tag { tag: shorten(tag), problem })
}

/// An empty key is none.
pub(super) fn check_key(key: &str) -> Result<(), MessageError> {
    let problem = match key {
        "" => return Ok(()),
        blank if blank.trim().is_empty() => "is only white space",
        key if has_control(key) => "has a control character",
        _ => return Ok(()),
    };
    Err(MessageError::Key { key: shorten(key), problem })
}

/// All that users attached, in bytes.
pub(super) fn check_size(message: &v2::Message, properties: &v2::SystemProperties) -> Result<(), MessageError> {
    let user: usize = message.user_properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    let keys: usize = properties.keys.iter().map(String::len).sum();
    let bytes = user + keys + properties.tag().len();
    if bytes > PROPERTY_BYTES_MAX {
        return Err(MessageError::PropertiesTooLarge { bytes, max: PROPERTY_BYTES_MAX });
    }
    Ok(())
}

/// An empty message group is none.
pub(super) fn check_message_group(group: &str) -> Result<(), MessageError> {
    let problem = match group {
        "" => return Ok(()),
        blank if blank.trim().is_empty() => "is only white space",
        long if long.len() > MESSAGE_GROUP_MAX => {
            return Err(MessageError::MessageGroupTooLong { bytes: long.len(), max: MESSAGE_GROUP_MAX });
        }
        group if has_control(group) => "has a control character",
        _ => return Ok(()),
    };
    Err(MessageError::MessageGroup { group: shorten(group), problem })
}

/// An empty lite topic is none.
pub(super) fn check_lite_topic(lite_topic: &str) -> Result<(), MessageError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let problem = match lite_topic {
        "" => return Ok(()),
        long if long.len() > LITE_TOPIC_MAX => "is longer than the 64 bytes that are allowed",
        name if !name.chars().all(legal) => "has a character that is no letter, digit, - or _",
        _ => return Ok(()),
    };
    Err(MessageError::LiteTopic { lite_topic: shorten(lite_topic), problem })
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Enough of a text to recognise it in a message.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_searched() {
        assert!(RESERVED.is_sorted());
    }
}
