//! Rows about messages that are kept back. What cannot be read gives `None`.

use apogee_model::store::KeptId;
use apogee_model::{QueueId, QueueOffset, Timestamp, TopicId};

use crate::block::Lsn;
use crate::codec::Reader;

const VERSION: u8 = 1;

/// A message that waits for its time: its queue, where it is, and what its row in the queue will need.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeptRow {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) lsn: Lsn,
    /// Bytes of the record.
    pub(crate) len: u32,
    pub(crate) tag_hash: u32,
    pub(crate) group_hash: u32,
}

/// Key of a row of [`super::Table::Time`].
pub(crate) fn time_key(id: KeptId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&id.due.0.to_be_bytes());
    key[8..].copy_from_slice(&id.number.to_be_bytes());
    key
}

pub(crate) fn split_time_key(key: &[u8]) -> Option<KeptId> {
    (key.len() == 16).then_some(KeptId { due: Timestamp(be64(key, 0)?), number: be64(key, 8)? })
}

pub(crate) fn put_kept(out: &mut Vec<u8>, row: &KeptRow) {
    out.push(VERSION);
    out.extend_from_slice(&row.topic.0.to_le_bytes());
    out.extend_from_slice(&row.queue.0.to_le_bytes());
    out.extend_from_slice(&row.lsn.0.to_le_bytes());
    [row.len, row.tag_hash, row.group_hash].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

pub(crate) fn kept(row: &[u8]) -> Option<KeptRow> {
    let mut rest = versioned(row, 27)?;
    Some(KeptRow {
        topic: TopicId(rest.u32()?),
        queue: QueueId(rest.u16()?),
        lsn: Lsn(rest.u64()?),
        len: rest.u32()?,
        tag_hash: rest.u32()?,
        group_hash: rest.u32()?,
    })
}

/// A row of [`super::Table::Kept`].
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum KeptKey {
    /// How many messages were ever kept back.
    Count,
    /// A stretch of the log.
    Stretch(u64),
    Queue(TopicId, QueueId),
    /// Messages of a queue that came late, from this offset on.
    Late(TopicId, QueueId, QueueOffset),
}

/// What a row of [`super::Table::Kept`] says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum KeptValue {
    Count(u64),
    Stretch(Held),
    /// Messages that wait for their time.
    Queue(u64),
    Late(Late),
}

/// What is held in a stretch of the log by messages that wait for their time.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Held {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// Messages of a queue that point backwards in the log.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Late {
    /// They are below this offset.
    pub(crate) end: QueueOffset,
    /// Where the oldest of them is.
    pub(crate) oldest: Lsn,
    /// When the first of them came.
    pub(crate) since: Timestamp,
}

const COUNT: u8 = 1;
const STRETCH: u8 = 2;
const QUEUE: u8 = 3;
const LATE: u8 = 4;

pub(crate) fn put_key(out: &mut Vec<u8>, key: KeptKey) {
    match key {
        KeptKey::Count => out.push(COUNT),
        KeptKey::Stretch(stretch) => {
            out.push(STRETCH);
            out.extend_from_slice(&stretch.to_be_bytes());
        }
        KeptKey::Queue(topic, queue) => {
            out.push(QUEUE);
            out.extend_from_slice(&topic.0.to_be_bytes());
            out.extend_from_slice(&queue.0.to_be_bytes());
        }
        KeptKey::Late(topic, queue, first) => {
            out.push(LATE);
            out.extend_from_slice(&topic.0.to_be_bytes());
            out.extend_from_slice(&queue.0.to_be_bytes());
            out.extend_from_slice(&first.0.to_be_bytes());
        }
    }
}

pub(crate) fn put_value(out: &mut Vec<u8>, value: KeptValue) {
    out.push(VERSION);
    let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
    match value {
        KeptValue::Count(count) | KeptValue::Queue(count) => put(count),
        KeptValue::Stretch(Held { messages, bytes }) => [messages, bytes].into_iter().for_each(put),
        KeptValue::Late(Late { end, oldest, since }) => [end.0, oldest.0, since.0].into_iter().for_each(put),
    }
}

pub(crate) fn row(key: &[u8], row: &[u8]) -> Option<(KeptKey, KeptValue)> {
    let (kind, key) = key.split_first()?;
    let be16 = |at: usize| Some(u16::from_be_bytes(key.get(at..at + 2)?.try_into().ok()?));
    let be32 = |at: usize| Some(u32::from_be_bytes(key.get(at..at + 4)?.try_into().ok()?));
    Some(match (*kind, key.len()) {
        (COUNT, 0) => (KeptKey::Count, KeptValue::Count(versioned(row, 9)?.u64()?)),
        (STRETCH, 8) => {
            let mut rest = versioned(row, 17)?;
            let held = Held { messages: rest.u64()?, bytes: rest.u64()? };
            (KeptKey::Stretch(be64(key, 0)?), KeptValue::Stretch(held))
        }
        (QUEUE, 6) => {
            let key = KeptKey::Queue(TopicId(be32(0)?), QueueId(be16(4)?));
            (key, KeptValue::Queue(versioned(row, 9)?.u64()?))
        }
        (LATE, 14) => {
            let mut rest = versioned(row, 25)?;
            let late = Late { end: QueueOffset(rest.u64()?), oldest: Lsn(rest.u64()?), since: Timestamp(rest.u64()?) };
            let key = KeptKey::Late(TopicId(be32(0)?), QueueId(be16(4)?), QueueOffset(be64(key, 6)?));
            (key, KeptValue::Late(late))
        }
        _ => return None,
    })
}

fn versioned(row: &[u8], len: usize) -> Option<Reader<'_>> {
    let mut rest = Reader::new(row);
    (row.len() == len && rest.u8()? == VERSION).then_some(rest)
}

fn be64(key: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(put: impl FnOnce(&mut Vec<u8>)) -> (String, Vec<u8>) {
        let mut bytes = Vec::new();
        put(&mut bytes);
        (bytes.iter().map(|byte| format!("{byte:02x}")).collect(), bytes)
    }

    #[test]
    fn a_message_that_waits() {
        let id = KeptId { due: Timestamp(1), number: 2 };
        assert_eq!(hex(|out| out.extend_from_slice(&time_key(id))).0, "00000000000000010000000000000002");
        assert_eq!(split_time_key(&time_key(id)), Some(id));
        let row = KeptRow { topic: TopicId(1), queue: QueueId(2), lsn: Lsn(3), len: 4, tag_hash: 5, group_hash: 6 };
        let (text, bytes) = hex(|out| put_kept(out, &row));
        assert_eq!(text, "0101000000020003000000000000000400000005000000060000 00".replace(' ', ""));
        assert_eq!(kept(&bytes), Some(row));
    }

    #[test]
    fn small_rows() {
        let late = Late { end: QueueOffset(9), oldest: Lsn(8), since: Timestamp(7) };
        let all = [
            (KeptKey::Count, KeptValue::Count(5), "01", "010500000000000000"),
            (
                KeptKey::Stretch(3),
                KeptValue::Stretch(Held { messages: 1, bytes: 2 }),
                "020000000000000003",
                "0101000000000000000200000000000000",
            ),
            (KeptKey::Queue(TopicId(1), QueueId(2)), KeptValue::Queue(3), "03000000010002", "010300000000000000"),
            (
                KeptKey::Late(TopicId(1), QueueId(2), QueueOffset(3)),
                KeptValue::Late(late),
                "040000000100020000000000000003",
                "01090000000000000008000000000000000700000000000000",
            ),
        ];
        for (key, value, key_text, value_text) in all {
            let ((key_hex, key_bytes), (value_hex, value_bytes)) =
                (hex(|out| put_key(out, key)), hex(|out| put_value(out, value)));
            assert_eq!((key_hex.as_str(), value_hex.as_str()), (key_text, value_text));
            assert_eq!(super::row(&key_bytes, &value_bytes), Some((key, value)));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(
            kind in 0u8..6,
            key in proptest::collection::vec(any::<u8>(), 0..20),
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut key_of_kind = vec![kind];
            key_of_kind.extend_from_slice(&key);
            let mut versioned = vec![VERSION];
            versioned.extend_from_slice(&bytes);
            for value in [&bytes, &versioned] {
                let _maybe = (kept(value), split_time_key(&key), row(&key, value), row(&key_of_kind, value));
            }
        }
    }
}
