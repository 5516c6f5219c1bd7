//! Where the old messages of a queue end, and what a leader makes of a whole log.

use std::collections::BTreeMap;
use std::sync::Arc;

use apogee_model::store::{Append, GroupRef, LeaseTerms, Pop, RequestId, Reset, ResetTo, TopicRef};
use apogee_model::{
    ClientId, ConsumerGroup, DeliveryOrder, Epoch, Filter, GroupId, InvisibleDuration, StoredMessage, Topic,
};
use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::{Semaphore, oneshot};

use super::super::chain::Chain;
use super::super::{Answer, Ask, Granted, Moved, Terms, Ticket};
use super::*;
use crate::state::State;
use crate::views::MemoryViews;

const SEGMENT: u64 = 4096;
const HOUR: u64 = 3_600_000;

proptest! {
    #[test]
    fn the_end_of_old_is_found_with_few_looks(from in 0..50u64, old in 0..5000u64, young in 0..5000u64) {
        let (end, to) = (from + old, from + old + young);
        let mut looks = 0;
        let found = end_of_old(QueueOffset(from), QueueOffset(to), |offset| {
            assert!((from..to).contains(&offset.0));
            looks += 1;
            Some(offset.0 < end)
        });
        prop_assert_eq!(found, QueueOffset(end));
        prop_assert!(looks <= 2 * (old + 2).ilog2() + 2, "{} looks for {}", looks, old);
    }

    #[test]
    fn nothing_young_goes_when_looks_run_out(old in 0..5000u64, young in 0..50u64, looks in 0..12usize) {
        let mut left = looks;
        let found = end_of_old(QueueOffset(0), QueueOffset(old + young), |offset| {
            left = left.checked_sub(1)?;
            Some(offset.0 < old)
        });
        prop_assert!(found.0 <= old);
        prop_assert!(looks == 0 || old == 0 || found.0 > 0, "some progress is made");
    }
}

#[test]
fn the_cut_is_the_start_of_a_segment_and_never_inside_the_newest() {
    let cut = |bytes, end| Retention { bytes, ..Retention::default() }.cut(Lsn(end), 100).0;
    assert_eq!(cut(None, 1000), 0);
    assert_eq!(cut(Some(300), 300), 0);
    assert_eq!(cut(Some(300), 301), 100);
    assert_eq!(cut(Some(300), 650), 400);
    assert_eq!(cut(Some(10), 650), 600, "what is being written stays");
}

/// A leader and the log it writes, on clocks of the test.
struct Site {
    leader: Leader,
    now: Now,
    chain: Chain,
    room: Arc<Semaphore>,
}

fn rules(hours: u64, bytes: Option<u64>) -> Retention {
    Retention { time: Duration::from_millis(hours * HOUR), bytes, every: Duration::from_secs(10) }
}

fn topic() -> TopicRef {
    TopicRef { id: TopicId(1), name: Topic::parse("", "orders").unwrap(), queues: 3 }
}

fn group() -> GroupRef {
    GroupRef { id: GroupId(1), name: ConsumerGroup::parse("", "g").unwrap() }
}

impl Site {
    fn new(retention: Retention) -> Self {
        let now = Now { wall: Timestamp(1_000_000_000), monotonic: Monotonic::from_duration(Duration::ZERO) };
        let state = State::new(Arc::new(MemoryViews::default()));
        let terms = Terms { in_flight_max: 1000, retention, segment_bytes: SEGMENT, lite_topics_max: 10 };
        let leader = Leader::new(state, Epoch(1), Ticket(1), terms, now);
        Self { leader, now, chain: Chain::default(), room: Arc::new(Semaphore::new(1 << 20)) }
    }

    fn pass(&mut self, ms: u64) {
        self.now.wall = self.now.wall.plus(Duration::from_millis(ms));
        self.now.monotonic = self.now.monotonic + Duration::from_millis(ms);
    }

    /// Commits what was proposed; gives the answers.
    fn commit(&mut self) -> Vec<Answer> {
        while let Some((ticket, draft)) = self.leader.take_block(true) {
            // As the layout does: blocks do not reach over the end of a segment.
            let len = u64::try_from(draft.bytes.len()).unwrap();
            if self.chain.end % SEGMENT + len > SEGMENT {
                self.chain.end = self.chain.end.next_multiple_of(SEGMENT);
            }
            let block = self.chain.seal(1, draft);
            self.leader.committed(&block, Some(ticket), self.now).unwrap();
        }
        self.leader.take_answers(Ticket(u64::MAX >> 1), Ticket(0)).into_iter().collect()
    }

    fn send(&mut self, queue: u16, bytes: usize) {
        let message = StoredMessage { body_part: vec![7; bytes].into(), properties_part: Bytes::new() };
        let request = RequestId { proxy_incarnation: 0, sequence: 0 };
        let append = Append {
            topic: topic(),
            queue: QueueId(queue),
            message,
            request,
            due: None,
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        let room = Arc::clone(&self.room).try_acquire_many_owned(1).unwrap();
        let (reply, _answer) = oneshot::channel();
        let ask = Ask::Append { messages: vec![append], room, reply };
        self.leader.decide(ask, self.now);
    }

    fn reset_to_earliest(&mut self) {
        let reset = Reset { group: group(), topic: topic(), to: ResetTo::Earliest, dry_run: false };
        let (reply, _answer) = oneshot::channel();
        self.leader.decide(Ask::Reset { reset, reply }, self.now);
    }

    fn pop(&mut self, batch: usize) -> oneshot::Receiver<Granted> {
        let group = group();
        let lease = LeaseTerms::Fixed(InvisibleDuration::for_receive(Duration::from_secs(30)).unwrap());
        let client = ClientId::parse("c@1@1").unwrap();
        let pop = Pop {
            group,
            topic: topic(),
            filter: Filter::default(),
            batch,
            lease,
            attempt_id: None,
            client,
            dead_letters: None,
            order: DeliveryOrder::Concurrent,
            priority: None,
            lite: false,
        };
        let (reply, granted) = oneshot::channel();
        if let Some(answer) = self.leader.decide(Ask::Pop { pop, reply }, self.now) {
            answer.give();
        }
        granted
    }

    fn ack(&mut self, granted: &Granted) {
        for grant in &granted.grants {
            let (reply, _answer) = oneshot::channel();
            self.leader.decide(Ask::Settle { key: grant.key, what: Moved::Acked, reply }, self.now);
        }
    }

    /// Gives answers until there are none.
    fn settle_down(&mut self) {
        self.commit().into_iter().for_each(|answer| drop(answer.give()));
    }

    /// A whole walk, and what it proposed.
    fn walk(&mut self) {
        self.pass(10_000);
        self.leader.tick(self.now);
        while self.leader.retention.at.is_some() {
            self.pass(10);
            self.leader.tick(self.now);
        }
    }

    fn held(&self, queue: u16) -> (u64, u64) {
        let state = self.leader.state.queue(TopicId(1), QueueId(queue));
        (state.min.0, state.next.0)
    }
}

#[test]
fn messages_go_when_their_time_has_come_and_not_before() {
    let mut site = Site::new(rules(1, None));
    for _ in 0..3 {
        site.send(0, 10);
        site.send(1, 10);
        site.settle_down();
        site.pass(HOUR / 2);
    }
    // The first are 90 minutes old, the second 60, the third 30.
    site.walk();
    site.settle_down();
    assert_eq!((site.held(0), site.held(1)), ((2, 3), (2, 3)));
    site.walk();
    assert_eq!(site.leader.open_bytes(), 0, "nothing more to do");
    site.pass(HOUR);
    site.walk();
    site.settle_down();
    assert_eq!((site.held(0), site.leader.state.oldest()), ((3, 3), None));
}

#[test]
fn a_clock_that_jumps_ahead_makes_nothing_older() {
    let mut site = Site::new(rules(1, None));
    site.send(0, 10);
    site.settle_down();
    site.now.wall = site.now.wall.plus(Duration::from_millis(1000 * HOUR));
    site.walk();
    site.settle_down();
    assert_eq!(site.held(0), (0, 1));
    site.pass(HOUR);
    site.walk();
    site.settle_down();
    assert_eq!(site.held(0), (1, 1));
}

#[test]
fn a_message_that_is_not_settled_keeps_what_is_behind_it() {
    let mut site = Site::new(rules(1, None));
    for _ in 0..10 {
        site.send(0, 10);
    }
    site.settle_down();
    let mut first = site.pop(4);
    site.settle_down();
    let first = first.try_recv().unwrap();
    assert_eq!(first.grants.len(), 4);
    let (settled, held) = (Granted { grants: first.grants[..2].to_vec(), ..Granted::default() }, &first.grants[2..]);
    site.ack(&settled);
    site.settle_down();
    // Its lease ends, nobody asks for it: it waits to be delivered again.
    site.pass(2 * HOUR);
    site.walk();
    site.settle_down();
    assert_eq!(site.held(0), (held[0].key.offset.0, 10));
    site.ack(&Granted { grants: held.to_vec(), ..Granted::default() });
    site.settle_down();
    site.walk();
    site.settle_down();
    assert_eq!(site.held(0), (10, 10), "those that nobody ever asked for go with the rest");
}

#[test]
fn a_delivery_on_its_way_to_the_log_is_not_trimmed() {
    let mut site = Site::new(rules(1, None));
    for _ in 0..6 {
        site.send(0, 10);
    }
    site.settle_down();
    site.pass(2 * HOUR);
    let mut granted = site.pop(2);
    site.walk();
    site.settle_down();
    let granted = granted.try_recv().unwrap();
    assert_eq!((granted.grants.len(), site.held(0)), (2, (0, 6)));
    site.ack(&granted);
    site.settle_down();
    site.walk();
    let mut late = site.pop(2);
    site.settle_down();
    assert_eq!(site.held(0), (6, 6));
    assert_eq!(late.try_recv().unwrap().grants.len(), 0, "the trim is on its way, so there is nothing to deliver");
}

/// It is of messages before the cursor that the log knows, and nobody holds them there.
#[test]
fn a_delivery_behind_a_reset_on_its_way_is_not_trimmed() {
    let mut site = Site::new(rules(1, None));
    for _ in 0..6 {
        site.send(0, 10);
    }
    site.settle_down();
    let mut first = site.pop(6);
    site.settle_down();
    site.ack(&first.try_recv().unwrap());
    site.settle_down();
    site.pass(2 * HOUR);
    site.reset_to_earliest();
    let mut again = site.pop(2);
    site.walk();
    site.settle_down();
    assert_eq!((again.try_recv().unwrap().grants.len(), site.held(0)), (2, (0, 6)));
}

#[test]
fn a_log_that_outgrew_its_room_loses_whoever_holds_it() {
    let mut site = Site::new(rules(72, Some(2 * SEGMENT)));
    for _ in 0..4 {
        site.send(0, 1000);
        site.settle_down();
    }
    let mut first = site.pop(1);
    site.settle_down();
    let first = first.try_recv().unwrap();
    site.walk();
    site.settle_down();
    let (min, next) = site.held(0);
    assert_eq!((min, next), (0, 4), "the log has room");
    for _ in 0..8 {
        site.send(0, 1000);
        site.settle_down();
    }
    site.walk();
    site.settle_down();
    let cut = site.leader.state.oldest().unwrap();
    assert!(
        cut.0 >= 2 * SEGMENT && cut.0 - 2 * SEGMENT < 200,
        "{cut:?} of {}: the first of its segment",
        site.chain.end
    );
    let of = QueueOf { group: GroupId(1), topic: TopicId(1), queue: QueueId(0) };
    assert_eq!(site.leader.state.unsettled(of), 0);
    site.ack(&first);
    site.settle_down();
}

#[test]
fn a_walk_over_many_queues_takes_many_turns() {
    let mut site = Site::new(rules(1, None));
    for queue in 0..500 {
        site.send(queue, 1);
    }
    site.settle_down();
    site.pass(2 * HOUR);
    let mut turns = 0;
    while site.leader.state.oldest().is_some() {
        turns += 1;
        site.pass(10);
        site.leader.tick(site.now);
        site.settle_down();
    }
    assert!((500 / LOOKS..2 * 500 / LOOKS + 4).contains(&turns), "{turns}");
}

/// What happens to a leader with three queues.
#[derive(Clone, Debug)]
enum Event {
    Send { queue: u16, bytes: usize },
    Pop { batch: usize },
    AckOldest,
    Pass { minutes: u64 },
    Commit,
    Walk,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3u16, 1..900usize).prop_map(|(queue, bytes)| Event::Send { queue, bytes }),
        3 => (1..5usize).prop_map(|batch| Event::Pop { batch }),
        2 => Just(Event::AckOldest),
        3 => (1..90u64).prop_map(|minutes| Event::Pass { minutes }),
        4 => Just(Event::Commit),
        3 => Just(Event::Walk),
    ]
}

/// A message as the model knows it: when it was stored and where.
type Stored = (Timestamp, Lsn);

/// By time, what goes is old and not held, and what is old and before the first held one goes; by size, all before the
/// cut goes.
fn check(events: Vec<Event>, retention: Retention) {
    let mut site = Site::new(retention);
    let mut batches = Vec::new();
    let mut stored: BTreeMap<(u16, u64), Stored> = BTreeMap::new();
    for event in events {
        match event {
            Event::Send { queue, bytes } => site.send(queue, bytes),
            Event::Pop { batch } => batches.push(site.pop(batch)),
            Event::AckOldest if !batches.is_empty() => {
                site.settle_down();
                if let Ok(granted) = batches.remove(0).try_recv() {
                    site.ack(&granted);
                }
            }
            Event::AckOldest => {}
            Event::Pass { minutes } => site.pass(minutes * 60_000),
            Event::Commit => site.settle_down(),
            Event::Walk => {
                site.settle_down();
                for queue in 0..3 {
                    let (min, next) = site.held(queue);
                    for offset in min..next {
                        let place = site.leader.state.place(TopicId(1), QueueId(queue), QueueOffset(offset)).unwrap();
                        stored.insert((queue, offset), (place.stored_at, place.lsn));
                    }
                }
                let (before, cut) = ((0..3).map(|queue| site.held(queue)), retention.cut(Lsn(site.chain.end), SEGMENT));
                let before: Vec<_> = before.collect();
                let held: Vec<_> =
                    (0..3).map(|queue| site.leader.first_held(TopicId(1), QueueId(queue)).map(|at| at.0)).collect();
                site.walk();
                let now = site.now.wall;
                site.settle_down();
                for (queue, (min, next)) in (0..3u16).zip(before) {
                    let nth = usize::from(queue);
                    let held = held[nth].unwrap_or(next);
                    let old = |offset: &u64| {
                        let (at, lsn) = stored[&(queue, *offset)];
                        lsn < cut || now.since(at) > retention.time && *offset < held
                    };
                    let expected = (min..next).take_while(old).last().map_or(min, |last| last + 1);
                    assert_eq!(site.held(queue), (expected, next), "queue {queue}, held from {held}, cut {cut:?}");
                }
            }
        }
        let state = &site.leader.state;
        for (_, pop) in state.pops.of_topic(TopicId(1)) {
            for (queue, entries) in &pop.queues {
                let min = state.queue(TopicId(1), *queue).min;
                assert!(entries.entries.keys().all(|offset| *offset >= min), "a delivery of a message that is gone");
            }
        }
    }
}

proptest! {
    #[test]
    fn what_goes_is_what_the_rules_say(events in proptest::collection::vec(event(), 1..120), room in 0..4u64) {
        check(events, rules(2, (room > 0).then_some(room * SEGMENT)));
    }
}
