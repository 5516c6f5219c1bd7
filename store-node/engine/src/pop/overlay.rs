//! What the leader proposed and the log has not committed yet.
//!
//! The overlay shadows the applied view key by key. Each shadow remembers the last block that touched it and goes
//! away when that block is applied; losing leadership drops the overlay as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use apogee_model::{GroupId, QueueId, QueueOffset, TopicId};

use super::{Entry, GroupTopic, PopStore, When, apply};
use crate::leader::Ticket;
use crate::record::{Ended, HalfEnd, QueueOf, Record};

/// Uncommitted changes of all queues and groups.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    next_offsets: BTreeMap<(TopicId, QueueId), (Ticket, QueueOffset)>,
    mins: BTreeMap<(TopicId, QueueId), (Ticket, QueueOffset)>,
    pops: BTreeMap<(GroupId, TopicId), PendingPop>,
    /// Topics whose messages will be found by their keys, or will not.
    indexed: BTreeMap<TopicId, (Ticket, bool)>,
    /// The epochs that topics will ask for.
    seals: BTreeMap<TopicId, (Ticket, u32)>,
    topics: BTreeMap<TopicId, Ticket>,
    groups: BTreeMap<GroupId, Ticket>,
    touched: VecDeque<(Ticket, Touch)>,
}

/// Uncommitted changes of one group on one topic.
#[derive(Debug, Default)]
struct PendingPop {
    open: Option<Ticket>,
    cursors: BTreeMap<QueueId, (Ticket, QueueOffset)>,
    /// `None` inside: settled.
    entries: HashMap<(QueueId, QueueOffset), (Ticket, Option<Entry>)>,
}

#[derive(Debug)]
enum Touch {
    NextOffset(TopicId, QueueId),
    Min(TopicId, QueueId),
    Open(GroupId, TopicId),
    Cursor(QueueOf),
    Entry(QueueOf, QueueOffset),
    TopicName(TopicId),
    GroupName(GroupId),
    Indexed(TopicId),
    Seal(TopicId),
}

impl Overlay {
    /// Shadows what `record`, proposed in `block`, will change.
    pub(crate) fn propose(&mut self, record: &Record, block: Ticket, at: When, applied: Option<&GroupTopic>) {
        match record {
            Record::Message { topic, queue, offset, .. } => {
                self.next_offsets.insert((*topic, *queue), (block, offset.next()));
                self.touched.push_back((block, Touch::NextOffset(*topic, *queue)));
            }
            Record::DeadLetter(dead) => {
                self.next_offsets.insert((dead.topic, dead.queue), (block, dead.offset.next()));
                self.touched.push_back((block, Touch::NextOffset(dead.topic, dead.queue)));
                self.shadow(dead.origin.group, dead.origin.topic, record, block, at, applied);
            }
            Record::TopicName { id, .. } => {
                self.topics.insert(*id, block);
                self.touched.push_back((block, Touch::TopicName(*id)));
            }
            Record::GroupName { id, .. } => {
                self.groups.insert(*id, block);
                self.touched.push_back((block, Touch::GroupName(*id)));
            }
            Record::Open { group, topic, .. } | Record::Reset { group, topic, .. } => {
                self.shadow(*group, *topic, record, block, at, applied);
            }
            Record::Lease(lease) => self.shadow(lease.queue.group, lease.queue.topic, record, block, at, applied),
            Record::Settle { queue, .. } | Record::Change { queue, .. } | Record::Release { queue, .. } => {
                self.shadow(queue.group, queue.topic, record, block, at, applied);
            }
            Record::Trim { topic, queue, min } => {
                let known = self.mins.entry((*topic, *queue)).or_insert((block, *min));
                *known = (block, known.1.max(*min));
                self.touched.push_back((block, Touch::Min(*topic, *queue)));
            }
            Record::Fire(fire) => {
                let end = QueueOffset(fire.first.0 + u64::try_from(fire.messages.len()).expect("few messages"));
                self.next_offsets.insert((fire.topic, fire.queue), (block, end));
                self.touched.push_back((block, Touch::NextOffset(fire.topic, fire.queue)));
            }
            Record::HalfEnd(HalfEnd { kept, how: Ended::Committed(offset), .. }) => {
                self.next_offsets.insert((kept.topic, kept.queue), (block, offset.next()));
                self.touched.push_back((block, Touch::NextOffset(kept.topic, kept.queue)));
            }
            // The leader remembers elsewhere what is decided about them.
            Record::Kept(_)
            | Record::Carried(_)
            | Record::Recall(_)
            | Record::Half(_)
            | Record::HalfCarried(_)
            | Record::HalfChecked(_)
            | Record::HalfEnd(_)
            | Record::Close { .. } => {}
            // Nothing is decided by what groups commit themselves.
            Record::CommitOffset(_) | Record::ForgetOffsets(_) => {}
            // The leader remembers elsewhere what it decided about lite topics.
            Record::LiteTopic(_) | Record::LiteExpiry(_) | Record::LiteGone(_) | Record::LiteSubscribe(_) => {}
            Record::Seal { topic, epoch } => {
                self.seals.insert(*topic, (block, *epoch));
                self.touched.push_back((block, Touch::Seal(*topic)));
            }
            Record::KeyIndex { topic, on } => {
                self.indexed.insert(*topic, (block, *on));
                self.touched.push_back((block, Touch::Indexed(*topic)));
            }
        }
    }

    fn shadow(
        &mut self,
        group: GroupId,
        topic: TopicId,
        record: &Record,
        block: Ticket,
        at: When,
        applied: Option<&GroupTopic>,
    ) {
        let pending = self.pops.entry((group, topic)).or_default();
        apply(record, at, &mut Shadow { applied, pending, touched: &mut self.touched, block, group, topic });
    }

    /// Forgets what proposals up to `applied` had changed: the view shows it now.
    pub(crate) fn retire(&mut self, applied: Ticket) {
        while let Some((_, touch)) = self.touched.pop_front_if(|(block, _)| *block <= applied) {
            match touch {
                Touch::NextOffset(topic, queue) => retire_key(&mut self.next_offsets, &(topic, queue), applied),
                Touch::Min(topic, queue) => retire_key(&mut self.mins, &(topic, queue), applied),
                Touch::TopicName(id) => drop(self.topics.remove(&id)),
                Touch::GroupName(id) => drop(self.groups.remove(&id)),
                Touch::Seal(id) => retire_key(&mut self.seals, &id, applied),
                Touch::Indexed(id) => retire_key(&mut self.indexed, &id, applied),
                Touch::Open(group, topic) => self.retire_pop(group, topic, |pending| pending.open = None),
                Touch::Cursor(of) => {
                    self.retire_pop(of.group, of.topic, |pending| retire_key(&mut pending.cursors, &of.queue, applied));
                }
                Touch::Entry(of, offset) => self.retire_pop(of.group, of.topic, |pending| {
                    let key = (of.queue, offset);
                    if pending.entries.get(&key).is_some_and(|(block, _)| *block <= applied) {
                        pending.entries.remove(&key);
                    }
                }),
            }
        }
    }

    fn retire_pop(&mut self, group: GroupId, topic: TopicId, retire: impl FnOnce(&mut PendingPop)) {
        if let Some(pending) = self.pops.get_mut(&(group, topic)) {
            retire(pending);
            if pending.open.is_none() && pending.cursors.is_empty() && pending.entries.is_empty() {
                self.pops.remove(&(group, topic));
            }
        }
    }

    /// The offset the next message of a queue gets, if uncommitted messages moved it.
    pub(crate) fn next_offset(&self, topic: TopicId, queue: QueueId) -> Option<QueueOffset> {
        self.next_offsets.get(&(topic, queue)).map(|(_, offset)| *offset)
    }

    /// The first offset a queue will hold, if uncommitted trims moved it.
    pub(crate) fn min(&self, topic: TopicId, queue: QueueId) -> Option<QueueOffset> {
        self.mins.get(&(topic, queue)).map(|(_, min)| *min)
    }

    /// Groups for which uncommitted deliveries moved the cursor of a queue.
    pub(crate) fn readers(&self, topic: TopicId, queue: QueueId) -> impl Iterator<Item = GroupId> + '_ {
        let of_topic = self.pops.iter().filter(move |((_, of), _)| *of == topic);
        of_topic.filter(move |(_, pending)| pending.cursors.contains_key(&queue)).map(|((group, _), _)| *group)
    }

    /// The first message of a queue that an uncommitted delivery of any group holds.
    pub(crate) fn first_held(&self, topic: TopicId, queue: QueueId) -> Option<QueueOffset> {
        let of_topic = self.pops.iter().filter(|((_, of), _)| *of == topic);
        let held = of_topic.flat_map(|(_, pending)| &pending.entries);
        held.filter(|((of, _), (_, entry))| *of == queue && entry.is_some()).map(|((_, offset), _)| *offset).min()
    }

    pub(crate) fn knows_topic(&self, id: TopicId) -> bool {
        self.topics.contains_key(&id)
    }

    /// Whether messages of a topic will be found by their keys, if that is about to change.
    pub(crate) fn is_indexed(&self, id: TopicId) -> Option<bool> {
        self.indexed.get(&id).map(|(_, on)| *on)
    }

    /// The epoch that message groups of a topic will have to be hashed over, if that is about to change.
    pub(crate) fn sealed(&self, id: TopicId) -> Option<u32> {
        self.seals.get(&id).map(|(_, epoch)| *epoch)
    }

    pub(crate) fn knows_group(&self, id: GroupId) -> bool {
        self.groups.contains_key(&id)
    }

    pub(crate) fn is_open(&self, group: GroupId, topic: TopicId) -> bool {
        self.pops.get(&(group, topic)).is_some_and(|pending| pending.open.is_some())
    }

    /// The uncommitted state of a message: `None` if no uncommitted record touches it.
    pub(crate) fn entry(&self, of: QueueOf, offset: QueueOffset) -> Option<Option<Entry>> {
        let pending = self.pops.get(&(of.group, of.topic))?;
        pending.entries.get(&(of.queue, offset)).map(|(_, entry)| *entry)
    }

    /// Messages of a group on a topic that uncommitted records touch.
    pub(crate) fn entries(
        &self,
        group: GroupId,
        topic: TopicId,
    ) -> impl Iterator<Item = (QueueId, QueueOffset, Option<Entry>)> + '_ {
        let pending = self.pops.get(&(group, topic)).into_iter().flat_map(|pending| &pending.entries);
        pending.map(|((queue, offset), (_, entry))| (*queue, *offset, *entry))
    }

    pub(crate) fn cursor(&self, of: QueueOf) -> Option<QueueOffset> {
        self.pops.get(&(of.group, of.topic))?.cursors.get(&of.queue).map(|(_, cursor)| *cursor)
    }

    /// Uncommitted deliveries of a group on a topic under an attempt id.
    pub(crate) fn attempt(&self, group: GroupId, topic: TopicId, attempt_id: u64) -> Vec<(QueueId, QueueOffset)> {
        let Some(pending) = self.pops.get(&(group, topic)) else { return Vec::new() };
        let same = |entry: &Option<Entry>| entry.is_some_and(|entry| entry.attempt_id == attempt_id);
        let mut found: Vec<_> =
            pending.entries.iter().filter(|(_, (_, entry))| same(entry)).map(|(key, _)| *key).collect();
        found.sort_unstable();
        found
    }
}

fn retire_key<K: Ord, V>(map: &mut BTreeMap<K, (Ticket, V)>, key: &K, applied: Ticket) {
    if map.get(key).is_some_and(|(block, _)| *block <= applied) {
        map.remove(key);
    }
}

/// Reads through the overlay into the applied view; writes stay in the overlay.
struct Shadow<'a> {
    applied: Option<&'a GroupTopic>,
    pending: &'a mut PendingPop,
    touched: &'a mut VecDeque<(Ticket, Touch)>,
    block: Ticket,
    group: GroupId,
    topic: TopicId,
}

impl Shadow<'_> {
    fn of(&self, queue: QueueId) -> QueueOf {
        QueueOf { group: self.group, topic: self.topic, queue }
    }

    fn set(&mut self, queue: QueueId, offset: QueueOffset, entry: Option<Entry>) {
        self.pending.entries.insert((queue, offset), (self.block, entry));
        self.touched.push_back((self.block, Touch::Entry(self.of(queue), offset)));
    }
}

impl PopStore for Shadow<'_> {
    fn entry(&self, queue: QueueId, offset: QueueOffset) -> Option<Entry> {
        match self.pending.entries.get(&(queue, offset)) {
            Some((_, entry)) => *entry,
            None => self.applied?.entry(queue, offset),
        }
    }

    fn offsets(&self, queue: QueueId) -> Vec<QueueOffset> {
        let pending = self.pending.entries.iter().filter(|((of, _), _)| *of == queue);
        let mut offsets: BTreeSet<_> = self.applied.into_iter().flat_map(|applied| applied.offsets(queue)).collect();
        for ((_, offset), (_, entry)) in pending {
            match entry {
                Some(_) => offsets.insert(*offset),
                None => offsets.remove(offset),
            };
        }
        offsets.into_iter().collect()
    }

    fn cursor(&self, queue: QueueId) -> QueueOffset {
        match self.pending.cursors.get(&queue) {
            Some((_, cursor)) => *cursor,
            None => self.applied.map_or(QueueOffset(0), |applied| applied.cursor(queue)),
        }
    }

    fn put(&mut self, queue: QueueId, offset: QueueOffset, entry: Entry) {
        self.set(queue, offset, Some(entry));
    }

    fn remove(&mut self, queue: QueueId, offset: QueueOffset) {
        self.set(queue, offset, None);
    }

    fn set_cursor(&mut self, queue: QueueId, cursor: QueueOffset) {
        self.pending.cursors.insert(queue, (self.block, cursor));
        self.touched.push_back((self.block, Touch::Cursor(self.of(queue))));
    }

    fn set_open(&mut self) {
        self.pending.open = Some(self.block);
        self.touched.push_back((self.block, Touch::Open(self.group, self.topic)));
    }
}
