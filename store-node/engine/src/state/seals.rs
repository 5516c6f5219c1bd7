//! Topics whose message groups are hashed over other queues than once.

use std::collections::{BTreeMap, BTreeSet};

use apogee_model::{GroupId, QueueId, QueueOffset, TopicId};

use super::State;
use crate::views::rows::{self, SealRow};
use crate::views::{Batch, Table};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Seals {
    topics: BTreeMap<TopicId, SealRow>,
    dirty: BTreeSet<TopicId>,
}

impl Seals {
    /// Rows that a batch would hold.
    pub(super) fn untaken(&self) -> usize {
        self.dirty.len()
    }

    pub(super) fn take(&mut self, batch: &mut Batch) {
        for topic in std::mem::take(&mut self.dirty) {
            if let Some(seal) = self.topics.get(&topic) {
                batch.put(Table::Name, &rows::seal_key(topic), |row| rows::put_seal(row, seal));
            }
        }
    }

    pub(super) fn load(&mut self, topic: TopicId, seal: SealRow) {
        self.topics.insert(topic, seal);
    }

    pub(super) fn dump(&self, lines: &mut Vec<String>) {
        lines.extend(self.topics.iter().map(|(topic, seal)| format!("seal {topic} {seal:?}")));
    }
}

impl State {
    /// What the queues hold now has to be settled before messages of this epoch come.
    pub(super) fn seal(&mut self, topic: TopicId, epoch: u32) {
        if epoch > self.sealed(topic) {
            let ends = self.queues_of(topic).map(|(queue, state)| (queue, state.next)).collect();
            self.seals.topics.insert(topic, SealRow { epoch, ends });
            self.seals.dirty.insert(topic);
        }
    }

    /// The epoch that message groups of a topic have to be hashed over at least.
    pub(crate) fn sealed(&self, topic: TopicId) -> u32 {
        self.seals.topics.get(&topic).map_or(0, |seal| seal.epoch)
    }

    /// Whether a group that reads a topic has settled everything that was there when it was sealed.
    pub(crate) fn is_drained(&self, group: GroupId, topic: TopicId) -> bool {
        let (Some(seal), Some(pop)) = (self.seals.topics.get(&topic), self.pops.get(&(group, topic))) else {
            return true;
        };
        let floor = |queue: QueueId| {
            let floor = pop.queues.get(&queue).map_or(QueueOffset(0), |queue| queue.floor());
            floor.max(self.queue(topic, queue).min)
        };
        !pop.open || seal.ends.iter().all(|(queue, end)| floor(*queue) >= *end)
    }
}
