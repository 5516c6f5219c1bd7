//! Gives blocks their place: index, position, the hash of the header before. Pure; the writer does the rest.

use apogee_model::{BlockIndex, Epoch, Timestamp};
use bytes::Bytes;

use crate::block::{self, BlockKind, Header, Lsn};

/// A block without its place: room for the header, then the records.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u32,
    pub(crate) log_time: Timestamp,
}

/// A block with its place, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) header: Header,
    pub(crate) bytes: Bytes,
    pub(crate) hash: u32,
}

/// The end of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Appender {
    pub(crate) segment_bytes: u64,
    pub(crate) term: Epoch,
    /// Index of the last block.
    pub(crate) index: BlockIndex,
    /// Where the next block goes.
    pub(crate) end: Lsn,
    /// Hash of the last header.
    pub(crate) previous: u32,
}

impl Appender {
    /// An empty log. Term 1: there is one voter, and it always leads.
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self { segment_bytes, term: Epoch(1), index: BlockIndex(0), end: Lsn(0), previous: 0 }
    }

    /// Places `draft` at the end of the log, after a filler when the segment has no room for it.
    pub(crate) fn seal(&mut self, draft: Draft, commit: BlockIndex) -> (Option<Sealed>, Sealed) {
        let filler = self.fill(draft.bytes.len(), commit, draft.log_time);
        self.index = BlockIndex(self.index.0 + 1);
        let header = self.header(BlockKind::Records, draft.records, draft.bytes.len(), commit, draft.log_time);
        (filler, self.place(header, draft.bytes, header.total_len))
    }

    /// Ends the segment when `len` bytes do not fit into it any more.
    fn fill(&mut self, len: usize, commit: BlockIndex, log_time: Timestamp) -> Option<Sealed> {
        let used = self.end.0 % self.segment_bytes;
        let room = usize::try_from(self.segment_bytes - used).expect("segments fit into memory");
        if len <= room {
            return None;
        }
        if room < block::HEADER {
            self.end = Lsn(self.end.0 + to_u64(room));
            return None;
        }
        let header = self.header(BlockKind::Filler, 0, room, commit, log_time);
        // The rest of a segment is zero already: only the header is written.
        Some(self.place(header, vec![0; room], block::HEADER))
    }

    fn header(&self, kind: BlockKind, records: u32, len: usize, commit: BlockIndex, log_time: Timestamp) -> Header {
        let (term, index, lsn, previous) = (self.term, self.index, self.end, self.previous);
        Header { kind, records, total_len: len, previous, term, leader: 0, index, lsn, commit, log_time }
    }

    fn place(&mut self, header: Header, mut bytes: Vec<u8>, written: usize) -> Sealed {
        assert!(header.total_len <= block::BLOCK_MAX, "a larger block could not be read back");
        let hash = header.seal(&mut bytes);
        bytes.truncate(written);
        // The block stays in memory for a while, with whatever room it has.
        if bytes.capacity() / 2 > bytes.len() {
            bytes.shrink_to_fit();
        }
        self.previous = hash;
        self.end = Lsn(self.end.0 + to_u64(header.total_len));
        Sealed { header, bytes: Bytes::from(bytes), hash }
    }
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).expect("lengths fit into 64 bits")
}
