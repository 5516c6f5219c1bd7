//! The newest rows of the ConsumeQueue, in memory: those the views do not have yet, and as many others as fit.

use std::collections::{BTreeMap, VecDeque};

use apogee_model::{BlockIndex, QueueId, QueueOffset, TopicId};

use crate::views::Place;

/// Bytes of rows that stay in memory although the views have them.
const BUDGET: usize = 16 << 20;
/// Batches whose rows are told apart; the oldest is dropped when there are more.
const BATCHES: usize = 1024;
const ROW: usize = size_of::<Place>();

type Key = (TopicId, QueueId);

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    queues: BTreeMap<Key, TailQueue>,
    /// Batches that were taken and whose rows are still here, oldest first.
    batches: VecDeque<TakenBatch>,
    /// The views have all batches up to this one.
    written: BlockIndex,
    rows: usize,
    /// Rows in no batch yet.
    untaken: usize,
    budget: usize,
}

/// Offsets without a gap, up to the newest of the queue.
#[derive(Debug)]
struct TailQueue {
    first: QueueOffset,
    rows: VecDeque<Place>,
    /// The first offset in no batch yet.
    taken: QueueOffset,
}

#[derive(Debug)]
struct TakenBatch {
    index: BlockIndex,
    rows: usize,
    /// The first offset of each queue that is not in it.
    queues: Vec<(Key, QueueOffset)>,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            queues: BTreeMap::new(),
            batches: VecDeque::new(),
            written: BlockIndex(0),
            rows: 0,
            untaken: 0,
            budget: BUDGET,
        }
    }
}

impl TailQueue {
    fn next(&self) -> QueueOffset {
        QueueOffset(self.first.0 + count(self.rows.len()))
    }

    /// Drops the rows below `offset`; says how many.
    fn drop_below(&mut self, offset: QueueOffset) -> usize {
        let gone = usize::try_from(offset.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX).min(self.rows.len());
        self.rows.drain(..gone);
        self.first = QueueOffset(self.first.0 + count(gone));
        gone
    }
}

impl Tail {
    /// A row at the end of its queue.
    pub(super) fn push(&mut self, queue: Key, offset: QueueOffset, place: Place) {
        let new = || TailQueue { first: offset, rows: VecDeque::new(), taken: offset };
        let held = self.queues.entry(queue).or_insert_with(new);
        assert_eq!(held.next(), offset, "rows come without a gap");
        held.rows.push_back(place);
        self.rows += 1;
        self.untaken += 1;
    }

    /// Rows below `min` are gone for good.
    pub(super) fn trim(&mut self, queue: Key, min: QueueOffset) {
        let Some(held) = self.queues.get_mut(&queue) else { return };
        let taken = held.taken.max(min.min(held.next()));
        self.untaken -= usize::try_from(taken.0 - held.taken.0).expect("rows in memory");
        held.taken = taken;
        self.rows -= held.drop_below(min);
        if held.rows.is_empty() {
            self.queues.remove(&queue);
        }
    }

    /// The first offset of the queue that is here; everything below is in the views.
    pub(super) fn first(&self, queue: Key) -> Option<QueueOffset> {
        self.queues.get(&queue).map(|held| held.first)
    }

    /// The rows from `offset` on, which is not below [`Tail::first`].
    pub(super) fn from(&self, queue: Key, offset: QueueOffset) -> impl Iterator<Item = &Place> {
        let held = self.queues.get(&queue);
        held.into_iter().flat_map(move |held| {
            let skip = usize::try_from(offset.0.saturating_sub(held.first.0)).unwrap_or(usize::MAX);
            held.rows.range(skip.min(held.rows.len())..)
        })
    }

    /// The rows of these queues that are in no batch yet go into the batch of `index`.
    pub(super) fn take(
        &mut self,
        index: BlockIndex,
        queues: impl Iterator<Item = Key>,
        mut row: impl FnMut(Key, QueueOffset, &Place),
    ) {
        let mut batch = TakenBatch { index, rows: self.untaken, queues: Vec::new() };
        for queue in queues {
            let Some(held) = self.queues.get_mut(&queue) else { continue };
            let (taken, next) = (held.taken, held.next());
            let skip = usize::try_from(taken.0 - held.first.0).expect("rows in memory");
            for (place, offset) in held.rows.range(skip..).zip(taken.0..) {
                row(queue, QueueOffset(offset), place);
            }
            held.taken = next;
            if taken < next {
                batch.queues.push((queue, next));
            }
        }
        self.untaken = 0;
        if batch.rows > 0 {
            self.batches.push_back(batch);
        }
    }

    /// The views have the batch of `index` and those before it.
    pub(super) fn written(&mut self, index: BlockIndex) {
        self.written = self.written.max(index);
        self.evict();
    }

    /// Drops the oldest rows that the views have while there are too many.
    pub(super) fn evict(&mut self) {
        while self.rows * ROW > self.budget || self.batches.len() > BATCHES {
            let Some(batch) = self.batches.pop_front_if(|batch| batch.index <= self.written) else { return };
            for (queue, below) in batch.queues {
                let Some(held) = self.queues.get_mut(&queue) else { continue };
                self.rows -= held.drop_below(below);
                if held.rows.is_empty() {
                    self.queues.remove(&queue);
                }
            }
        }
    }

    /// Rows in no batch yet.
    pub(super) fn untaken(&self) -> usize {
        self.untaken
    }

    /// Bytes of rows that the views do not have yet.
    pub(super) fn unwritten_bytes(&self) -> usize {
        let waiting = self.batches.iter().rev().take_while(|batch| batch.index > self.written);
        (self.untaken + waiting.map(|batch| batch.rows).sum::<usize>()) * ROW
    }

    #[cfg(test)]
    pub(super) fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).expect("memory is smaller than 2^64")
}
