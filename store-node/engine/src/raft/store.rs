//! The CommitLog as the log storage of openraft.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use apogee_model::BlockIndex;
use futures::stream::{self, Stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::types::{
    LogId, RaftEntry, RaftVote, Types, index_of, log_id, term_of, to_append, to_entry, vote_of_raft, vote_to_raft,
};
use crate::commitlog::{Log, Purged};

/// See the module. Clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore(pub(crate) Log);

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        let (mut from, to) = bounds(&range);
        let mut entries = Vec::new();
        loop {
            let blocks = self.0.read_blocks(from, to).await?;
            let Some(last) = blocks.last() else { return Ok(entries) };
            from = BlockIndex(last.header.index.0 + 1);
            for block in blocks {
                entries.push(to_entry(block).ok_or_else(unreadable)?);
            }
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        let blocks = self.0.read_blocks(BlockIndex(start + 1), BlockIndex(end + 1)).await?;
        blocks.into_iter().map(|block| to_entry(block).ok_or_else(unreadable)).collect()
    }

    /// Some blocks at a time, however many there are to be applied.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let rest = (self.0.clone(), from, to, Vec::new().into_iter());
        Box::pin(stream::try_unfold(rest, |(log, mut from, to, mut read)| async move {
            if read.len() == 0 {
                let blocks = log.read_blocks(from, to).await?;
                from = blocks.last().map_or(to, |last| BlockIndex(last.header.index.0 + 1));
                read = blocks.into_iter();
            }
            let Some(block) = read.next() else { return Ok(None) };
            Ok(Some((to_entry(block).ok_or_else(unreadable)?, (log, from, to, read))))
        }))
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.0.vote().map(vote_to_raft))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let (layout, purged) = (self.0.layout(), self.0.purged().await?);
        let last_log_id = log_id(layout.term, layout.index);
        let last_purged_log_id = purged.and_then(|Purged { index, term }| log_id(term, index));
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        self.0.save_vote(vote_of_raft(vote)).await
    }

    /// Every later block says it.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            self.0.set_committed(index_of(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let committed = self.0.committed();
        Ok(self.0.term_of(committed).await?.and_then(|term| log_id(term, committed)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().map(to_append).collect();
        self.0.append(entries, Box::new(|outcome| callback.io_completed(outcome))).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.0.truncate_after(last.as_ref().map_or(BlockIndex(0), index_of)).await
    }

    /// Bytes stay until retention lets them go; this only says that nobody needs to be sent them.
    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.0.give_up(Purged { index: index_of(&upto), term: term_of(&upto) }).await
    }
}

/// The blocks of a range of entries.
fn bounds(range: &impl RangeBounds<u64>) -> (BlockIndex, BlockIndex) {
    let from = match range.start_bound() {
        Bound::Included(index) => index + 1,
        Bound::Excluded(index) => index + 2,
        Bound::Unbounded => 1,
    };
    let to = match range.end_bound() {
        Bound::Included(index) => index + 2,
        Bound::Excluded(index) => index + 1,
        Bound::Unbounded => u64::MAX,
    };
    (BlockIndex(from), BlockIndex(to))
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a membership in the log cannot be read")
}
