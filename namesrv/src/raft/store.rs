//! The journal as the log storage of openraft. The whole log is in memory too: snapshots keep it short.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::types::{LogId, RaftEntry, RaftVote, Types, log_id, of_entry, of_vote, place, to_entry, to_vote};
use crate::journal::{Book, Entry, Journal, Place, Step, Vote};

/// See the module. Clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore {
    journal: Journal,
    log: Arc<Mutex<Log>>,
}

/// The log as openraft has left it; the journal comes after.
struct Log {
    purged: Option<Place>,
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    committed: Option<Place>,
    /// What of `committed` the journal was told.
    told: Option<Place>,
}

impl LogStore {
    pub(crate) fn new(journal: Journal, book: &Book) -> Self {
        let log = Log {
            purged: book.purged,
            entries: book.entries.iter().map(|entry| (entry.at.index, entry.clone())).collect(),
            vote: book.vote,
            committed: book.committed,
            told: book.committed,
        };
        Self { journal, log: Arc::new(Mutex::new(log)) }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        let log = self.log();
        log.entries.range(range).map(|(_, entry)| to_entry(entry).ok_or_else(unreadable)).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.log().vote.map(to_vote))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = self.log();
        let last = log.entries.last_key_value().map(|(_, entry)| entry.at).or(log.purged);
        Ok(LogState { last_purged_log_id: log.purged.map(log_id), last_log_id: last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let vote = of_vote(vote);
        self.journal.keep(Step::Vote(vote)).await?;
        self.log().vote = Some(vote);
        Ok(())
    }

    /// Goes to disk with the next entries.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut log = self.log();
        log.committed = committed.as_ref().map(place).or(log.committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.log().committed.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut steps = Vec::new();
        {
            let mut log = self.log();
            if log.committed != log.told {
                log.told = log.committed;
                steps.extend(log.committed.map(Step::Committed));
            }
            for entry in entries.into_iter().map(of_entry) {
                log.entries.insert(entry.at.index, entry.clone());
                steps.push(Step::Append(entry));
            }
        }
        self.journal.hand_in(steps, Some(Box::new(|outcome| callback.io_completed(outcome)))).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        self.log().entries.split_off(&from);
        self.journal.keep(Step::TruncateFrom(from)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let upto = place(&upto);
        {
            let mut log = self.log();
            log.entries = log.entries.split_off(&(upto.index + 1));
            log.purged = log.purged.max(Some(upto));
        }
        self.journal.hand_in(vec![Step::Purge(upto)], None).await
    }
}

fn unreadable() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an entry of the log names members that cannot be")
}
