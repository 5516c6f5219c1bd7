//! Gives blocks their place: position, the hash of the header before. Pure; the writer does the rest.
//!
//! The same entries get the same places on every replica, because places depend on nothing but the entries before.

use apogee_model::{BlockIndex, Epoch, Timestamp};
use bytes::{Bytes, BytesMut};

use crate::block::{self, BlockKind, Header, Lsn};

/// What an entry says of itself, before it has a place.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: BlockKind,
    pub(crate) index: BlockIndex,
    pub(crate) term: Epoch,
    pub(crate) records: u32,
    pub(crate) log_time: Timestamp,
}

/// A block with its place, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) header: Header,
    pub(crate) bytes: Bytes,
}

/// The end of the log.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) segment_bytes: u64,
    /// Term and index of the last block.
    pub(crate) term: Epoch,
    pub(crate) index: BlockIndex,
    /// Log time of the last block.
    pub(crate) log_time: Timestamp,
    /// Where the next block goes.
    pub(crate) end: Lsn,
    /// Hash of the last header.
    pub(crate) previous: u32,
    /// Which proposal of the leader of its term the last one of ours was; not on disk.
    pub(crate) proposal: u64,
}

impl Layout {
    /// An empty log.
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self {
            segment_bytes,
            term: Epoch(0),
            index: BlockIndex(0),
            log_time: Timestamp(0),
            end: Lsn(0),
            previous: 0,
            proposal: 0,
        }
    }

    /// Places an entry at the end of the log, after a filler when the segment has no room for it. `bytes` has room for
    /// the header in front of the records; it is copied only when somebody else holds it too.
    pub(crate) fn seal(&mut self, entry: Entry, bytes: Bytes, commit: BlockIndex) -> (Option<Sealed>, Sealed) {
        assert_eq!(entry.index.0, self.index.0 + 1, "entries are appended in order");
        let filler = self.fill(bytes.len(), commit);
        (self.index, self.term, self.log_time) = (entry.index, entry.term, entry.log_time.max(self.log_time));
        let header = self.header(entry.kind, entry.records, bytes.len(), commit);
        (filler, self.place(header, BytesMut::from(bytes)))
    }

    /// Ends the segment when `len` bytes do not fit into it any more.
    fn fill(&mut self, len: usize, commit: BlockIndex) -> Option<Sealed> {
        let used = self.end.0 % self.segment_bytes;
        let room = usize::try_from(self.segment_bytes - used).expect("segments fit into memory");
        if len <= room {
            return None;
        }
        if room < block::HEADER {
            self.end = Lsn(self.end.0 + to_u64(room));
            return None;
        }
        // The rest of a segment is zero already: only the header is written.
        let header = self.header(BlockKind::Filler, 0, room, commit);
        let mut sealed = self.place(header, BytesMut::zeroed(room));
        sealed.bytes.truncate(block::HEADER);
        Some(sealed)
    }

    fn header(&self, kind: BlockKind, records: u32, len: usize, commit: BlockIndex) -> Header {
        Header {
            kind,
            records,
            total_len: len,
            previous: self.previous,
            term: self.term,
            leader: 0,
            index: self.index,
            lsn: self.end,
            commit,
            log_time: self.log_time,
        }
    }

    fn place(&mut self, header: Header, mut bytes: BytesMut) -> Sealed {
        assert!(
            header.kind == BlockKind::Filler || header.total_len <= block::BLOCK_MAX,
            "a larger block could not be read back"
        );
        self.previous = header.seal(&mut bytes);
        self.end = Lsn(self.end.0 + to_u64(header.total_len));
        Sealed { header, bytes: bytes.freeze() }
    }
}

pub(crate) fn to_u64(len: usize) -> u64 {
    u64::try_from(len).expect("lengths fit into 64 bits")
}
