//! Rows of the index by key: under what a message can be found. What cannot be read gives `None`.

use apogee_model::{Timestamp, TopicId};

use crate::block::Lsn;
use crate::codec::Reader;

const VERSION: u8 = 1;
const KEY: usize = 20;

/// One key of one message. The newest message of a key comes first.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct KeyOf {
    pub(crate) topic: TopicId,
    /// Of the key's text.
    pub(crate) hash: u64,
    /// The complement of where the record is.
    back: u64,
}

/// How to read the message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeyRow {
    /// Bytes of the record.
    pub(crate) len: u32,
    pub(crate) stored_at: Timestamp,
}

impl KeyOf {
    pub(crate) fn new(topic: TopicId, hash: u64, lsn: Lsn) -> Self {
        Self { topic, hash, back: !lsn.0 }
    }

    /// Where the record is.
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(!self.back)
    }

    pub(crate) fn encode(&self) -> [u8; KEY] {
        let mut key = [0; KEY];
        key[..4].copy_from_slice(&self.topic.0.to_be_bytes());
        key[4..12].copy_from_slice(&self.hash.to_be_bytes());
        key[12..].copy_from_slice(&self.back.to_be_bytes());
        key
    }

    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY] = key.try_into().ok()?;
        let number = |at: usize| u64::from_be_bytes(key[at..at + 8].try_into().expect("eight bytes"));
        let topic = u32::from_be_bytes(key[..4].try_into().expect("four bytes"));
        Some(Self { topic: TopicId(topic), hash: number(4), back: number(12) })
    }
}

impl KeyRow {
    pub(crate) const LEN: usize = 13;

    pub(crate) fn encode(&self, row: &mut Vec<u8>) {
        row.push(VERSION);
        row.extend_from_slice(&self.len.to_le_bytes());
        row.extend_from_slice(&self.stored_at.0.to_le_bytes());
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut rest = Reader::new(row);
        if row.len() != Self::LEN || rest.u8()? != VERSION {
            return None;
        }
        Some(Self { len: rest.u32()?, stored_at: Timestamp(rest.u64()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let of = KeyOf::new(TopicId(2), 0x0102_0304_0506_0708, Lsn(4096));
        assert_eq!(hex(&of.encode()), "000000020102030405060708ffffffffffffefff");
        assert_eq!(KeyOf::decode(&of.encode()), Some(of));
        assert_eq!((of.lsn(), KeyOf::decode(&of.encode()[1..])), (Lsn(4096), None));
        let mut bytes = Vec::new();
        let row = KeyRow { len: 80, stored_at: Timestamp(5) };
        row.encode(&mut bytes);
        assert_eq!(hex(&bytes), "01500000000500000000000000");
        assert_eq!(KeyRow::decode(&bytes), Some(row));
        for len in 0..bytes.len() {
            assert_eq!(KeyRow::decode(&bytes[..len]), None);
        }
    }

    #[test]
    fn the_newest_comes_first() {
        let [old, new] = [10, 11].map(|lsn| KeyOf::new(TopicId(1), 7, Lsn(lsn)).encode());
        assert!(new < old);
    }
}
