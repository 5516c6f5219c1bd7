//! Blocks: the unit of group commit, of replication and of recovery.
//!
//! A block is a header and its records, little endian, 8-byte aligned. It knows its own place, so a misplaced or
//! recycled block never passes as valid, and the hash of the header before it, so an old tail cannot rise again
//! behind a new block.

use apogee_model::{BlockIndex, Epoch, Timestamp};
use bytes::Bytes;

use crate::codec::{crc32c, u16_at, u32_at, u64_at};

/// Bytes of a block header.
pub(crate) const HEADER: usize = 72;
/// Largest block, header included.
pub(crate) const BLOCK_MAX: usize = 8 << 20;

const MAGIC: u16 = 0xA906;
const FORMAT: u16 = 1;
const CRC_AT: usize = 20;
/// Where a header says which position its block has.
pub(crate) const LSN_AT: usize = 48;

/// Byte position in the CommitLog, equal on all replicas.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Lsn(pub(crate) u64);

/// What a block carries.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum BlockKind {
    Records,
    /// The first entry of a new leader.
    Blank,
    /// Who belongs to the replica group from here on.
    Membership,
    /// Fills a segment to its end; not an entry of its own, its index is that of the block before.
    Filler,
}

/// Everything in a block header that is not derived from its bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: BlockKind,
    pub(crate) records: u32,
    pub(crate) total_len: usize,
    /// Hash of the header before this block; 0 for the first.
    pub(crate) previous: u32,
    pub(crate) term: Epoch,
    pub(crate) leader: u64,
    pub(crate) index: BlockIndex,
    pub(crate) lsn: Lsn,
    /// Highest index known to be committed when this block was written.
    pub(crate) commit: BlockIndex,
    pub(crate) log_time: Timestamp,
}

/// Why bytes at a position are not a block.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NotABlock {
    #[error("nothing was written here")]
    Empty,
    #[error("the bytes are not a block header")]
    Magic,
    #[error("block format {0} is unknown")]
    Format(u16),
    #[error("block kind {0} is unknown")]
    Kind(u16),
    #[error("a length of {0} bytes is impossible")]
    Length(u32),
    #[error("the block belongs to position {0:?}")]
    Misplaced(Lsn),
    #[error("the block does not follow the one before it")]
    Previous,
    #[error("checksum mismatch")]
    Checksum,
}

impl Header {
    /// Writes the header into the first [`HEADER`] bytes of `block` and the checksum over all of it; returns the
    /// hash that the next block names.
    pub(crate) fn seal(&self, block: &mut [u8]) -> u32 {
        assert_eq!(block.len(), self.total_len, "a header describes its own block");
        block[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        block[2..4].copy_from_slice(&FORMAT.to_le_bytes());
        block[4..6].copy_from_slice(&kind_code(self.kind).to_le_bytes());
        block[6..8].copy_from_slice(&[0; 2]);
        block[8..12].copy_from_slice(&self.records.to_le_bytes());
        let total_len = u32::try_from(self.total_len).expect("blocks are at most BLOCK_MAX");
        block[12..16].copy_from_slice(&total_len.to_le_bytes());
        block[16..20].copy_from_slice(&self.previous.to_le_bytes());
        block[24..32].copy_from_slice(&self.term.0.to_le_bytes());
        block[32..40].copy_from_slice(&self.leader.to_le_bytes());
        block[40..48].copy_from_slice(&self.index.0.to_le_bytes());
        block[48..56].copy_from_slice(&self.lsn.0.to_le_bytes());
        block[56..64].copy_from_slice(&self.commit.0.to_le_bytes());
        block[64..72].copy_from_slice(&self.log_time.0.to_le_bytes());
        let crc = checksum(block);
        block[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        crc32c(&[&block[..HEADER]])
    }

    /// Reads the header at `lsn`; `bytes` starts there. Checks everything but the checksum and the chain.
    pub(crate) fn read(bytes: &[u8], lsn: Lsn) -> Result<Self, NotABlock> {
        let head = bytes.get(..HEADER).ok_or(NotABlock::Empty)?;
        match u16_at(head, 0) {
            MAGIC => {}
            0 if head.iter().all(|byte| *byte == 0) => return Err(NotABlock::Empty),
            _ => return Err(NotABlock::Magic),
        }
        if u16_at(head, 2) != FORMAT {
            return Err(NotABlock::Format(u16_at(head, 2)));
        }
        let kind = match u16_at(head, 4) {
            1 => BlockKind::Records,
            2 => BlockKind::Blank,
            3 => BlockKind::Membership,
            4 => BlockKind::Filler,
            other => return Err(NotABlock::Kind(other)),
        };
        let total_len = u32_at(head, 12);
        let len = usize::try_from(total_len).map_err(|_| NotABlock::Length(total_len))?;
        if !(HEADER..=BLOCK_MAX).contains(&len) || !len.is_multiple_of(8) {
            return Err(NotABlock::Length(total_len));
        }
        if u64_at(head, LSN_AT) != lsn.0 {
            return Err(NotABlock::Misplaced(Lsn(u64_at(head, LSN_AT))));
        }
        Ok(Self {
            kind,
            records: u32_at(head, 8),
            total_len: len,
            previous: u32_at(head, 16),
            term: Epoch(u64_at(head, 24)),
            leader: u64_at(head, 32),
            index: BlockIndex(u64_at(head, 40)),
            lsn,
            commit: BlockIndex(u64_at(head, 56)),
            log_time: Timestamp(u64_at(head, 64)),
        })
    }
}

/// A block that passed every check that can be made without its neighbours.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) header: Header,
    /// All bytes, header included.
    pub(crate) bytes: Bytes,
    /// The hash that the next block names.
    pub(crate) hash: u32,
}

impl Block {
    /// Reads the whole block at the start of `bytes`.
    pub(crate) fn read(bytes: &Bytes, lsn: Lsn) -> Result<Self, NotABlock> {
        let header = Header::read(bytes, lsn)?;
        if bytes.len() < header.total_len {
            return Err(NotABlock::Length(u32_at(bytes, 12)));
        }
        let bytes = bytes.slice(..header.total_len);
        if checksum(&bytes) != u32_at(&bytes, CRC_AT) {
            return Err(NotABlock::Checksum);
        }
        Ok(Self { header, hash: crc32c(&[&bytes[..HEADER]]), bytes })
    }

    /// A whole block that this process sealed or checked before.
    pub(crate) fn trusted(bytes: Bytes) -> Option<Self> {
        let lsn = Lsn(u64_at(bytes.get(..HEADER)?, LSN_AT));
        let header = Header::read(&bytes, lsn).ok()?;
        Some(Self { header, hash: crc32c(&[&bytes[..HEADER]]), bytes })
    }
}

fn checksum(block: &[u8]) -> u32 {
    crc32c(&[&block[..CRC_AT], &block[CRC_AT + 4..]])
}

fn kind_code(kind: BlockKind) -> u16 {
    match kind {
        BlockKind::Records => 1,
        BlockKind::Blank => 2,
        BlockKind::Membership => 3,
        BlockKind::Filler => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> (Header, Vec<u8>, u32) {
        let header = Header {
            kind: BlockKind::Records,
            records: 1,
            total_len: HEADER + 8,
            previous: 0x0102_0304,
            term: Epoch(1),
            leader: 0,
            index: BlockIndex(7),
            lsn: Lsn(4096),
            commit: BlockIndex(6),
            log_time: Timestamp(1_767_225_600_000),
        };
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(b"8 bytes!");
        let hash = header.seal(&mut bytes);
        (header, bytes, hash)
    }

    #[test]
    fn golden_bytes() {
        let (_, bytes, _) = sample();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "06a9010001000000010000005000000004030201368e8ca501000000000000000000000000000000",
                "07000000000000000010000000000000060000000000000000a8da769b0100003820627974657321"
            )
        );
    }

    #[test]
    fn round_trip() {
        let (header, bytes, hash) = sample();
        let block = Block::read(&Bytes::from(bytes), Lsn(4096)).unwrap();
        assert_eq!((block.header, block.hash), (header, hash));
    }

    #[test]
    fn a_block_knows_its_place() {
        let (_, bytes, _) = sample();
        assert_eq!(Block::read(&Bytes::from(bytes), Lsn(0)).unwrap_err(), NotABlock::Misplaced(Lsn(4096)));
        assert_eq!(Block::read(&Bytes::from(vec![0; 100]), Lsn(0)).unwrap_err(), NotABlock::Empty);
    }

    proptest! {
        #[test]
        fn no_flipped_bit_passes(bit in 0usize..(HEADER + 8) * 8) {
            let (_, mut bytes, _) = sample();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Block::read(&Bytes::from(bytes), Lsn(4096)).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Block::read(&Bytes::from(bytes), Lsn(0)).is_err());
        }
    }
}
