//! Reading the ConsumeQueue: new rows from the tail, older ones from the views, some hundred at a time.
//!
//! A consumer that catches up asks for the rows behind those it got, so what one scan of the views finds is kept for
//! the next call. The views are read while the leader decides; a read is bounded, and a live consumer causes none.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_model::{QueueId, QueueOffset, TopicId};

use super::State;
use crate::views::{Place, Table, Views, ViewsError, consume_queue_key, offset_of_key};

/// Rows one scan of the views reads: those of one chunk.
const CHUNK: u64 = 512;
/// Chunks that are kept, some 2 MiB.
const CHUNKS: usize = 128;

/// Looks at one row; `None` for a row without sense.
type VisitOrNot<'a> = dyn FnMut(&[u8], &[u8]) -> Option<ControlFlow<()>> + 'a;

/// Rows of a queue without a gap, up to the end of their chunk or of what the views had.
struct Chunk {
    queue: (TopicId, QueueId),
    first: QueueOffset,
    places: Vec<Place>,
}

impl Chunk {
    /// The rows from `offset` on; none when it is elsewhere.
    fn from(&self, offset: QueueOffset) -> &[Place] {
        let skip = offset.0.checked_sub(self.first.0).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.places.get(skip..)).unwrap_or_default()
    }
}

/// The views, and what was read of them lately.
pub(super) struct ViewReader {
    views: Arc<dyn Views>,
    /// Newest first.
    chunks: Mutex<VecDeque<Arc<Chunk>>>,
    failure: Mutex<Option<ViewsError>>,
}

impl ViewReader {
    pub(super) fn new(views: Arc<dyn Views>) -> Self {
        Self { views, chunks: Mutex::default(), failure: Mutex::default() }
    }

    pub(super) fn views(&self) -> &Arc<dyn Views> {
        &self.views
    }

    pub(super) fn failure(&self) -> Option<ViewsError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A chunk with the row at `offset`; the views have all rows of `held`. `None` is a failure, which is noted.
    fn chunk(&self, queue: (TopicId, QueueId), offset: QueueOffset, held: Range<QueueOffset>) -> Option<Arc<Chunk>> {
        let mut chunks = self.chunks();
        let holds = |chunk: &Arc<Chunk>| chunk.queue == queue && !chunk.from(offset).is_empty();
        if let Some(at) = chunks.iter().position(holds) {
            let found = chunks.remove(at)?;
            chunks.push_front(Arc::clone(&found));
            return Some(found);
        }
        let first = offset.0 - offset.0 % CHUNK;
        let (first, end) = (first.max(held.start.0), first.saturating_add(CHUNK).min(held.end.0));
        let chunk = Arc::new(self.read_or_note(queue, QueueOffset(first), QueueOffset(end))?);
        chunks.truncate(CHUNKS - 1);
        chunks.push_front(Arc::clone(&chunk));
        Some(chunk)
    }

    /// One row that the views have, read by itself. `None` is a failure, which is noted.
    fn row(&self, queue: (TopicId, QueueId), offset: QueueOffset) -> Option<Place> {
        self.read_or_note(queue, offset, offset.next())?.places.first().copied()
    }

    /// Visits rows of a small table. A failure ends this, and so does a row without sense; both are noted.
    pub(super) fn scan_or_note(&self, table: Table, from: &[u8], to: &[u8], visit: &mut VisitOrNot<'_>) {
        let mut bad = false;
        let scanned = self.views.scan(table, from, to, &mut |key, row| {
            visit(key, row).unwrap_or_else(|| {
                bad = true;
                ControlFlow::Break(())
            })
        });
        let senseless = || ViewsError::damaged(format!("a row of table {} cannot be read", table.name()));
        if let Some(why) = scanned.err().or_else(|| bad.then(senseless)) {
            self.note(why);
        }
    }

    fn note(&self, why: ViewsError) {
        if let ViewsError::Damaged { why } = &why {
            self.views.distrust(why);
        }
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    fn read_or_note(&self, queue: (TopicId, QueueId), first: QueueOffset, end: QueueOffset) -> Option<Chunk> {
        self.read(queue, first, end).map_err(|why| self.note(why)).ok()
    }

    fn read(
        &self,
        (topic, queue): (TopicId, QueueId),
        first: QueueOffset,
        end: QueueOffset,
    ) -> Result<Chunk, ViewsError> {
        let key = |offset| consume_queue_key(topic, queue, offset);
        let (mut places, mut expected) = (Vec::new(), first);
        self.views.scan(Table::ConsumeQueue, &key(first), &key(end), &mut |key, row| match Place::decode(row) {
            Some(place) if offset_of_key(key) == Some(expected) => {
                places.push(place);
                expected = expected.next();
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        })?;
        if expected != end {
            let why = format!("queue {queue} of topic {topic} has no sound row at offset {expected}");
            return Err(ViewsError::Damaged { why });
        }
        Ok(Chunk { queue: (topic, queue), first, places })
    }

    fn chunks(&self) -> MutexGuard<'_, VecDeque<Arc<Chunk>>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Where the message at one offset is.
    pub(crate) fn place(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Option<Place> {
        let mut found = None;
        self.places(topic, queue, offset, offset.next(), |_, place| {
            found = Some(place);
            ControlFlow::Break(())
        });
        found
    }

    /// Where the message at one offset is, for somebody who jumps about in a queue: what is kept for those who read it
    /// in order is left alone.
    pub(crate) fn glance(&self, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Option<Place> {
        let key = (topic, queue);
        let state = self.queues.get(&key).filter(|state| state.min <= offset && offset < state.next)?;
        if offset >= self.tail.first(key).unwrap_or(state.next) {
            return self.tail.from(key, offset).next().copied();
        }
        self.reader.row(key, offset)
    }

    /// Visits the messages of a queue with `from <= offset < to` in order. Ends early when the views cannot be read,
    /// see [`State::failure`].
    pub(crate) fn places(
        &self,
        topic: TopicId,
        queue: QueueId,
        from: QueueOffset,
        to: QueueOffset,
        mut visit: impl FnMut(QueueOffset, Place) -> ControlFlow<()>,
    ) {
        let key = (topic, queue);
        let Some(state) = self.queues.get(&key) else { return };
        let (mut at, to) = (from.max(state.min), to.min(state.next));
        let tail = self.tail.first(key).unwrap_or(state.next);
        while at < to.min(tail) {
            let Some(chunk) = self.reader.chunk(key, at, state.min..tail) else { return };
            for place in chunk.from(at) {
                if at >= to || visit(at, *place).is_break() {
                    return;
                }
                at = at.next();
            }
        }
        if at < to {
            for place in self.tail.from(key, at) {
                if at >= to || visit(at, *place).is_break() {
                    return;
                }
                at = at.next();
            }
        }
    }
}
