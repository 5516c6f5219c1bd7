//! The applied view: what the committed log says, and nothing else.
//!
//! The working set (queues, Pop, names, remembered requests) is in memory; rows of the ConsumeQueue are in memory while
//! they are new, and in the views. Applying a block touches memory only and notes what changed; [`State::take_batch`]
//! turns the notes into one batch of rows now and then. So what begins and ends between two batches (the lease of a
//! message that is acked at once) never reaches the views.
//!
//! Reading order: this file (what there is), `apply`, `dirty` and `tail` (what the views do not have yet), `resend`, `kept`
//! and `half` over `unwritten`, `offsets`, `lite`, `keys`, `seals`, `places` (reading the ConsumeQueue), `oldest`, `batch` and `load` (to the views
//! and back), `keeper` (when), `dump`.

mod apply;
mod batch;
mod dirty;
mod dump;
mod half;
mod keeper;
mod kept;
mod keys;
mod lite;
mod load;
mod offsets;
mod oldest;
mod places;
mod resend;
mod seals;
mod tail;
mod unwritten;

use std::collections::BTreeMap;
use std::sync::Arc;

use apogee_model::store::RequestId;
use apogee_model::{
    BlockIndex, ConsumerGroup, DeliverySeq, Epoch, GroupId, QueueId, QueueOffset, Timestamp, Topic, TopicId,
};

pub(crate) use apply::{BadBlock, Timing};
pub(crate) use keeper::{Keeper, Kept, Pace};
pub(crate) use keys::Term;
pub(crate) use lite::{LITE_QUEUE, LiteNews, Subscriber};

use crate::block::Lsn;
use crate::pop::{Entry, GroupTopic, PopStore as _, Pops};
use crate::record::QueueOf;
use crate::views::rows::Earlier;
use crate::views::{Membership, Position, Views, ViewsError};

/// Everything known about a replica group at one position of its log.
pub(crate) struct State {
    pub(crate) applied: BlockIndex,
    pub(crate) log_time: Timestamp,
    pub(crate) next_delivery: DeliverySeq,
    pub(crate) queues: BTreeMap<(TopicId, QueueId), QueueState>,
    oldest: oldest::Oldest,
    pub(crate) pops: Pops,
    term: Epoch,
    pub(crate) end: Lsn,
    hash: u32,
    membership: Option<Membership>,
    topics: BTreeMap<TopicId, Topic>,
    groups: BTreeMap<GroupId, ConsumerGroup>,
    resend: resend::Resend,
    kept: kept::KeptBack,
    halves: half::Halves,
    offsets: offsets::PullOffsets,
    lites: lite::Lites,
    keys: keys::Keys,
    seals: seals::Seals,
    tail: tail::Tail,
    dirty: dirty::Dirty,
    /// The position of the newest batch.
    taken: BlockIndex,
    /// Messages that trims removed since somebody asked.
    trimmed: u64,
    reader: places::ViewReader,
}

/// The messages a queue holds: `min..next`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct QueueState {
    pub(crate) min: QueueOffset,
    pub(crate) next: QueueOffset,
    /// Where the oldest message is; means nothing while there is none.
    pub(crate) min_lsn: Lsn,
}

impl State {
    /// The state before the first block, over empty views.
    #[cfg(test)]
    pub(crate) fn new(views: Arc<dyn Views>) -> Self {
        Self::at(Position::default(), views)
    }

    fn at(position: Position, views: Arc<dyn Views>) -> Self {
        let Position { index, term, end, hash, log_time, next_delivery, membership } = position;
        Self {
            applied: index,
            log_time,
            next_delivery,
            queues: BTreeMap::new(),
            oldest: oldest::Oldest::default(),
            pops: Pops::default(),
            term,
            end,
            hash,
            membership,
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            resend: resend::Resend::default(),
            kept: kept::KeptBack::default(),
            halves: half::Halves::default(),
            offsets: offsets::PullOffsets::default(),
            lites: lite::Lites::default(),
            keys: keys::Keys::default(),
            seals: seals::Seals::default(),
            tail: tail::Tail::default(),
            dirty: dirty::Dirty::default(),
            taken: index,
            trimmed: 0,
            reader: places::ViewReader::new(views),
        }
    }

    /// Where in the log this is, and what it takes to go on from there.
    pub(crate) fn position(&self) -> Position {
        Position {
            index: self.applied,
            term: self.term,
            end: self.end,
            hash: self.hash,
            log_time: self.log_time,
            next_delivery: self.next_delivery,
            membership: self.membership.clone(),
        }
    }

    /// The views this state reads from and is written to.
    pub(crate) fn views(&self) -> &Arc<dyn Views> {
        self.reader.views()
    }

    /// Why the views could not be read, when that happened: nothing may be decided by this state any more.
    pub(crate) fn failure(&self) -> Option<ViewsError> {
        self.reader.failure()
    }

    /// The result of an append that was made in the last minute of log time, if it is remembered.
    pub(crate) fn earlier(&self, request: &RequestId) -> Option<Earlier> {
        self.resend.earlier(request)
    }

    pub(crate) fn knows_topic(&self, id: TopicId) -> bool {
        self.topics.contains_key(&id)
    }

    /// What the log knows a group as.
    pub(crate) fn group_name(&self, id: GroupId) -> Option<&ConsumerGroup> {
        self.groups.get(&id)
    }

    pub(crate) fn knows_group(&self, id: GroupId) -> bool {
        self.groups.contains_key(&id)
    }

    pub(crate) fn queue(&self, topic: TopicId, queue: QueueId) -> QueueState {
        self.queues.get(&(topic, queue)).copied().unwrap_or_default()
    }

    #[cfg(test)]
    /// Where the oldest message of all queues is; `None` while there is none.
    pub(crate) fn oldest(&self) -> Option<Lsn> {
        self.oldest.first()
    }

    /// The queues that hold messages, by the place of their oldest one, behind `after`.
    pub(crate) fn by_age(
        &self,
        after: Option<(Lsn, (TopicId, QueueId))>,
    ) -> impl Iterator<Item = (Lsn, (TopicId, QueueId))> + '_ {
        self.oldest.behind(after)
    }

    /// Messages that trims removed since this was asked last.
    pub(crate) fn take_trimmed(&mut self) -> u64 {
        std::mem::take(&mut self.trimmed)
    }

    pub(crate) fn queues_of(&self, topic: TopicId) -> impl Iterator<Item = (QueueId, QueueState)> + '_ {
        self.queues.range((topic, QueueId(0))..=(topic, QueueId(u16::MAX))).map(|((_, queue), state)| (*queue, *state))
    }

    pub(crate) fn topics_of(&self, group: GroupId) -> impl Iterator<Item = (TopicId, &GroupTopic)> + '_ {
        self.pops.range((group, TopicId(0))..=(group, TopicId(u32::MAX))).map(|((_, topic), state)| (*topic, state))
    }

    pub(crate) fn entry(&self, of: QueueOf, offset: QueueOffset) -> Option<Entry> {
        self.pops.get(&(of.group, of.topic))?.entry(of.queue, offset)
    }

    /// Committed deliveries of a queue to a group that are not settled.
    pub(crate) fn unsettled(&self, of: QueueOf) -> usize {
        let queue = self.pops.get(&(of.group, of.topic)).and_then(|pop| pop.queues.get(&of.queue));
        queue.map_or(0, |queue| queue.entries.len())
    }

    /// As [`State::unsettled`], of messages below `min`.
    pub(crate) fn unsettled_below(&self, of: QueueOf, min: QueueOffset) -> usize {
        let queue = self.pops.get(&(of.group, of.topic)).and_then(|pop| pop.queues.get(&of.queue));
        queue.map_or(0, |queue| queue.entries.range(..min).count())
    }
}

#[cfg(test)]
mod tests;
