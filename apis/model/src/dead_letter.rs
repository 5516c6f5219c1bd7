//! Dead letters: where they go, and what of the message changes when it becomes one.

use bytes::Bytes;

use crate::wire::{self, Field, Value};
use crate::{ConsumerGroup, StoredMessage, Topic};

/// What the name of a topic of dead letters begins with.
const PREFIX: &str = "%DLQ%";
/// User properties of a dead letter: the topic it was sent to first, and its id there.
const ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";
const ORIGIN_MESSAGE_ID: &str = "DLQ_ORIGIN_MESSAGE_ID";

impl ConsumerGroup {
    /// The topic of the group's dead letters, which exists as long as the group does.
    ///
    /// Source: apache/rocketmq `common/.../MixAll.java` (getDLQTopic).
    pub fn dead_letter_topic(&self) -> Topic {
        Topic::parse(self.namespace(), &format!("{PREFIX}{}", self.name()))
            .expect("names of groups are shorter than those of derived topics, and made of the same characters")
    }
}

impl Topic {
    /// The name of the group whose dead letters this topic is for; `None` for every other topic.
    pub fn dead_letters_of(&self) -> Option<&str> {
        self.name().strip_prefix(PREFIX)
    }
}

/// Field numbers of `apache.rocketmq.v2.Message`, `SystemProperties`, `DeadLetterQueue`, `Resource` and map entries.
mod field {
    pub(super) const TOPIC: u32 = 1;
    pub(super) const USER_PROPERTY: u32 = 2;
    pub(super) const BODY: u32 = 4;
    pub(super) const DEAD_LETTER_QUEUE: u32 = 20;
    pub(super) const FIRST: u32 = 1;
    pub(super) const SECOND: u32 = 2;
}

impl StoredMessage {
    /// The topic it was sent to: namespace and name. `None` of what no proxy wrote.
    pub fn topic(&self) -> Option<(&str, &str)> {
        let mut fields = wire::fields(&self.body_part);
        match fields.next()? {
            Ok(Field { number: field::TOPIC, value: Value::Bytes(resource) }) => {
                Some((text(resource, field::FIRST)?, text(resource, field::SECOND).filter(|name| !name.is_empty())?))
            }
            _ => None,
        }
    }

    /// The message as it is stored in a topic of dead letters: everything it was, and where it came from, as user
    /// properties and as SDKs are told it. One that was a dead letter before keeps its first origin. What no proxy wrote
    /// stays as it is.
    ///
    /// Source: apache/rocketmq `MessageConst.java` (PROPERTY_DLQ_ORIGIN_TOPIC, PROPERTY_DLQ_ORIGIN_MESSAGE_ID), and
    /// `proxy/.../GrpcConverter.java` (which makes field 20 of them).
    #[must_use]
    pub fn dead_letter(&self, topic: &Topic) -> Self {
        self.moved(topic).unwrap_or_else(|| self.clone())
    }

    /// The topic that a dead letter was sent to first; `None` of what is none.
    pub fn origin_topic(&self) -> Option<&str> {
        let properties = wire::fields(&self.body_part).map_while(Result::ok);
        let mut entries = properties.filter_map(|it| match it {
            Field { number: field::USER_PROPERTY, value: Value::Bytes(entry) } => Some(entry),
            Field { .. } => None,
        });
        let entry = entries.find(|entry| text(entry, field::FIRST) == Some(ORIGIN_TOPIC))?;
        text(entry, field::SECOND).filter(|topic| !topic.is_empty())
    }

    /// A dead letter as it was before it was one, for this topic. `None` of what no proxy wrote.
    pub fn revived(&self, topic: &Topic) -> Option<Self> {
        let body_part = self.with_topic(topic, &[])?;
        let mut properties_part = Vec::with_capacity(self.properties_part.len());
        for property in wire::fields(&self.properties_part) {
            match property.ok()? {
                Field { number: field::DEAD_LETTER_QUEUE, .. } => {}
                Field { number, value: Value::Bytes(bytes) } => put(&mut properties_part, number, bytes),
                Field { number, value: Value::Number(value) } => {
                    put_varint(&mut properties_part, u64::from(number) << 3);
                    put_varint(&mut properties_part, value);
                }
            }
        }
        Some(Self { body_part, properties_part: properties_part.into() })
    }

    fn moved(&self, topic: &Topic) -> Option<Self> {
        let (_, name) = self.topic()?;
        let id = self.message_id().unwrap_or_default();
        if let Some(origin) = self.origin_topic() {
            let known = [(ORIGIN_TOPIC, origin), (ORIGIN_MESSAGE_ID, id)];
            let body_part = self.with_topic(topic, &known)?;
            return Some(Self { body_part, properties_part: self.properties_part.clone() });
        }
        let body_part = self.with_topic(topic, &[(ORIGIN_TOPIC, name), (ORIGIN_MESSAGE_ID, id)])?;
        let mut queue = Vec::new();
        put_text(&mut queue, field::FIRST, name);
        put_text(&mut queue, field::SECOND, id);
        let mut properties_part = self.properties_part.to_vec();
        put(&mut properties_part, field::DEAD_LETTER_QUEUE, &queue);
        Some(Self { body_part, properties_part: Bytes::from(properties_part) })
    }

    /// Body and user properties under another topic, with these origins instead of those it had.
    fn with_topic(&self, topic: &Topic, origins: &[(&str, &str)]) -> Option<Bytes> {
        self.topic()?;
        let mut part = Vec::with_capacity(self.body_part.len() + 256);
        let mut resource = Vec::new();
        put_text(&mut resource, field::FIRST, topic.namespace());
        put_text(&mut resource, field::SECOND, topic.name());
        put(&mut part, field::TOPIC, &resource);
        let mut body = None;
        for field in wire::fields(&self.body_part) {
            match field.ok()? {
                Field { number: field::TOPIC, value: Value::Bytes(_) } => {}
                Field { number: field::USER_PROPERTY, value: Value::Bytes(entry) } => {
                    if !matches!(text(entry, field::FIRST), Some(ORIGIN_TOPIC | ORIGIN_MESSAGE_ID)) {
                        put(&mut part, field::USER_PROPERTY, entry);
                    }
                }
                Field { number: field::BODY, value: Value::Bytes(bytes) } => body = Some(bytes),
                Field { .. } => return None,
            }
        }
        for (key, value) in origins {
            let mut entry = Vec::new();
            put_text(&mut entry, field::FIRST, key);
            put_text(&mut entry, field::SECOND, value);
            put(&mut part, field::USER_PROPERTY, &entry);
        }
        put(&mut part, field::BODY, body.unwrap_or_default());
        Some(part.into())
    }
}

/// A text field; empty when there is none, `None` when it is no text.
fn text(message: &[u8], number: u32) -> Option<&str> {
    let found = wire::fields(message).map_while(Result::ok).find(|field| field.number == number);
    match found.map(|field| field.value) {
        None => Some(""),
        Some(Value::Bytes(bytes)) => std::str::from_utf8(bytes).ok(),
        Some(Value::Number(_)) => None,
    }
}

fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put(out, number, text.as_bytes());
    }
}

/// A field of bytes.
fn put(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, u64::try_from(bytes.len()).expect("memory is smaller than 2^64"));
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while let low @ 0x80.. = value {
        out.push(u8::try_from(low & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse("ns", name).unwrap()
    }

    fn message() -> StoredMessage {
        let (mut body_part, mut resource, mut entry) = (Vec::new(), Vec::new(), Vec::new());
        put_text(&mut resource, 1, "ns");
        put_text(&mut resource, 2, "orders");
        put(&mut body_part, 1, &resource);
        put_text(&mut entry, 1, "k");
        put_text(&mut entry, 2, "v");
        put(&mut body_part, 2, &entry);
        put(&mut body_part, 4, &[7; 300]);
        let mut properties_part = Vec::new();
        put_text(&mut properties_part, 1, "tag");
        put_text(&mut properties_part, 3, "id-1");
        StoredMessage { body_part: body_part.into(), properties_part: properties_part.into() }
    }

    fn properties(message: &StoredMessage) -> Vec<(String, String)> {
        let entries = wire::fields(&message.body_part).map(Result::unwrap).filter(|field| field.number == 2);
        let pair = |field: Field<'_>| match field.value {
            Value::Bytes(entry) => (text(entry, 1).unwrap().to_owned(), text(entry, 2).unwrap().to_owned()),
            Value::Number(_) => unreachable!("entries are bytes"),
        };
        entries.map(pair).collect()
    }

    #[test]
    fn a_dead_letter_keeps_what_it_was_and_says_where_it_came_from() {
        let group = ConsumerGroup::parse("ns", "billing").unwrap();
        let dead = message().dead_letter(&group.dead_letter_topic());
        assert_eq!(dead.topic(), Some(("ns", "%DLQ%billing")));
        assert_eq!((dead.tag(), dead.message_id()), (Some("tag"), Some("id-1")));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let told = vec![pair("k", "v"), pair(ORIGIN_TOPIC, "orders"), pair(ORIGIN_MESSAGE_ID, "id-1")];
        assert_eq!(properties(&dead), told);
        let last = wire::fields(&dead.body_part).map(Result::unwrap).last().unwrap();
        assert_eq!(last, Field { number: 4, value: Value::Bytes(&[7; 300]) });
        let told = wire::fields(&dead.properties_part).map(Result::unwrap).find(|field| field.number == 20).unwrap();
        let Value::Bytes(queue) = told.value else { unreachable!("a message in a message") };
        assert_eq!((text(queue, 1), text(queue, 2)), (Some("orders"), Some("id-1")));
        assert_eq!(topic("%DLQ%billing").dead_letters_of(), Some("billing"));
        assert_eq!(topic("orders").dead_letters_of(), None);
    }

    #[test]
    fn the_first_origin_stays() {
        let once = message().dead_letter(&topic("%DLQ%a"));
        let twice = once.dead_letter(&topic("%DLQ%b"));
        assert_eq!(twice.topic(), Some(("ns", "%DLQ%b")));
        assert_eq!((properties(&twice), &twice.properties_part), (properties(&once), &once.properties_part));
    }

    #[test]
    fn a_dead_letter_can_be_what_it_was_again() {
        let original = message();
        let dead = original.dead_letter(&topic("%DLQ%a")).dead_letter(&topic("%DLQ%b"));
        assert_eq!((original.origin_topic(), dead.origin_topic()), (None, Some("orders")));
        assert_eq!(dead.revived(&topic("orders")), Some(original));
    }

    #[test]
    fn what_no_proxy_wrote_stays_as_it_is() {
        for body_part in [&b"rubbish"[..], b"", &[0x22, 1, b'x']] {
            let strange = StoredMessage { body_part: Bytes::from_static(body_part), properties_part: Bytes::new() };
            assert_eq!(strange.dead_letter(&topic("%DLQ%a")), strange);
            assert_eq!(strange.revived(&topic("orders")), None);
        }
    }
}
