//! Messages whose bytes say who they are, and the names of what they travel through.

use crate::history::{Delivered, Handle, MessageId, Name, Place, digest};
use apogee_model::store::{DeadLetters, Delivery, GroupRef, TopicRef};
use apogee_model::{ConsumerGroup, Filter, GroupId, QueueId, StoredMessage, Topic, TopicId};
use bytes::Bytes;

/// Queues of the topic.
pub const QUEUES: u16 = 3;
/// Groups that read it, numbered from 1.
pub const GROUPS: u32 = 2;
/// The group that has dead letters, where groups have any.
pub const DYING: u32 = 2;
/// The one that is ordered, when one is.
pub const ORDERED_GROUP: u32 = 2;
/// A group whose consumers all filter by the same expression.
pub const FILTERED: u32 = GROUPS + 1;
/// What it wants: two thirds of the messages.
const WANTED: &str = "NOT (TAGS = 't1')";
/// A group that reads by offset.
pub const READING: u32 = FILTERED + 1;
/// A group that reads lite topics.
pub const LITE: u32 = READING + 1;
/// Lite topics, numbered from 0.
const LITE_TOPICS: u64 = 4;
const TOPIC: &str = "orders";
const SESSIONS: &str = "sessions";

/// A message of `size` bytes and some, all of which follow from its id.
pub fn message(id: MessageId, size: usize) -> StoredMessage {
    let mut body = Vec::with_capacity(size + 8);
    body.extend_from_slice(&id.0.to_le_bytes());
    let mut word = id.0 + 1;
    while body.len() < size + 8 {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        body.extend_from_slice(&word.to_le_bytes());
    }
    body.truncate(size + 8);
    // Field 1 is the tag, field 2 a key and field 17 the message group, as in SystemProperties of the v2 API.
    let mut properties = vec![0x0a, 2, b't', b'0' + u8::try_from(id.0 % 3).expect("a digit")];
    let key = format!("key-{}", id.0);
    properties.extend_from_slice(&[0x12, u8::try_from(key.len()).expect("a short key")]);
    properties.extend_from_slice(key.as_bytes());
    if id.message_group() > 0 {
        let group = format!("order-{}", id.message_group());
        properties.extend_from_slice(&[0x8a, 0x01, u8::try_from(group.len()).expect("a short name")]);
        properties.extend_from_slice(group.as_bytes());
    }
    StoredMessage { body_part: body.into(), properties_part: properties.into() }
}

/// What a history knows a payload by.
pub fn digest_of(message: &StoredMessage) -> u64 {
    digest([&message.body_part[..], &message.properties_part[..]])
}

/// A delivery in the words of the history. Rubbish gets the id of a message that nobody sent.
pub fn delivered(delivery: &Delivery) -> Delivered {
    let key = &delivery.key;
    let handle = digest([&key.delivery.0.to_le_bytes()[..], &key.queue.0.to_le_bytes(), &key.offset.0.to_le_bytes()]);
    Delivered {
        message: id_of(&delivery.message),
        place: if key.topic.is_lite() {
            lite_place(id_of(&delivery.message), key.offset.0)
        } else {
            place(key.queue.0, key.offset.0)
        },
        digest: digest_of(&delivery.message),
        attempt: delivery.attempt.0,
        handle: Handle(handle),
        invisible: delivery.invisible.get(),
    }
}

/// Who a message says it is.
pub fn id_of(message: &StoredMessage) -> MessageId {
    MessageId(message.body_part.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes)))
}

/// Where dead letters of this group go after so many attempts.
pub fn dead_letters(number: u32, max_attempts: u32) -> DeadLetters {
    let topic = TopicRef { id: TopicId(1000 + number), name: group(number).name.dead_letter_topic(), queues: 1 };
    DeadLetters { max_attempts, topic, queue: QueueId(0) }
}

/// A place in the topic, in the words of the history.
pub fn place(queue: u16, offset: u64) -> Place {
    Place { topic: topic_name(), queue: queue.into(), offset }
}

/// The topic, in the words of the history.
pub fn topic_name() -> Name {
    TOPIC.into()
}

/// The topic, in the words of the store.
pub fn topic() -> TopicRef {
    TopicRef { id: TopicId(1), name: Topic::parse("", TOPIC).expect("a good name"), queues: QUEUES }
}

/// The topic that lite topics are parts of, in the words of the store.
pub fn sessions() -> TopicRef {
    TopicRef { id: TopicId(2), name: Topic::parse("", SESSIONS).expect("a good name"), queues: 1 }
}

/// All lite topics.
pub fn lite_names() -> Vec<Box<str>> {
    (0..LITE_TOPICS).map(|nth| format!("session-{nth}").into()).collect()
}

/// The lite topic that a message is sent to.
pub fn lite_name(message: MessageId) -> Box<str> {
    format!("session-{}", message.0 / LITE_TOPICS % LITE_TOPICS).into()
}

/// Lite topics, in the words of the history.
pub fn lite_topics() -> impl Iterator<Item = Name> {
    lite_names().into_iter().map(|name| lite_topic_of(&name))
}

/// That of a message.
pub fn lite_topic(message: MessageId) -> Name {
    lite_topic_of(&lite_name(message))
}

/// A lite topic of this name, in the words of the history.
pub fn lite_topic_of(name: &str) -> Name {
    format!("{SESSIONS}/{name}").into()
}

/// The place of a message in its lite topic, in the words of the history.
pub fn lite_place(message: MessageId, offset: u64) -> Place {
    Place { topic: lite_topic(message), queue: 0, offset }
}

/// Groups are numbered from 1.
pub fn group(number: u32) -> GroupRef {
    let name = ConsumerGroup::parse("", &format!("group-{number}")).expect("a good name");
    GroupRef { id: GroupId(number), name }
}

/// What the consumers of a group want.
pub fn filter(group: u32) -> Filter {
    if group == FILTERED { Filter::sql(WANTED).expect("a good expression") } else { Filter::default() }
}

/// The attempt id of this number.
pub fn attempt_id(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}
