//! Rows of the ConsumeQueue.

use apogee_model::{QueueId, QueueOffset, Timestamp, TopicId};

use crate::block::Lsn;
use crate::codec::{u16_at, u32_at, u64_at};

const VERSION: u8 = 1;
/// Of a message that entered its queue later than it was written.
const VERSION_LATE: u8 = 2;

/// Where the message of a queue offset is, and what a consumer's filter asks first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) lsn: Lsn,
    /// Bytes of the record.
    pub(crate) len: u32,
    pub(crate) tag_hash: u32,
    /// Hash of the message group, 0 for none.
    pub(crate) group_hash: u32,
    pub(crate) stored_at: Timestamp,
    pub(crate) flags: u16,
    /// Where the record is that let it into the queue: its own, or a later one. The order of the queue.
    pub(crate) visible: Lsn,
}

impl Place {
    pub(crate) const LEN: usize = 29;
    const LEN_LATE: usize = Self::LEN + 8;

    pub(crate) fn encode(&self, row: &mut Vec<u8>) {
        let late = self.visible != self.lsn;
        row.push(if late { VERSION_LATE } else { VERSION });
        row.extend_from_slice(&self.lsn.0.to_le_bytes());
        row.extend_from_slice(&self.len.to_le_bytes());
        row.extend_from_slice(&self.tag_hash.to_le_bytes());
        row.extend_from_slice(&self.group_hash.to_le_bytes());
        row.extend_from_slice(&self.stored_at.0.to_le_bytes()[..6]);
        row.extend_from_slice(&self.flags.to_le_bytes());
        if late {
            row.extend_from_slice(&self.visible.0.to_le_bytes());
        }
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let visible = match (row.first()?, row.len()) {
            (&VERSION, Self::LEN) => Lsn(u64_at(row, 1)),
            (&VERSION_LATE, Self::LEN_LATE) => Lsn(u64_at(row, Self::LEN)),
            _ => return None,
        };
        let mut stored_at = [0; 8];
        stored_at[..6].copy_from_slice(&row[21..27]);
        Some(Self {
            lsn: Lsn(u64_at(row, 1)),
            len: u32_at(row, 9),
            tag_hash: u32_at(row, 13),
            group_hash: u32_at(row, 17),
            stored_at: Timestamp(u64::from_le_bytes(stored_at)),
            flags: u16_at(row, 27),
            visible,
        })
    }
}

/// Key of a row of [`super::Table::ConsumeQueue`].
pub(crate) fn consume_queue_key(topic: TopicId, queue: QueueId, offset: QueueOffset) -> [u8; 14] {
    let mut key = [0; 14];
    key[..4].copy_from_slice(&topic.0.to_be_bytes());
    key[4..6].copy_from_slice(&queue.0.to_be_bytes());
    key[6..].copy_from_slice(&offset.0.to_be_bytes());
    key
}

/// The queue offset in a key of [`super::Table::ConsumeQueue`]; `None` for bytes that are none.
pub(crate) fn offset_of_key(key: &[u8]) -> Option<QueueOffset> {
    let key: &[u8; 14] = key.try_into().ok()?;
    let (_, offset) = key.split_last_chunk().expect("fourteen bytes end in eight");
    Some(QueueOffset(u64::from_be_bytes(*offset)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let place = Place {
            lsn: Lsn(4096),
            len: 80,
            tag_hash: 0x0102_0304,
            group_hash: 5,
            stored_at: Timestamp(1_767_225_600_000),
            flags: 6,
            visible: Lsn(4096),
        };
        let mut row = Vec::new();
        place.encode(&mut row);
        let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "01001000000000000050000000040302010500000000a8da769b010600");
        assert_eq!(Place::decode(&row), Some(place));
        let late = Place { visible: Lsn(8192), ..place };
        let mut row = Vec::new();
        late.encode(&mut row);
        let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "02001000000000000050000000040302010500000000a8da769b0106000020000000000000");
        assert_eq!(Place::decode(&row), Some(late));
        let key = consume_queue_key(TopicId(1), QueueId(2), QueueOffset(3));
        assert_eq!(key, [0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(offset_of_key(&key), Some(QueueOffset(3)));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _maybe = Place::decode(&bytes);
            prop_assert_eq!(offset_of_key(&bytes).is_some(), bytes.len() == 14);
        }
    }
}
