//! The applied view: what the committed log says, and nothing else.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use apogee_model::{
    BlockIndex, ConsumerGroup, DeliverySeq, GroupId, QueueId, QueueOffset, Timestamp, Topic, TopicId, tag_hash,
};
use bytes::{Buf, Bytes};

use crate::block::{self, Block, Lsn};
use crate::commitlog::{OpenError, segment_name};
use crate::pop::{self, Entry, GroupTopic, PopStore};
use crate::record::{NotARecord, QueueOf, Record};
use crate::views::{Batch, Place, Table, Views, consume_queue_key, offset_of_key};

/// Everything known about a replica group at one position of its log.
pub(crate) struct State {
    pub(crate) applied: BlockIndex,
    pub(crate) log_time: Timestamp,
    pub(crate) next_delivery: DeliverySeq,
    pub(crate) queues: BTreeMap<(TopicId, QueueId), QueueState>,
    pub(crate) pops: BTreeMap<(GroupId, TopicId), GroupTopic>,
    topics: BTreeMap<TopicId, Topic>,
    groups: BTreeMap<GroupId, ConsumerGroup>,
    views: Box<dyn Views>,
}

/// The messages a queue holds: `min..next`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct QueueState {
    pub(crate) min: QueueOffset,
    pub(crate) next: QueueOffset,
}

/// What applying a block changed, for those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// New messages: topic and tag hash.
    pub(crate) arrived: Vec<(TopicId, u32)>,
    /// Messages whose delivery state changed.
    pub(crate) touched: Vec<(QueueOf, QueueOffset)>,
}

/// A committed block that does not hold what a block must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record at byte {at} of the block at {lsn:?} cannot be read")]
pub(crate) struct BadBlock {
    pub(crate) lsn: Lsn,
    pub(crate) at: usize,
    #[source]
    pub(crate) cause: NotARecord,
}

impl BadBlock {
    /// What this means for a store that is being opened.
    pub(crate) fn into_open_error(self, segment_bytes: u64) -> OpenError {
        let offset = self.lsn.0 % segment_bytes;
        let file = segment_name(Lsn(self.lsn.0 - offset));
        OpenError::Corrupt { file, offset, why: format!("{self}: {}", self.cause) }
    }
}

impl State {
    pub(crate) fn new(views: Box<dyn Views>) -> Self {
        Self {
            applied: BlockIndex(0),
            log_time: Timestamp(0),
            next_delivery: DeliverySeq(1),
            queues: BTreeMap::new(),
            pops: BTreeMap::new(),
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            views,
        }
    }

    /// Applies the next block. Deterministic: the same blocks give the same state, on every replica and every restart.
    ///
    /// # Errors
    /// [`BadBlock`] when a record cannot be read although the block's checksum is right; the state is then unusable.
    pub(crate) fn apply(&mut self, block: &Block) -> Result<Applied, BadBlock> {
        let header = &block.header;
        assert_eq!(header.index.0, self.applied.0 + 1, "blocks are applied in order, none twice");
        let (mut applied, mut batch) = (Applied::default(), Batch::default());
        let mut rest = block.bytes.slice(block::HEADER..);
        for _ in 0..header.records {
            let at = header.total_len - rest.len();
            let (record, len) = Record::read(&rest).map_err(|cause| BadBlock { lsn: header.lsn, at, cause })?;
            let place = Lsn(header.lsn.0 + u64::try_from(at).expect("blocks are at most 8 MiB"));
            self.apply_record(&record, header.log_time, (place, len), &mut batch, &mut applied);
            rest.advance(len);
        }
        self.applied = header.index;
        self.log_time = header.log_time;
        self.views.write(batch, header.index);
        Ok(applied)
    }

    fn apply_record(
        &mut self,
        record: &Record,
        at: Timestamp,
        (lsn, len): (Lsn, usize),
        batch: &mut Batch,
        applied: &mut Applied,
    ) {
        match record {
            Record::Message { topic, queue, offset, message, .. } => {
                let tag_hash = tag_hash(message.tag());
                let len = u32::try_from(len).expect("records are smaller than a block");
                let place = Place { lsn, len, tag_hash, group_hash: 0, stored_at: at, flags: 0 };
                batch.puts.push((Table::ConsumeQueue, consume_queue_key(*topic, *queue, *offset), place.encode()));
                self.queues.entry((*topic, *queue)).or_default().next = offset.next();
                applied.arrived.push((*topic, tag_hash));
            }
            Record::Open { group, topic, .. } => {
                pop::apply(record, at, self.pops.entry((*group, *topic)).or_default());
            }
            Record::Lease(lease) => {
                self.next_delivery = self.next_delivery.max(DeliverySeq(lease.deliveries.delivery.0 + 1));
                self.apply_pop(record, at, lease.queue, &lease.deliveries.offsets, applied);
            }
            Record::Settle { queue, deliveries }
            | Record::Change { queue, deliveries, .. }
            | Record::Release { queue, deliveries } => {
                self.apply_pop(record, at, *queue, &deliveries.offsets, applied);
            }
            Record::Close { group } => self.close(*group, applied),
            Record::Trim { topic, queue, min } => self.trim(*topic, *queue, *min, batch, applied),
            Record::TopicName { id, name } => drop(self.topics.insert(*id, name.clone())),
            Record::GroupName { id, name } => drop(self.groups.insert(*id, name.clone())),
        }
    }

    fn apply_pop(
        &mut self,
        record: &Record,
        at: Timestamp,
        of: QueueOf,
        offsets: &[QueueOffset],
        applied: &mut Applied,
    ) {
        pop::apply(record, at, self.pops.entry((of.group, of.topic)).or_default());
        applied.touched.extend(offsets.iter().map(|offset| (of, *offset)));
    }

    fn close(&mut self, group: GroupId, applied: &mut Applied) {
        let topics: Vec<_> = self.topics_of(group).map(|(topic, _)| topic).collect();
        for topic in topics {
            let Some(state) = self.pops.remove(&(group, topic)) else { continue };
            for (queue, state) in state.queues {
                let of = QueueOf { group, topic, queue };
                applied.touched.extend(state.entries.keys().map(|offset| (of, *offset)));
            }
        }
        self.groups.remove(&group);
    }

    fn trim(&mut self, topic: TopicId, queue: QueueId, min: QueueOffset, batch: &mut Batch, applied: &mut Applied) {
        let Some(state) = self.queues.get_mut(&(topic, queue)) else { return };
        let min = min.min(state.next);
        if min <= state.min {
            return;
        }
        let from = consume_queue_key(topic, queue, state.min);
        batch.deletes.push((Table::ConsumeQueue, from, consume_queue_key(topic, queue, min)));
        state.min = min;
        for ((group, of_topic), state) in &mut self.pops {
            if *of_topic == topic {
                let of = QueueOf { group: *group, topic, queue };
                applied.touched.extend(state.trim(queue, min).into_iter().map(|offset| (of, offset)));
            }
        }
    }

    pub(crate) fn knows_topic(&self, id: TopicId) -> bool {
        self.topics.contains_key(&id)
    }

    pub(crate) fn knows_group(&self, id: GroupId) -> bool {
        self.groups.contains_key(&id)
    }

    pub(crate) fn queue(&self, topic: TopicId, queue: QueueId) -> QueueState {
        self.queues.get(&(topic, queue)).copied().unwrap_or_default()
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

    /// Where the message at one offset is.
    pub(crate) fn place(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Option<Place> {
        let mut found = None;
        self.places(topic, queue, offset, offset.next(), |_, place| {
            found = Some(place);
            ControlFlow::Break(())
        });
        found
    }

    /// Visits the messages of a queue with `from <= offset < to` in order.
    pub(crate) fn places(
        &self,
        topic: TopicId,
        queue: QueueId,
        from: QueueOffset,
        to: QueueOffset,
        mut visit: impl FnMut(QueueOffset, Place) -> ControlFlow<()>,
    ) {
        let (from, to) = (consume_queue_key(topic, queue, from), consume_queue_key(topic, queue, to));
        self.views.scan(Table::ConsumeQueue, &from, &to, &mut |key, row| match Place::decode(row) {
            Some(place) => visit(offset_of_key(key), place),
            None => ControlFlow::Break(()),
        });
    }
}

/// The record of a message as read back from the log, for the consumer that holds its lease.
pub(crate) fn stored_message(record: &Bytes) -> Result<apogee_model::StoredMessage, NotARecord> {
    match Record::read(record)?.0 {
        Record::Message { message, .. } => Ok(message),
        _ => Err(NotARecord::Kind(record[0])),
    }
}
