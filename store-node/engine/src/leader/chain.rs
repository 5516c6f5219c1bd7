//! The log of a test: makes blocks of what a leader proposes.

use apogee_model::{BlockIndex, Epoch};
use bytes::Bytes;

use super::Draft;
use crate::block::{Block, BlockKind, Header, Lsn};

/// Where the log ends.
#[derive(Debug, Default)]
pub(super) struct Chain {
    index: u64,
    pub(super) end: u64,
    hash: u32,
}

impl Chain {
    /// The next block, of this epoch.
    pub(super) fn seal(&mut self, epoch: u64, mut draft: Draft) -> Block {
        self.index += 1;
        let header = Header {
            kind: BlockKind::Records,
            records: draft.records,
            total_len: draft.bytes.len(),
            previous: self.hash,
            term: Epoch(epoch),
            leader: 0,
            index: BlockIndex(self.index),
            lsn: Lsn(self.end),
            commit: BlockIndex(self.index - 1),
            log_time: draft.log_time,
        };
        self.hash = header.seal(&mut draft.bytes);
        self.end += u64::try_from(draft.bytes.len()).expect("a small block");
        Block::read(&Bytes::from(draft.bytes), header.lsn).expect("it was sealed just now")
    }
}
