//! The log as its users see it: append, truncate, read. Places and the newest blocks are in memory; what has to reach
//! the disk goes to the `writer`, in order.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use apogee_host::{Disk, FileId};
use apogee_model::{BlockIndex, Epoch};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::layout::{Entry, Layout, Sealed, to_u64};
use super::places::{BlockPlace, Found, Places};
use super::writer::{Done, Job};
use super::{Purged, Vote, segment_name};
use crate::block::{self, Block, BlockKind, Lsn};

/// Bytes of one answer to [`Log::read_blocks`], unless one block alone has more.
pub(crate) const READ_BYTES: usize = 4 << 20;

/// A cheap handle; clones are the same log.
#[derive(Clone)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    shared: Arc<RwLock<Shared>>,
    /// The first damage that was found by a read.
    damage: Arc<watch::Sender<Option<Damage>>>,
    segment_bytes: u64,
    tail_bytes: usize,
}

struct Shared {
    layout: Layout,
    places: Places,
    vote: Option<Vote>,
    /// Highest index known to be committed.
    committed: BlockIndex,
    /// The first block that is there for others; those before are about to go.
    floor: BlockIndex,
    /// The block before the floor, when that is known.
    purged: Option<Purged>,
    /// The first block that somebody here may need.
    needed: BlockIndex,
    /// Segments that are to be removed, oldest first, and their files while those are open.
    doomed: VecDeque<Doomed>,
    /// What the appended blocks of this term were proposed as, to notice a gap.
    proposals: Proposals,
    /// Blocks that hold proposals of this replica, and which.
    accepted: VecDeque<(BlockIndex, u64)>,
    tail: VecDeque<TailBlock>,
    held: usize,
    /// Blocks up to here are in the file, so the tail may forget them.
    written: BlockIndex,
    writer: Option<mpsc::Sender<Job>>,
    /// Why the writer ended before it was asked to.
    failure: Option<(io::ErrorKind, String)>,
}

/// A segment that is to be removed: where it starts, and its file while that is open.
pub(super) type Doomed = (Lsn, Option<FileId>);

struct TailBlock {
    index: BlockIndex,
    lsn: Lsn,
    bytes: Bytes,
}

/// An entry to append: what it is, and its bytes with room for the block header in front.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) entry: Entry,
    pub(crate) bytes: Bytes,
    /// Which proposal of this replica it is; `None` for what a leader sent us or consensus made itself.
    pub(crate) proposal: Option<Proposal>,
}

/// Number of a proposal.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Proposal {
    pub(crate) number: u64,
    /// It rests on nothing but what is applied.
    pub(crate) first: bool,
}

#[derive(Copy, Clone, Debug, Default)]
struct Proposals {
    term: Epoch,
    last: u64,
    /// A proposal was refused, so those that follow rest on something that never was.
    broken: bool,
}

impl Proposals {
    /// Whether a proposal follows on all before it.
    fn follows(&mut self, term: Epoch, proposal: Proposal) -> bool {
        let next = self.term == term && proposal.number == self.last + 1;
        self.broken = !proposal.first && (self.broken || !next);
        (self.term, self.last) = (term, proposal.number);
        !self.broken
    }
}

/// What recovery found.
pub(crate) struct Recovered {
    pub(crate) layout: Layout,
    pub(crate) places: Places,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: BlockIndex,
    pub(crate) purged: Option<Purged>,
}

impl Log {
    pub(crate) fn new(disk: Arc<dyn Disk>, found: Recovered, tail_bytes: usize, writer: mpsc::Sender<Job>) -> Self {
        let Recovered { layout, places, vote, committed, purged } = found;
        let given_up = purged.map_or(BlockIndex(1), |purged| BlockIndex(purged.index.0 + 1));
        let floor = places.first().unwrap_or_default().max(given_up);
        let (segment_bytes, written) = (layout.segment_bytes, layout.index);
        let shared = Shared {
            layout,
            places,
            vote,
            committed,
            floor,
            purged,
            needed: BlockIndex(0),
            doomed: VecDeque::new(),
            proposals: Proposals::default(),
            accepted: VecDeque::new(),
            tail: VecDeque::new(),
            held: 0,
            written,
            writer: Some(writer),
            failure: None,
        };
        let damage = Arc::new(watch::Sender::new(None));
        Self { disk, shared: Arc::new(RwLock::new(shared)), damage, segment_bytes, tail_bytes }
    }

    fn read_lock(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lock(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives every entry its place. They can be read when this returns; `done` is called when they are durable.
    ///
    /// A proposal that rests on one that was refused becomes a block without records, before anybody saw it: here is
    /// the only place where the order in which proposals reach the log is known.
    ///
    /// # Errors
    /// When the writer has ended.
    pub(crate) async fn append(&self, entries: impl IntoIterator<Item = Append>, done: Done) -> io::Result<()> {
        let mut blocks = Vec::new();
        let (writer, layout) = {
            let mut shared = self.write_lock();
            for Append { mut entry, mut bytes, proposal } in entries {
                let follows = proposal.is_none_or(|proposal| shared.proposals.follows(entry.term, proposal));
                if let Some(proposal) = proposal {
                    shared.accepted.push_back((entry.index, proposal.number));
                }
                if !follows {
                    shared.accepted.pop_back();
                    tracing::warn!(event = "proposal_dropped", index = %entry.index, "it rests on one that was refused");
                    (entry.records, bytes) = (0, Bytes::from(vec![0; block::HEADER]));
                }
                if let Some(proposal) = proposal {
                    shared.layout.proposal = proposal.number;
                }
                let committed = shared.committed;
                let (filler, sealed) = shared.layout.seal(entry, bytes, committed);
                shared.push(&sealed);
                blocks.extend(filler.into_iter().chain([sealed]));
            }
            shared.forget_beyond(self.tail_bytes);
            (shared.writer.clone(), shared.layout)
        };
        send(writer, Job::Write { blocks, layout, done }).await
    }

    /// Forgets every block after `last`, in memory at once and on disk when this returns.
    ///
    /// # Errors
    /// When the writer has ended.
    pub(crate) async fn truncate_after(&self, last: BlockIndex) -> io::Result<()> {
        // The block that becomes the last one tells where the log ends and what the next block names.
        let tail = match last {
            BlockIndex(0) => None,
            last => Some(self.read_block(last).await?),
        };
        let (writer, job, answer) = {
            let mut shared = self.write_lock();
            if shared.layout.index <= last {
                return Ok(());
            }
            let old_end = shared.layout.end;
            let mut layout = Layout::new(self.segment_bytes);
            if let Some(Block { header, hash, .. }) = &tail {
                (layout.term, layout.index, layout.log_time) = (header.term, header.index, header.log_time);
                (layout.end, layout.previous) = (Lsn(header.lsn.0 + to_u64(header.total_len)), *hash);
            }
            shared.layout = layout;
            shared.proposals.broken = true;
            while shared.accepted.pop_back_if(|(index, _)| *index > last).is_some() {}
            while let Some(gone) = shared.tail.pop_back_if(|block| block.index > last) {
                shared.held -= gone.bytes.len();
            }
            shared.written = shared.written.min(last);
            shared.places.truncate(last);
            let (reply, answer) = oneshot::channel();
            let job = Job::Truncate { layout, old_end, reply };
            (shared.writer.clone(), job, answer)
        };
        send(writer, job).await?;
        answer.await.map_err(|_| ended())
    }

    /// Remembers a vote, durably when this returns.
    ///
    /// # Errors
    /// When the writer has ended.
    pub(crate) async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        let writer = self.read_lock().writer.clone();
        send(writer, Job::Vote { vote, reply }).await?;
        answer.await.map_err(|_| ended())?;
        self.write_lock().vote = Some(vote);
        Ok(())
    }

    pub(crate) fn vote(&self) -> Option<Vote> {
        self.read_lock().vote
    }

    /// The end of the log.
    pub(crate) fn layout(&self) -> Layout {
        self.read_lock().layout
    }

    /// Bytes of the largest block that this log takes.
    pub(crate) fn block_max(&self) -> usize {
        usize::try_from(self.segment_bytes / 2).map_or(block::BLOCK_MAX, |half| half.min(block::BLOCK_MAX))
    }

    /// The first block that may be read.
    pub(crate) fn floor(&self) -> BlockIndex {
        self.read_lock().floor
    }

    /// The last block that is not there for others; `None` when all are. Of a log that lost its beginning it is the first
    /// one that is left, because nobody knows the term of the one before.
    pub(crate) async fn purged(&self) -> io::Result<Option<Purged>> {
        let (floor, purged) = {
            let shared = self.read_lock();
            (shared.floor, shared.purged)
        };
        match purged.filter(|purged| purged.index.0 + 1 == floor.0) {
            None if floor > BlockIndex(1) => Ok(self.term_of(floor).await?.map(|term| Purged { index: floor, term })),
            purged => Ok(purged),
        }
    }

    /// Gives blocks up, durably: see [`Log::raise_floor`].
    pub(crate) async fn give_up(&self, purged: Purged) -> io::Result<()> {
        purged.write(&*self.disk).await?;
        self.write_lock().purged = Some(purged);
        self.raise_floor(purged.index);
        Ok(())
    }

    /// Blocks up to `gone` are not there for others any more.
    pub(crate) fn raise_floor(&self, gone: BlockIndex) {
        let mut shared = self.write_lock();
        shared.floor = shared.floor.max(BlockIndex(gone.0 + 1));
        shared.doom();
    }

    /// Nothing here needs the blocks up to `gone`. When others do not need them either, see [`Log::raise_floor`], the
    /// files that hold nothing else go; who reads one of them may finish.
    pub(crate) fn may_go(&self, gone: BlockIndex) {
        let mut shared = self.write_lock();
        shared.needed = shared.needed.max(BlockIndex(gone.0 + 1));
        shared.doom();
    }

    /// The first block of the newest segment that starts at or before `at` and has a block at or before `index`: what is
    /// before is not needed by somebody who needs the log from `at` and from `index` on. With where that segment starts.
    pub(crate) fn start_for(&self, at: Lsn, index: BlockIndex) -> Option<(Lsn, BlockIndex)> {
        self.read_lock().places.start_for(at, index)
    }

    /// Where the log begins: the start of its first segment.
    pub(crate) fn begin(&self) -> Lsn {
        self.read_lock().places.begin().unwrap_or_default()
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// The segments that nobody finds any more, oldest first, for who removes them.
    pub(super) fn take_doomed(&self) -> VecDeque<Doomed> {
        std::mem::take(&mut self.write_lock().doomed)
    }

    /// Some could not be removed; they are older than those that were doomed meanwhile.
    pub(super) fn put_back(&self, mut doomed: VecDeque<Doomed>) {
        let mut shared = self.write_lock();
        doomed.append(&mut shared.doomed);
        shared.doomed = doomed;
    }

    pub(crate) fn committed(&self) -> BlockIndex {
        self.read_lock().committed
    }

    pub(crate) fn set_committed(&self, committed: BlockIndex) {
        let mut shared = self.write_lock();
        shared.committed = shared.committed.max(committed);
    }

    /// Which proposal of this replica the block at `index` is. To be asked once for each block, in order.
    pub(crate) fn proposal_at(&self, index: BlockIndex) -> Option<u64> {
        let accepted = &mut self.write_lock().accepted;
        while accepted.pop_front_if(|(earlier, _)| *earlier < index).is_some() {}
        accepted.pop_front_if(|(at, _)| *at == index).map(|(_, number)| number)
    }

    /// No more appends: the writer finishes and ends.
    pub(crate) fn close(&self) {
        self.write_lock().writer = None;
    }

    /// Why the disk cannot be used any more, once it cannot.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.read_lock().failure.clone().map(|(kind, why)| io::Error::new(kind, why))
    }

    pub(super) fn set_failure(&self, cause: &io::Error) {
        self.write_lock().failure = Some((cause.kind(), cause.to_string()));
    }

    pub(super) fn file(&self, at: Lsn) -> Option<FileId> {
        self.read_lock().places.file(at)
    }

    pub(super) fn set_file(&self, start: Lsn, file: FileId) {
        self.write_lock().places.set_file(start, file);
    }

    pub(super) fn set_written(&self, index: BlockIndex) {
        let mut shared = self.write_lock();
        shared.written = shared.written.max(index.min(shared.layout.index));
        shared.forget_beyond(self.tail_bytes);
    }

    /// `len` bytes at `at`, which lie inside one block.
    pub(crate) async fn read(&self, at: Lsn, len: usize) -> io::Result<Bytes> {
        let file = {
            let shared = self.read_lock();
            if let Some(bytes) = shared.held_in_tail(at, len) {
                return Ok(bytes);
            }
            shared.places.file(at)
        };
        let file = file.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the segment is gone"))?;
        self.disk.read_at(file, at.0 % self.segment_bytes, len).await
    }

    /// Where a block is; looks into an old segment when nobody has.
    async fn place(&self, index: BlockIndex) -> io::Result<Option<BlockPlace>> {
        loop {
            let found = self.read_lock().places.find(index);
            match found {
                Found::At(place) => return Ok(Some(place)),
                Found::Nowhere => return Ok(None),
                Found::Unread(start) => {
                    let blocks = self.look_into(start).await?;
                    self.write_lock().places.learn(start, blocks);
                }
            }
        }
    }

    /// The places of all blocks of an old segment, by their headers.
    async fn look_into(&self, start: Lsn) -> io::Result<Vec<BlockPlace>> {
        let mut blocks = Vec::new();
        let (mut at, end) = (start, start.0 + self.segment_bytes);
        while at.0 + to_u64(block::HEADER) <= end {
            let head = self.read(at, block::HEADER).await?;
            let header = block::Header::read(&head, at).map_err(|why| self.damaged(at, &why))?;
            if header.kind != BlockKind::Filler {
                let len = u32::try_from(header.total_len).expect("blocks are at most 8 MiB");
                blocks.push(BlockPlace { lsn: at, len, term: header.term });
            }
            at = Lsn(at.0 + to_u64(header.total_len));
        }
        Ok(blocks)
    }

    /// Where the segment begins that holds a block; `None` when it is not there.
    pub(crate) async fn segment_of(&self, index: BlockIndex) -> io::Result<Option<Lsn>> {
        let place = self.place(index).await?;
        Ok(place.map(|place| Lsn(place.lsn.0 - place.lsn.0 % self.segment_bytes)))
    }

    /// The term of a block; `None` when it is not there.
    pub(crate) async fn term_of(&self, index: BlockIndex) -> io::Result<Option<Epoch>> {
        Ok(self.place(index).await?.map(|place| place.term))
    }

    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it is not there, [`io::ErrorKind::InvalidData`] when it is damaged.
    pub(crate) async fn read_block(&self, index: BlockIndex) -> io::Result<Block> {
        let place = self.place(index).await?;
        let place = place.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("block {index} is gone")))?;
        let len = usize::try_from(place.len).expect("blocks are at most 8 MiB");
        let bytes = self.read(place.lsn, len).await?;
        Block::read(&bytes, place.lsn).map_err(|why| {
            // A block that is not committed may have made room for another one meanwhile.
            if index <= self.committed() {
                self.damaged(place.lsn, &why)
            } else {
                damaged(self.segment_bytes, place.lsn, &why)
            }
        })
    }

    /// What was committed cannot be read at this position. Whoever waits for [`Log::damage`] hears of it.
    pub(crate) fn damaged(&self, at: Lsn, why: &dyn std::fmt::Display) -> io::Error {
        let error = damaged(self.segment_bytes, at, why);
        let damage = error.get_ref().and_then(|inner| inner.downcast_ref::<Damage>()).cloned();
        self.damage.send_if_modified(|first| first.is_none() && std::mem::replace(first, damage).is_none());
        error
    }

    /// The first damage that a read found, once one did.
    pub(crate) fn damage(&self) -> watch::Receiver<Option<Damage>> {
        self.damage.subscribe()
    }

    /// The blocks `from..to` that are there for others, but no more than some MiB at a time, and at least one if there
    /// is one.
    pub(crate) async fn read_blocks(&self, from: BlockIndex, to: BlockIndex) -> io::Result<Vec<Block>> {
        let floor = self.floor();
        self.read_own_blocks(from.max(floor), to).await
    }

    /// As [`Log::read_blocks`], with those that are about to go.
    pub(crate) async fn read_own_blocks(&self, from: BlockIndex, to: BlockIndex) -> io::Result<Vec<Block>> {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        let end = self.layout().index.0 + 1;
        for index in from.0..to.0.min(end) {
            let block = self.read_block(BlockIndex(index)).await?;
            bytes += block.bytes.len();
            if bytes > READ_BYTES && !blocks.is_empty() {
                break;
            }
            blocks.push(block);
        }
        Ok(blocks)
    }
}

impl Shared {
    /// Forgets the segments that nobody needs, and has them removed.
    fn doom(&mut self) {
        let doomed = self.places.let_go(self.floor.min(self.needed));
        if !doomed.is_empty() {
            self.doomed.extend(doomed);
            // A writer that has no time for it looks again by itself.
            let _later = self.writer.as_ref().map(|writer| writer.try_send(Job::Remove));
        }
    }

    fn push(&mut self, sealed: &Sealed) {
        let Sealed { header, bytes } = sealed;
        let len = u32::try_from(header.total_len).expect("blocks are at most 8 MiB");
        self.places.push(header.index, BlockPlace { lsn: header.lsn, len, term: header.term });
        self.held += bytes.len();
        self.tail.push_back(TailBlock { index: header.index, lsn: header.lsn, bytes: bytes.clone() });
    }

    fn forget_beyond(&mut self, tail_bytes: usize) {
        while self.held > tail_bytes
            && let Some(block) = self.tail.pop_front_if(|block| block.index <= self.written)
        {
            self.held -= block.bytes.len();
        }
    }

    fn held_in_tail(&self, at: Lsn, len: usize) -> Option<Bytes> {
        let after = self.tail.partition_point(|block| block.lsn <= at);
        let block = self.tail.get(after.checked_sub(1)?)?;
        let from = usize::try_from(at.0 - block.lsn.0).ok()?;
        let to = from.checked_add(len)?;
        (to <= block.bytes.len()).then(|| block.bytes.slice(from..to))
    }
}

async fn send(writer: Option<mpsc::Sender<Job>>, job: Job) -> io::Result<()> {
    writer.ok_or_else(ended)?.send(job).await.map_err(|_| ended())
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log has ended")
}

fn damaged(segment_bytes: u64, at: Lsn, why: &dyn std::fmt::Display) -> io::Error {
    let offset = at.0 % segment_bytes;
    let damage = Damage { file: segment_name(Lsn(at.0 - offset)), offset, why: why.to_string() };
    io::Error::new(io::ErrorKind::InvalidData, damage)
}

/// A block in the log that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{file} is damaged at byte {offset}: {why}")]
pub(crate) struct Damage {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) why: String,
}
