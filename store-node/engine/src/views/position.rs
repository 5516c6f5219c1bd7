//! The position of the log that views are at.

use apogee_model::{BlockIndex, DeliverySeq, Epoch, Timestamp};
use bytes::Bytes;

use crate::block::Lsn;
use crate::codec::Reader;

const VERSION: u8 = 1;

/// What is known of the log at its block `index`: enough to go on from there without the blocks before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Position {
    pub(crate) index: BlockIndex,
    pub(crate) term: Epoch,
    /// Where the block ends.
    pub(crate) end: Lsn,
    /// The hash that the next block names, on the replica that wrote this block.
    pub(crate) hash: u32,
    pub(crate) log_time: Timestamp,
    pub(crate) next_delivery: DeliverySeq,
    /// The newest membership block up to here.
    pub(crate) membership: Option<Membership>,
}

/// A block that says who belongs to the replica group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Membership {
    pub(crate) term: Epoch,
    pub(crate) index: BlockIndex,
    /// Everything behind the block's header.
    pub(crate) bytes: Bytes,
}

impl Default for Position {
    /// The start of the log.
    fn default() -> Self {
        Self {
            index: BlockIndex(0),
            term: Epoch(0),
            end: Lsn(0),
            hash: 0,
            log_time: Timestamp(0),
            next_delivery: DeliverySeq(1),
            membership: None,
        }
    }
}

impl Position {
    pub(crate) fn encode(&self, row: &mut Vec<u8>) {
        row.push(VERSION);
        for number in [self.index.0, self.term.0, self.end.0] {
            row.extend_from_slice(&number.to_le_bytes());
        }
        row.extend_from_slice(&self.hash.to_le_bytes());
        for number in [self.log_time.0, self.next_delivery.0] {
            row.extend_from_slice(&number.to_le_bytes());
        }
        row.push(u8::from(self.membership.is_some()));
        if let Some(Membership { term, index, bytes }) = &self.membership {
            row.extend_from_slice(&term.0.to_le_bytes());
            row.extend_from_slice(&index.0.to_le_bytes());
            row.extend_from_slice(bytes);
        }
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let mut rest = Reader::new(row);
        if rest.u8()? != VERSION {
            return None;
        }
        let mut position = Self {
            index: BlockIndex(rest.u64()?),
            term: Epoch(rest.u64()?),
            end: Lsn(rest.u64()?),
            hash: rest.u32()?,
            log_time: Timestamp(rest.u64()?),
            next_delivery: DeliverySeq(rest.u64()?),
            membership: None,
        };
        const FIXED: usize = 1 + 3 * 8 + 4 + 2 * 8 + 1;
        match rest.u8()? {
            0 => (row.len() == FIXED).then_some(position),
            1 => {
                let (term, index) = (Epoch(rest.u64()?), BlockIndex(rest.u64()?));
                let bytes = Bytes::copy_from_slice(row.get(FIXED + 16..)?);
                position.membership = Some(Membership { term, index, bytes });
                Some(position)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Position {
        Position {
            index: BlockIndex(7),
            term: Epoch(2),
            end: Lsn(4096),
            hash: 0x0102_0304,
            log_time: Timestamp(1_767_225_600_000),
            next_delivery: DeliverySeq(9),
            membership: Some(Membership { term: Epoch(1), index: BlockIndex(3), bytes: Bytes::from_static(b"abc") }),
        }
    }

    fn encoded(position: &Position) -> Vec<u8> {
        let mut row = Vec::new();
        position.encode(&mut row);
        row
    }

    #[test]
    fn golden_bytes() {
        let hex: String = encoded(&sample()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "01070000000000000002000000000000000010000000000000",
                "0403020100a8da769b010000090000000000000001",
                "01000000000000000300000000000000616263"
            )
        );
    }

    #[test]
    fn round_trip() {
        for position in [sample(), Position::default()] {
            assert_eq!(Position::decode(&encoded(&position)), Some(position));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _maybe = Position::decode(&bytes);
            let mut versioned = bytes;
            versioned.insert(0, VERSION);
            let _maybe = Position::decode(&versioned);
        }
    }
}
