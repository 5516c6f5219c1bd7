//! Checks the bytes of a log as they come in: whole blocks, each the one that follows the one before.

use apogee_model::{BlockIndex, Epoch};
use bytes::BytesMut;

use crate::block::{self, Block, BlockKind, Header, Lsn};
use crate::views::Position;

/// See the module. Holds the bytes of one block at most, and a piece.
pub(super) struct Chain {
    segment_bytes: u64,
    /// Where the next block begins.
    next: Lsn,
    /// Bytes from there on.
    waiting: BytesMut,
    first: Option<BlockIndex>,
    last: Option<Last>,
}

/// The last block there was.
#[derive(Copy, Clone)]
struct Last {
    index: BlockIndex,
    term: Epoch,
    hash: u32,
}

impl Chain {
    /// Of a log that begins with the segment at `first`.
    pub(super) fn new(first: Lsn, segment_bytes: u64) -> Self {
        Self { segment_bytes, next: first, waiting: BytesMut::new(), first: None, last: None }
    }

    /// Where the bytes that come next belong.
    pub(super) fn end(&self) -> Lsn {
        Lsn(self.next.0 + to_u64(self.waiting.len()))
    }

    /// The index of the first block.
    pub(super) fn first(&self) -> Option<BlockIndex> {
        self.first
    }

    /// # Errors
    /// What is wrong with the bytes, and where.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.waiting.extend_from_slice(bytes);
        while let Some(len) = self.next_len()? {
            let bytes = self.waiting.split_to(len).freeze();
            if len >= block::HEADER {
                let block = Block::read(&bytes, self.next).map_err(|why| self.wrong(&why))?;
                self.follow(&block)?;
            }
            self.next = Lsn(self.next.0 + to_u64(len));
        }
        Ok(())
    }

    /// How long the next block is, or the rest of a segment that has no room for one; `None` while it is not there.
    fn next_len(&self) -> Result<Option<usize>, String> {
        let room = self.segment_bytes - self.next.0 % self.segment_bytes;
        let room = usize::try_from(room).map_err(|why| self.wrong(&why))?;
        let len = if room < block::HEADER {
            room
        } else if self.waiting.len() < block::HEADER {
            return Ok(None);
        } else {
            Header::read(&self.waiting, self.next).map_err(|why| self.wrong(&why))?.total_len
        };
        if len > room {
            return Err(self.wrong(&"the block does not fit into its segment"));
        }
        Ok((self.waiting.len() >= len).then_some(len))
    }

    fn follow(&mut self, found: &Block) -> Result<(), String> {
        let Header { kind, index, term, previous, .. } = found.header;
        let filler = kind == BlockKind::Filler;
        if let Some(last) = self.last {
            let expected = if filler { last.index } else { BlockIndex(last.index.0 + 1) };
            if index != expected || previous != last.hash || term < last.term {
                return Err(self.wrong(&"the block does not follow the one before it"));
            }
        } else if filler {
            return Err(self.wrong(&"no log begins with a filler"));
        }
        self.first.get_or_insert(index);
        self.last = Some(Last { index, term, hash: found.hash });
        Ok(())
    }

    /// # Errors
    /// Where it ends, if that is not right behind the block of `position`.
    pub(super) fn check_end(&self, position: &Position) -> Result<(), String> {
        let at = self
            .last
            .is_some_and(|last| (last.index, last.term, last.hash) == (position.index, position.term, position.hash));
        if at && self.waiting.is_empty() && self.next == position.end {
            return Ok(());
        }
        let index = self.last.map_or(BlockIndex(0), |last| last.index);
        let (end, wanted) = (self.end().0, position.end.0);
        Err(format!("the log ends with block {index} at {end}, the base is at block {} at {wanted}", position.index))
    }

    fn wrong(&self, why: &dyn std::fmt::Display) -> String {
        format!("at position {}: {why}", self.next.0)
    }
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).expect("lengths fit into 64 bits")
}

#[cfg(test)]
mod tests {
    use apogee_model::Timestamp;
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::commitlog::{Entry, Layout};

    const SEGMENT: u64 = 4096;

    /// A log of blocks with bodies of these sizes, and where it ends.
    fn log(bodies: &[usize]) -> (Vec<u8>, Position) {
        let mut layout = Layout::new(SEGMENT);
        let mut bytes = Vec::new();
        for body in bodies {
            let entry = Entry {
                kind: BlockKind::Records,
                index: BlockIndex(layout.index.0 + 1),
                term: Epoch(1),
                records: 0,
                log_time: Timestamp(0),
            };
            let (filler, sealed) = layout.seal(entry, Bytes::from(vec![7; block::HEADER + body]), BlockIndex(0));
            for placed in filler.into_iter().chain([sealed]) {
                bytes.resize(usize::try_from(placed.header.lsn.0).unwrap(), 0);
                bytes.extend_from_slice(&placed.bytes);
            }
        }
        let Layout { index, term, end, previous: hash, .. } = layout;
        (bytes, Position { index, term, end, hash, ..Position::default() })
    }

    fn taken(bytes: &[u8], piece: usize, position: &Position) -> Result<(), String> {
        let mut chain = Chain::new(Lsn(0), SEGMENT);
        for piece in bytes.chunks(piece) {
            chain.feed(piece)?;
        }
        chain.check_end(position)
    }

    #[test]
    fn a_segment_that_is_missing_is_noticed() {
        let (bytes, position) = log(&[1600; 9]);
        let without: Vec<u8> =
            bytes.chunks(4096).enumerate().filter(|(n, _)| *n != 1).flat_map(|(_, it)| it.to_vec()).collect();
        assert!(taken(&without, 512, &position).unwrap_err().contains("at position 4096: "));
        assert!(taken(&bytes[..bytes.len() - 8], 512, &position).unwrap_err().contains("the log ends with block 8"));
        let mut late = Chain::new(Lsn(4096), SEGMENT);
        late.feed(&bytes[4096..]).unwrap();
        assert_eq!((late.first(), late.check_end(&position)), (Some(BlockIndex(3)), Ok(())));
    }

    proptest! {
        #[test]
        fn a_sound_log_is_taken_and_no_flipped_bit(
            bodies in proptest::collection::vec((0usize..250).prop_map(|words| words * 8), 1..30),
            piece in 1usize..5000,
            bit in any::<proptest::sample::Index>(),
        ) {
            let (mut bytes, position) = log(&bodies);
            prop_assert_eq!(taken(&bytes, piece, &position), Ok(()));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let at = u64::try_from(bit / 8).unwrap();
            let room_behind = SEGMENT - at % SEGMENT <= 72;
            prop_assert!(room_behind || taken(&bytes, piece, &position).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _maybe = Chain::new(Lsn(0), SEGMENT).feed(&bytes);
        }
    }
}
