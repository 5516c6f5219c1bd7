//! Keys and values of [`super::Table::Lite`]. What cannot be read gives `None`.

use apogee_model::{GroupId, Timestamp, TopicId};

use crate::codec::{Reader, put_text};

const VERSION: u8 = 1;

/// What a row is about.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum LiteKey {
    /// The id that the next lite topic gets.
    Next,
    Topic(TopicId),
    /// How long the lite topics of a topic outlive their last message.
    Expiry(TopicId),
    /// A client of a group, by the hash of its id.
    Client(GroupId, u64),
    Subscription(GroupId, u64, TopicId),
}

/// A lite topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LiteRow {
    pub(crate) parent: TopicId,
    pub(crate) name: Box<str>,
    /// When it got its last message, or began.
    pub(crate) written: Timestamp,
}

/// A client that is subscribed to lite topics of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LiteClient {
    pub(crate) parent: TopicId,
    pub(crate) id: Box<str>,
}

const NEXT: u8 = 0;
const TOPIC: u8 = 1;
const EXPIRY: u8 = 2;
const CLIENT: u8 = 3;
const SUBSCRIPTION: u8 = 4;

impl LiteKey {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut key = Vec::with_capacity(17);
        match self {
            Self::Next => key.push(NEXT),
            Self::Topic(id) => put(&mut key, TOPIC, id.0),
            Self::Expiry(parent) => put(&mut key, EXPIRY, parent.0),
            Self::Client(group, client) => {
                put(&mut key, CLIENT, group.0);
                key.extend_from_slice(&client.to_be_bytes());
            }
            Self::Subscription(group, client, id) => {
                put(&mut key, SUBSCRIPTION, group.0);
                key.extend_from_slice(&client.to_be_bytes());
                key.extend_from_slice(&id.0.to_be_bytes());
            }
        }
        key
    }

    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        let be32 = |at: usize| Some(u32::from_be_bytes(rest.get(at..at + 4)?.try_into().ok()?));
        let be64 = |at: usize| Some(u64::from_be_bytes(rest.get(at..at + 8)?.try_into().ok()?));
        match (*kind, rest.len()) {
            (NEXT, 0) => Some(Self::Next),
            (TOPIC, 4) => Some(Self::Topic(TopicId(be32(0)?))),
            (EXPIRY, 4) => Some(Self::Expiry(TopicId(be32(0)?))),
            (CLIENT, 12) => Some(Self::Client(GroupId(be32(0)?), be64(4)?)),
            (SUBSCRIPTION, 16) => Some(Self::Subscription(GroupId(be32(0)?), be64(4)?, TopicId(be32(12)?))),
            _ => None,
        }
    }
}

fn put(key: &mut Vec<u8>, kind: u8, id: u32) {
    key.push(kind);
    key.extend_from_slice(&id.to_be_bytes());
}

impl LiteRow {
    pub(crate) fn encode(&self, row: &mut Vec<u8>) {
        row.push(VERSION);
        row.extend_from_slice(&self.parent.0.to_le_bytes());
        row.extend_from_slice(&self.written.0.to_le_bytes());
        put_text(row, &self.name);
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut rest = versioned(row)?;
        let (parent, written, name) = (TopicId(rest.u32()?), Timestamp(rest.u64()?), rest.text()?.into());
        (rest.left() == 0).then_some(Self { parent, name, written })
    }
}

impl LiteClient {
    pub(crate) fn encode(&self, row: &mut Vec<u8>) {
        row.push(VERSION);
        row.extend_from_slice(&self.parent.0.to_le_bytes());
        put_text(row, &self.id);
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut rest = versioned(row)?;
        let (parent, id) = (TopicId(rest.u32()?), rest.text()?.into());
        (rest.left() == 0).then_some(Self { parent, id })
    }
}

/// A row of a number: what a topic's expiry is in milliseconds, or the next id.
pub(crate) fn put_number(row: &mut Vec<u8>, number: u64) {
    row.push(VERSION);
    row.extend_from_slice(&number.to_le_bytes());
}

pub(crate) fn number(row: &[u8]) -> Option<u64> {
    let mut rest = versioned(row)?;
    rest.u64().filter(|_| rest.left() == 0)
}

/// A row that is there and says nothing more.
pub(crate) fn put_nothing(row: &mut Vec<u8>) {
    row.push(VERSION);
}

pub(crate) fn nothing(row: &[u8]) -> Option<()> {
    (row == [VERSION]).then_some(())
}

fn versioned(row: &[u8]) -> Option<Reader<'_>> {
    let mut rest = Reader::new(row);
    (rest.u8()? == VERSION).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_keys() {
        let (group, client, id) = (GroupId(3), 0x0102_0304_0506_0708, TopicId(0x8000_0001));
        let all = [
            (LiteKey::Next, "00"),
            (LiteKey::Topic(id), "0180000001"),
            (LiteKey::Expiry(TopicId(2)), "0200000002"),
            (LiteKey::Client(group, client), "03000000030102030405060708"),
            (LiteKey::Subscription(group, client, id), "0400000003010203040506070880000001"),
        ];
        for (key, golden) in all {
            assert_eq!(hex(&key.encode()), golden);
            assert_eq!(LiteKey::decode(&key.encode()), Some(key));
        }
        assert_eq!([&[][..], &[9], &[0, 0], &[1, 2]].map(LiteKey::decode), [None; 4]);
    }

    #[test]
    fn golden_rows() {
        let (mut row, mut client, mut seven) = (Vec::new(), Vec::new(), Vec::new());
        let topic = LiteRow { parent: TopicId(2), name: "s-1".into(), written: Timestamp(5) };
        topic.encode(&mut row);
        assert_eq!(hex(&row), "010200000005000000000000000300732d31");
        assert_eq!(LiteRow::decode(&row), Some(topic));
        let it = LiteClient { parent: TopicId(2), id: "h@1".into() };
        it.encode(&mut client);
        assert_eq!((hex(&client), LiteClient::decode(&client)), ("01020000000300684031".to_owned(), Some(it)));
        put_number(&mut seven, 7);
        assert_eq!((number(&seven), number(&row), nothing(&[1]), nothing(&[2])), (Some(7), None, Some(()), None));
        for len in 0..row.len() {
            assert_eq!(LiteRow::decode(&row[..len]), None);
        }
    }
}
