//! What changed since the newest batch.

use std::collections::{BTreeMap, BTreeSet};

use apogee_model::{GroupId, QueueId, QueueOffset, TopicId};

use crate::pop::{Entry, GroupTopic, PopStore, Pops};
use crate::record::QueueOf;

/// Keys of rows that are not in the views as they are in memory. The values are taken from memory when the batch is.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// And whether the views have the row, or will when the batch before is written.
    pub(super) entries: BTreeMap<(QueueOf, QueueOffset), bool>,
    pub(super) cursors: BTreeSet<QueueOf>,
    pub(super) opens: BTreeSet<(GroupId, TopicId)>,
    pub(super) queues: BTreeSet<(TopicId, QueueId)>,
    pub(super) topics: BTreeSet<TopicId>,
    pub(super) groups: BTreeSet<GroupId>,
    /// Groups whose rows go as a whole, before anything is put.
    pub(super) closed: BTreeSet<GroupId>,
    /// Trimmed queues, and whether the rows of what is gone go as a whole.
    pub(super) trimmed: BTreeMap<(TopicId, QueueId), bool>,
}

impl Dirty {
    pub(super) fn queue(&mut self, queue: (TopicId, QueueId)) {
        self.queues.insert(queue);
    }

    pub(super) fn trim(&mut self, queue: (TopicId, QueueId), as_a_whole: bool) {
        self.queues.insert(queue);
        *self.trimmed.entry(queue).or_default() |= as_a_whole;
    }

    pub(super) fn cursor(&mut self, of: QueueOf) {
        self.cursors.insert(of);
    }

    pub(super) fn topic_name(&mut self, id: TopicId) {
        self.topics.insert(id);
    }

    pub(super) fn group_name(&mut self, id: GroupId) {
        self.groups.insert(id);
    }

    /// The entry is set; `existed` says whether there was one before. What is clean and exists is in the views.
    fn put(&mut self, of: QueueOf, offset: QueueOffset, existed: bool) {
        self.entries.entry((of, offset)).or_insert(existed);
    }

    /// The entry is gone.
    pub(super) fn removed(&mut self, of: QueueOf, offset: QueueOffset) {
        use std::collections::btree_map::Entry::{Occupied, Vacant};
        match self.entries.entry((of, offset)) {
            Occupied(known) if !*known.get() => drop(known.remove()),
            Occupied(_) => {}
            Vacant(unknown) => drop(unknown.insert(true)),
        }
    }

    /// Everything of the group is gone.
    pub(super) fn close(&mut self, group: GroupId) {
        self.entries.retain(|(of, _), _| of.group != group);
        self.cursors.retain(|of| of.group != group);
        self.opens.retain(|(of, _)| *of != group);
        self.groups.insert(group);
        self.closed.insert(group);
    }

    /// Rows that a batch would hold, those of the ConsumeQueue apart.
    pub(super) fn len(&self) -> usize {
        let Self { entries, cursors, opens, queues, topics, groups, closed, trimmed: _ } = self;
        entries.len() + cursors.len() + opens.len() + queues.len() + topics.len() + groups.len() + closed.len()
    }
}

/// A group on a topic whose changes are noted.
pub(super) struct Tracked<'a> {
    store: &'a mut GroupTopic,
    dirty: &'a mut Dirty,
    group: GroupId,
    topic: TopicId,
}

impl<'a> Tracked<'a> {
    pub(super) fn or_create(pops: &'a mut Pops, dirty: &'a mut Dirty, group: GroupId, topic: TopicId) -> Self {
        if !pops.contains_key(&(group, topic)) {
            dirty.opens.insert((group, topic));
        }
        Self { store: pops.or_create(group, topic), dirty, group, topic }
    }

    pub(super) fn existing(pops: &'a mut Pops, dirty: &'a mut Dirty, group: GroupId, topic: TopicId) -> Option<Self> {
        Some(Self { store: pops.get_mut(group, topic)?, dirty, group, topic })
    }

    fn of(&self, queue: QueueId) -> QueueOf {
        QueueOf { group: self.group, topic: self.topic, queue }
    }
}

impl PopStore for Tracked<'_> {
    fn entry(&self, queue: QueueId, offset: QueueOffset) -> Option<Entry> {
        self.store.entry(queue, offset)
    }

    fn offsets(&self, queue: QueueId) -> Vec<QueueOffset> {
        self.store.offsets(queue)
    }

    fn cursor(&self, queue: QueueId) -> QueueOffset {
        self.store.cursor(queue)
    }

    fn put(&mut self, queue: QueueId, offset: QueueOffset, entry: Entry) {
        let of = self.of(queue);
        if !self.store.queues.contains_key(&queue) {
            self.dirty.cursors.insert(of);
        }
        self.dirty.put(of, offset, self.store.entry(queue, offset).is_some());
        self.store.put(queue, offset, entry);
    }

    fn remove(&mut self, queue: QueueId, offset: QueueOffset) {
        let of = self.of(queue);
        if self.store.entry(queue, offset).is_some() {
            self.dirty.removed(of, offset);
        }
        self.store.remove(queue, offset);
    }

    fn set_cursor(&mut self, queue: QueueId, cursor: QueueOffset) {
        let of = self.of(queue);
        self.dirty.cursors.insert(of);
        self.store.set_cursor(queue, cursor);
    }

    fn set_open(&mut self) {
        self.dirty.opens.insert((self.group, self.topic));
        self.store.set_open();
    }
}
