//! Who can ask producers about their transactions, and what they are to ask: every proxy that has producers has a seat,
//! and the leader deals half messages out to those who have a producer of the topic, in rotation.
//!
//! So much is under way to a seat and no more. What somebody says was asked makes room, and so does time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_model::store::{CheckBack, HalfId};
use apogee_model::{StoredMessage, TopicId};
use futures::future::BoxFuture;
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::leader::Ask;
use crate::views::Place;
use crate::views::half::HalfRow;

/// Half messages under way to one seat, and their bytes unless it is only one.
const UNDER_WAY_MAX: usize = 256;
const UNDER_WAY_BYTES_MAX: u64 = 4 << 20;

/// A half message whose producer is to be asked.
pub(crate) type Due = (HalfId, HalfRow);

/// All seats of a replica, whoever leads. They are dealt to while it does.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The newest seat.
    last: u64,
    /// The one that was dealt to last.
    turn: u64,
    seats: BTreeMap<u64, Seat>,
}

#[derive(Debug, Default)]
struct Seat {
    topics: BTreeSet<TopicId>,
    /// Dealt and not taken.
    waiting: VecDeque<Due>,
    under_way: usize,
    bytes: u64,
    came: Arc<Notify>,
}

impl Seat {
    fn has_room(&self, bytes: u64) -> bool {
        let fits = self.under_way == 0 || self.bytes + bytes <= UNDER_WAY_BYTES_MAX;
        fits && self.under_way < UNDER_WAY_MAX
    }
}

impl Desk {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sit(&self, topics: BTreeSet<TopicId>) -> (u64, Arc<Notify>) {
        let mut inner = self.inner();
        inner.last += 1;
        let (id, seat) = (inner.last, Seat { topics, ..Seat::default() });
        let came = Arc::clone(&seat.came);
        inner.seats.insert(id, seat);
        (id, came)
    }

    fn take(&self, seat: u64) -> Option<Due> {
        self.inner().seats.get_mut(&seat)?.waiting.pop_front()
    }

    /// Topics with producers somewhere.
    pub(crate) fn topics(&self) -> BTreeSet<TopicId> {
        self.inner().seats.values().flat_map(|seat| &seat.topics).copied().collect()
    }

    pub(crate) fn has(&self, seat: u64) -> bool {
        self.inner().seats.contains_key(&seat)
    }

    /// Deals to the next seat that knows the topic and has room; says which.
    pub(crate) fn deal(&self, due: Due) -> Option<u64> {
        let (_, HalfRow { kept, .. }) = &due;
        let (topic, bytes) = (kept.topic, u64::from(kept.len));
        let mut inner = self.inner();
        let turn = inner.turn;
        let behind = inner.seats.range((Bound::Excluded(turn), Bound::Unbounded));
        let mut in_turn = behind.chain(inner.seats.range(..=turn));
        let (id, _) = in_turn.find(|(_, seat)| seat.topics.contains(&topic) && seat.has_room(bytes))?;
        let id = *id;
        inner.turn = id;
        let seat = inner.seats.get_mut(&id)?;
        (seat.under_way, seat.bytes) = (seat.under_way + 1, seat.bytes + bytes);
        seat.waiting.push_back(due);
        seat.came.notify_one();
        Some(id)
    }

    /// What was dealt to a seat is under way no more.
    pub(crate) fn take_back(&self, seat: u64, id: HalfId, bytes: u32) {
        if let Some(seat) = self.inner().seats.get_mut(&seat) {
            seat.under_way = seat.under_way.saturating_sub(1);
            seat.bytes = seat.bytes.saturating_sub(u64::from(bytes));
            seat.waiting.retain(|(other, _)| *other != id);
        }
    }

    /// Whoever dealt leads no more.
    pub(crate) fn clear(&self) {
        for seat in self.inner().seats.values_mut() {
            (seat.under_way, seat.bytes) = (0, 0);
            seat.waiting.clear();
        }
    }
}

/// What the producers of one proxy are to be asked. Dropped, it has none.
pub struct Checks {
    engine: Engine,
    seat: u64,
    came: Arc<Notify>,
    /// A message that is being read.
    reading: Option<BoxFuture<'static, Option<CheckBack>>>,
}

impl Checks {
    pub(crate) fn new(engine: Engine, topics: BTreeSet<TopicId>) -> Self {
        let (seat, came) = engine.desk.sit(topics);
        engine.tell(Ask::Producers);
        Self { engine, seat, came, reading: None }
    }

    /// The proxy has producers of these topics from now on, and of no others.
    pub fn set_topics(&self, topics: BTreeSet<TopicId>) {
        if let Some(seat) = self.engine.desk.inner().seats.get_mut(&self.seat) {
            seat.topics = topics;
        }
        self.engine.tell(Ask::Producers);
    }

    /// Waits until a producer is to be asked. Whoever reached one says so with [`Engine::checked`]; what nobody says
    /// it of comes again after some seconds, to another proxy if there is one.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> CheckBack {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = reading.await;
                self.reading = None;
                if let Some(check) = read {
                    return check;
                }
            }
            let came = self.came.notified();
            match self.engine.desk.take(self.seat) {
                Some(due) => self.reading = Some(Box::pin(read(self.engine.clone(), due))),
                None => came.await,
            }
        }
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.engine.desk.inner().seats.remove(&self.seat);
        self.engine.tell(Ask::Producers);
    }
}

/// Nothing when it cannot be read now: it comes again.
async fn read(engine: Engine, (id, row): Due) -> Option<CheckBack> {
    let HalfRow { kept, stored_at, checks, .. } = row;
    match read_half(&engine, &row).await {
        Ok(message) => {
            Some(CheckBack { topic: kept.topic, queue: kept.queue, id, check: checks + 1, stored_at, message })
        }
        Err(error) => {
            tracing::warn!(event = "half_message_not_read", half = id.0, %error, "a producer is not asked now");
            None
        }
    }
}

pub(crate) async fn read_half(
    engine: &Engine,
    row: &HalfRow,
) -> Result<StoredMessage, apogee_model::store::StoreError> {
    let HalfRow { kept, stored_at, .. } = *row;
    let (lsn, len, tag_hash, group_hash) = (kept.lsn, kept.len, kept.tag_hash, kept.group_hash);
    engine.read(&Place { lsn, len, tag_hash, group_hash, stored_at, flags: 0, visible: lsn }).await
}

#[cfg(test)]
mod tests {
    use apogee_model::{QueueId, Timestamp};

    use super::*;
    use crate::block::Lsn;
    use crate::views::kept::KeptRow;

    fn due(id: u64, topic: u32, len: u32) -> Due {
        let kept = KeptRow { topic: TopicId(topic), queue: QueueId(0), lsn: Lsn(0), len, tag_hash: 0, group_hash: 0 };
        let (stored_at, checked_at) = (Timestamp(0), Timestamp(0));
        (HalfId(id), HalfRow { kept, stored_at, check_after_ms: 0, checks: 0, checked_at })
    }

    fn sit(desk: &Desk, topics: &[u32]) -> u64 {
        desk.sit(topics.iter().copied().map(TopicId).collect()).0
    }

    #[test]
    fn seats_with_the_topic_have_their_turns() {
        let desk = Desk::default();
        let seats = [sit(&desk, &[1]), sit(&desk, &[2]), sit(&desk, &[1, 2])];
        let dealt: Vec<_> = (0..4).map(|id| desk.deal(due(id, 1, 10))).collect();
        assert_eq!(dealt, [Some(seats[0]), Some(seats[2]), Some(seats[0]), Some(seats[2])]);
        assert_eq!(desk.deal(due(9, 3, 10)), None);
        assert_eq!(desk.topics(), [1, 2].map(TopicId).into());
    }

    #[test]
    fn so_much_is_under_way_and_no_more() {
        let desk = Desk::default();
        let seat = sit(&desk, &[1]);
        let large = u32::try_from(UNDER_WAY_BYTES_MAX).unwrap() + 1;
        assert_eq!(desk.deal(due(1, 1, large)), Some(seat), "one always fits");
        assert_eq!(desk.deal(due(2, 1, 1)), None);
        desk.take_back(seat, HalfId(1), large);
        assert_eq!(desk.take(seat), None, "it was not taken, and is not to be asked any more");
        let fit = (0..1000).filter(|id| desk.deal(due(*id, 1, 1)).is_some()).count();
        assert_eq!(fit, UNDER_WAY_MAX);
        desk.clear();
        assert_eq!(desk.deal(due(3, 1, 1)), Some(seat));
    }
}
