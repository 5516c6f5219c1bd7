//! The side of the leader.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use apogee_model::BlockIndex;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::frames::{self, Answer, Attempt, Offer, Question};
use crate::block::Lsn;
use crate::commitlog::Log;
use crate::leader::Ask;
use crate::peers::{NotAFrame, Unreachable};
use crate::raft::snapshot::SnapshotMeta;
use crate::raft::types::{RaftVote, index_of, log_id, vote_of_raft};
use crate::views::{Base, PIECE_MAX, ViewStore, ViewsError};

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest time the receiver may work on one question.
const WORK_MAX: Duration = Duration::from_secs(600);

/// What a leader sends from.
pub(crate) struct Source {
    log: Log,
    views: Arc<dyn ViewStore>,
    /// Where a base can be asked for. Weak, because what asks must not keep the replica alive.
    inbox: mpsc::WeakSender<Ask>,
    attempts: AtomicU64,
}

/// Why a transfer came to nothing. Openraft makes another one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSent {
    #[error("there is no base at block {index} any more; another one was asked for")]
    NoBase { index: BlockIndex },
    #[error("block {index} is not in the log any more")]
    NoBlock { index: BlockIndex },
    #[error("the base cannot be read")]
    Views(#[from] ViewsError),
    #[error("the log cannot be read")]
    Log(#[from] io::Error),
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error(transparent)]
    NotAFrame(#[from] NotAFrame),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("the other replica refused: {why}")]
    Refused { why: String },
}

/// How the transfer ends when it does not fail.
enum End {
    /// The receiver has what was sent, or had it before.
    Arrived,
    HigherVote(RaftVote),
}

impl Source {
    pub(crate) fn new(log: Log, views: Arc<dyn ViewStore>, inbox: mpsc::WeakSender<Ask>) -> Self {
        Self { log, views, inbox, attempts: AtomicU64::new(0) }
    }

    /// Sends the base that openraft was shown, and the log behind it. Returns the vote of the receiver, as far as it is
    /// another one.
    ///
    /// # Errors
    /// [`NotSent`].
    pub(crate) async fn send<'a>(
        &self,
        vote: RaftVote,
        meta: &SnapshotMeta,
        call: impl Fn(Bytes) -> BoxFuture<'a, Result<Bytes, Unreachable>> + Send + Sync,
    ) -> Result<RaftVote, NotSent> {
        let base = self.base(meta).await?;
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let attempt = Attempt { term: vote_of_raft(&vote).term, number };
        let started = Instant::now();
        let sending = Sending { source: self, attempt, call };
        let end = sending.run(vote, &base).await?;
        tracing::info!(event = "base_sent", index = %base.index(), took = ?started.elapsed(), "a base was sent");
        Ok(match end {
            End::Arrived => vote,
            End::HigherVote(higher) => higher,
        })
    }

    async fn base(&self, meta: &SnapshotMeta) -> Result<Base, NotSent> {
        let bases = self.views.bases().await?;
        let is_it = |base: &&Base| log_id(base.position.term, base.position.index) == meta.last_log_id;
        bases.iter().find(is_it).cloned().ok_or_else(|| {
            if let Some(inbox) = self.inbox.upgrade() {
                let _busy = inbox.try_send(Ask::Base);
            }
            NotSent::NoBase { index: meta.last_log_id.as_ref().map(index_of).unwrap_or_default() }
        })
    }
}

struct Sending<'s, C> {
    source: &'s Source,
    attempt: Attempt,
    call: C,
}

impl<'a, C> Sending<'_, C>
where
    C: Fn(Bytes) -> BoxFuture<'a, Result<Bytes, Unreachable>> + Send + Sync,
{
    async fn run(&self, vote: RaftVote, base: &Base) -> Result<End, NotSent> {
        let Source { log, views, .. } = self.source;
        let (position, purged) = (base.position.clone(), log.purged().await?);
        let floor = BlockIndex(purged.map_or(0, |purged| purged.index.0) + 1).min(position.index);
        let first = log.segment_of(floor).await?.ok_or(NotSent::NoBlock { index: floor })?;
        let (segment_bytes, index, end) = (log.segment_bytes(), position.index, position.end);
        if let Some(end) = self.ask(&Question::Begin(vote, Offer { segment_bytes, position, first, purged })).await? {
            return Ok(end);
        }
        for file in views.base_files(index).await? {
            let mut at = 0;
            // A file without bytes is a file too.
            loop {
                let bytes = views.read_base(index, file.name.clone(), at, PIECE_MAX).await?;
                let sent = to_u64(bytes.len());
                if sent == 0 && at < file.len {
                    return Err(NotSent::NoBase { index });
                }
                if let Some(end) = self.ask(&Question::File { name: file.name.clone(), at, bytes }).await? {
                    return Ok(end);
                }
                at += sent;
                if at >= file.len {
                    break;
                }
            }
        }
        let mut at = first;
        while at < end {
            let rest = (segment_bytes - at.0 % segment_bytes).min(end.0 - at.0);
            let len = usize::try_from(rest).map_or(PIECE_MAX, |rest| rest.min(PIECE_MAX));
            let bytes = log.read(at, len).await?;
            if let Some(end) = self.ask(&Question::Segment { at, bytes }).await? {
                return Ok(end);
            }
            at = Lsn(at.0 + to_u64(len));
        }
        Ok(self.ask(&Question::End(vote)).await?.unwrap_or(End::Arrived))
    }

    /// `None` when the receiver wants to hear more.
    async fn ask(&self, question: &Question) -> Result<Option<End>, NotSent> {
        let started = Instant::now();
        let mut answer = self.call(question).await?;
        while answer == Answer::Working {
            if started.elapsed() > WORK_MAX {
                return Err(NotSent::Slow(WORK_MAX));
            }
            answer = self.call(&Question::Wait).await?;
        }
        match answer {
            Answer::Taken => Ok(None),
            Answer::HasIt => Ok(Some(End::Arrived)),
            Answer::HigherVote(vote) => Ok(Some(End::HigherVote(vote))),
            Answer::Refused(why) => Err(NotSent::Refused { why }),
            Answer::Working => unreachable!("asked until it is another one"),
        }
    }

    async fn call(&self, question: &Question) -> Result<Answer, NotSent> {
        let frame = frames::question(self.attempt, question);
        let answer = timeout(ANSWER_MAX, (self.call)(frame)).await.map_err(|_| NotSent::Slow(ANSWER_MAX))??;
        Ok(frames::read_answer(&answer)?)
    }
}

fn to_u64(len: usize) -> u64 {
    u64::try_from(len).expect("lengths fit into 64 bits")
}
