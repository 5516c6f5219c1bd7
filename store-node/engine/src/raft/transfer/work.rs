//! What the receiver does with what it gets: everything comes in beside what is there, and counts when all of it is
//! durable and right.

use std::io;
use std::sync::Arc;

use apogee_host::{FileId, Stop};
use apogee_model::BlockIndex;
use bytes::Bytes;
use openraft::Raft;
use tokio::sync::{Mutex, mpsc, watch};

use super::chain::Chain;
use super::frames::Answer;
use super::receive::{Progress, ReceiverParts, Silence};
use crate::block::Lsn;
use crate::commitlog::Log;
use crate::incoming::{self, Marker, Stage};
use crate::raft::machine::Machine;
use crate::raft::types::{RaftVote, Types, vote_of_raft};
use crate::views::{Position, ViewsError};

/// A segment is synced when this much was written to it, so that the last sync is short.
const SYNC_BYTES: u64 = 16 << 20;

/// One thing to do. The first, to make room for the attempt, goes without saying.
pub(super) enum Step {
    File { name: String, at: u64, bytes: Bytes },
    Segment { at: Lsn, bytes: Bytes },
    End(RaftVote),
}

/// See the module.
pub(super) struct Work {
    parts: ReceiverParts,
    silence: Silence,
    raft: Raft<Types, Machine>,
    marker: Marker,
    steps: mpsc::Receiver<Step>,
    progress: watch::Sender<Progress>,
    chain: Chain,
    /// The segment under the pen, and bytes of it that are not synced.
    segment: Option<(FileId, u64)>,
}

/// Why an attempt ends early.
enum Failed {
    /// Nothing has happened.
    Attempt(String),
    /// Only a start can tell what has happened.
    Process(Stop),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Attempt(error.to_string())
    }
}

impl From<ViewsError> for Failed {
    fn from(error: ViewsError) -> Self {
        Self::Attempt(error.to_string())
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Attempt(why)
    }
}

impl Work {
    pub(super) fn new(
        parts: ReceiverParts,
        silence: Silence,
        raft: Raft<Types, Machine>,
        marker: Marker,
        steps: mpsc::Receiver<Step>,
        progress: watch::Sender<Progress>,
    ) -> Self {
        let chain = Chain::new(marker.first, marker.segment_bytes);
        Self { parts, silence, raft, marker, steps, progress, chain, segment: None }
    }

    /// Waits for its turn, then works until the end, or until nobody wants it any more.
    ///
    /// # Errors
    /// When the disk failed and nobody knows whether what came in is complete.
    pub(super) async fn run(mut self, bench: Arc<Mutex<()>>) -> Result<(), Stop> {
        let _turn = bench.lock().await;
        if self.silence.is_kept() {
            // The attempt before has ended well meanwhile.
            return Ok(());
        }
        let end = match self.work().await {
            Ok(None) => return Ok(()),
            Ok(Some(end)) => end,
            Err(Failed::Attempt(why)) => {
                tracing::warn!(event = "base_not_received", %why, "a base that another replica sends does not come in");
                if let Err(error) = incoming::clear(&*self.parts.disk).await {
                    tracing::warn!(event = "base_not_cleared", %error, "it costs room until the next attempt");
                }
                Answer::Refused(why)
            }
            Err(Failed::Process(stop)) => return Err(stop),
        };
        self.progress.send_modify(|progress| progress.end = Some(end));
        Ok(())
    }

    /// `None` when the attempt was given up, or everything stops.
    async fn work(&mut self) -> Result<Option<Answer>, Failed> {
        incoming::clear(&*self.parts.disk).await?;
        self.parts.views.begin_incoming(self.marker.position.index).await?;
        let stop = self.parts.tasks.token();
        loop {
            self.progress.send_modify(|progress| progress.done += 1);
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(None),
                step = self.steps.recv() => step,
            };
            match step {
                None => return Ok(None),
                Some(Step::File { name, at, bytes }) => self.file(name, at, bytes).await?,
                Some(Step::Segment { at, bytes }) => self.segment(at, &bytes).await?,
                Some(Step::End(vote)) => return self.finish(vote).await.map(Some),
            }
        }
    }

    async fn file(&self, name: String, at: u64, bytes: Bytes) -> Result<(), Failed> {
        Ok(self.parts.views.write_incoming(self.marker.position.index, name, at, bytes).await?)
    }

    async fn segment(&mut self, at: Lsn, bytes: &Bytes) -> Result<(), Failed> {
        let (size, end) = (self.marker.segment_bytes, self.marker.position.end);
        let (start, len) = (Lsn(at.0 - at.0 % size), u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let room = (start.0 + size).min(end.0).saturating_sub(at.0);
        if at != self.chain.end() || len > room {
            return Err(Failed::Attempt(format!("{len} bytes for {} do not fit at {}", at.0, self.chain.end().0)));
        }
        let disk = Arc::clone(&self.parts.disk);
        if at == start {
            self.end_segment().await?;
            self.segment = Some((disk.create(&incoming::segment_name(start), size).await?, 0));
        }
        let (file, unsynced) = self.segment.as_mut().ok_or_else(|| "a segment has a beginning".to_owned())?;
        self.chain.feed(bytes)?;
        disk.write_at(*file, at.0 - start.0, bytes.clone()).await?;
        *unsynced += len;
        if *unsynced >= SYNC_BYTES {
            disk.sync(*file).await?;
            *unsynced = 0;
        }
        Ok(())
    }

    async fn end_segment(&mut self) -> Result<(), Failed> {
        if let Some((file, _)) = self.segment.take() {
            self.parts.disk.sync(file).await?;
            self.parts.disk.close(file).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, vote: RaftVote) -> Result<Answer, Failed> {
        let Marker { position, purged, .. } = &self.marker;
        self.chain.check_end(position)?;
        let floor = BlockIndex(purged.map_or(0, |purged| purged.index.0) + 1).min(position.index);
        if self.chain.first().is_none_or(|first| first > floor) {
            return Err(Failed::Attempt(format!("the log begins behind block {floor}")));
        }
        self.end_segment().await?;
        // What consensus has answered up to here, the vote and the log below know of.
        self.silence.keep(true);
        let end = self.commit(vote).await;
        match &end {
            Ok(Answer::Taken) => {
                let (index, end) = (self.marker.position.index, self.marker.position.end.0);
                tracing::info!(event = "base_received", %index, end, "the base of another replica is complete");
                self.parts.again.because(format!("the base of block {index} came from another replica"));
            }
            Ok(_) => {
                incoming::clear(&*self.parts.disk).await?;
                self.silence.keep(false);
            }
            Err(Failed::Attempt(_)) => self.silence.keep(false),
            Err(Failed::Process(_)) => {}
        }
        end
    }

    /// The marker first: a base without one would be ahead of its log.
    async fn commit(&mut self, vote: RaftVote) -> Result<Answer, Failed> {
        let ReceiverParts { disk, views, log, .. } = &self.parts;
        if let Some(newer) = newer_vote(&self.raft, vote).await? {
            return Ok(Answer::HigherVote(newer));
        }
        let position = &self.marker.position;
        if has(log, position).await? {
            return Ok(Answer::HasIt);
        }
        self.marker.write(&**disk).await.map_err(|error| Failed::Process(error.into()))?;
        let why = match views.finish_incoming(position.index).await {
            Ok(base) if base.position == *position => {
                self.marker.stage = Stage::Promised;
                self.marker.write(&**disk).await.map_err(|error| Failed::Process(error.into()))?;
                return Ok(Answer::Taken);
            }
            Ok(_) => {
                let removed = views.remove_base(position.index).await;
                removed.map_err(|error| Failed::Process(error.into()))?;
                "the base is not the one that was offered".to_owned()
            }
            Err(error @ (ViewsError::BadBase { .. } | ViewsError::NoSuchBase { .. })) => error.to_string(),
            Err(error) => return Err(Failed::Process(error.into())),
        };
        Marker::remove(&**disk).await.map_err(|error| Failed::Process(error.into()))?;
        Err(Failed::Attempt(why))
    }
}

/// The vote this replica has given, when that was in a later term.
pub(super) async fn newer_vote(raft: &Raft<Types, Machine>, vote: RaftVote) -> Result<Option<RaftVote>, String> {
    let ours = raft.with_raft_state(|state| *state.vote_ref()).await.map_err(|stopped| stopped.to_string())?;
    Ok(Some(ours).filter(|ours| vote_of_raft(ours).term > vote_of_raft(&vote).term))
}

/// Whether the log here has the block of a base, and so all before it.
pub(super) async fn has(log: &Log, position: &Position) -> Result<bool, String> {
    let given_up = log.purged().await.map_err(|error| error.to_string())?;
    if given_up.is_some_and(|purged| purged.index >= position.index) {
        return Ok(true);
    }
    let term = log.term_of(position.index).await.map_err(|error| error.to_string())?;
    Ok(term == Some(position.term))
}
