//! The state is the same however it came about: applied from the start, or loaded from views at any position and then
//! applied; on views in memory and in RocksDB; whatever was written, flushed, lost or restored in between.

mod world;

use std::ops::ControlFlow;
use std::sync::Arc;

use apogee_model::store::{HalfId, KeptId, RequestId, Resolution};
use apogee_model::{BlockIndex, QueueId, QueueOffset, Timestamp, TopicId};
use futures::executor::block_on;
use proptest::prelude::*;

use self::world::{Event, World, event};
use super::*;
use crate::block::Block;
use crate::views::tests::site::Site;
use crate::views::{Batch, END, MemoryViews, Table, consume_queue_key};

/// What happens to the views between two blocks.
#[derive(Clone, Debug)]
enum Step {
    Apply,
    TakeBatch,
    Write,
    Flush,
    Base,
    Crash,
    DamageLive,
    DamageBase,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => Just(Step::Apply),
        4 => Just(Step::TakeBatch),
        4 => Just(Step::Write),
        2 => Just(Step::Flush),
        1 => Just(Step::Base),
        2 => Just(Step::Crash),
        1 => Just(Step::DamageLive),
        1 => Just(Step::DamageBase),
    ]
}

fn empty() -> State {
    State::new(Arc::new(MemoryViews::default()))
}

/// The dump after every block, as applied from the start.
fn expected(blocks: &[Block]) -> Vec<Vec<String>> {
    let mut state = small(empty());
    let mut dumps = vec![state.dump()];
    for block in blocks {
        state.apply(block).unwrap();
        dumps.push(state.dump());
    }
    dumps
}

/// With little memory, so that rows are dropped and read back, and requests are forgotten by count.
fn small(mut state: State) -> State {
    state.tail.set_budget(200);
    state.resend.set_max(20);
    state.halves.set_ends_max(2);
    state
}

/// Where a replica is in a run of steps.
struct Run {
    site: Site,
    state: State,
    waiting: Vec<Batch>,
    durable: BlockIndex,
}

impl Run {
    fn open(site: Site) -> Self {
        let state = small(block_on(State::open(site.open())).unwrap());
        let durable = state.applied;
        Self { site, state, waiting: Vec::new(), durable }
    }

    fn step(mut self, step: &Step, blocks: &[Block]) -> Self {
        match step {
            Step::Apply => {
                if let Some(block) = usize::try_from(self.state.applied.0).ok().and_then(|next| blocks.get(next)) {
                    self.state.apply(block).unwrap();
                }
            }
            Step::TakeBatch if self.state.has_batch() => self.waiting.push(self.state.take_batch()),
            Step::Write if !self.waiting.is_empty() => {
                let batch = self.waiting.remove(0);
                let index = batch.position().index;
                block_on(self.state.views().write(batch)).unwrap();
                self.state.written(index);
            }
            Step::Flush => {
                block_on(self.state.views().flush()).unwrap();
                self.durable = self.state.views().position().unwrap().index;
            }
            Step::Base => {
                let base = block_on(self.site.store().take_base()).unwrap();
                assert_eq!(base.position, self.state.views().position().unwrap());
                self.durable = base.index();
            }
            Step::Crash => return Self::open_again(self.site.crash(), self.durable),
            Step::DamageLive => return Self::open_again(self.site.damage_live(), BlockIndex(0)),
            Step::DamageBase => self.site.damage_newest_base(),
            Step::TakeBatch | Step::Write => {}
        }
        self
    }

    fn open_again(site: Site, durable: BlockIndex) -> Self {
        let run = Self::open(site);
        assert!(run.state.applied >= durable, "what was flushed is there");
        run
    }
}

fn check(site: Site, events: Vec<Event>, steps: &[Step]) {
    let blocks = World::default().blocks(events);
    let expected = expected(&blocks);
    let mut run = Run::open(site);
    for step in steps {
        run = run.step(step, &blocks);
        let index = usize::try_from(run.state.applied.0).unwrap();
        assert_eq!(run.state.dump(), expected[index], "after {step:?} at {index}");
        assert!(run.state.failure().is_none());
    }
}

proptest! {
    #[test]
    fn loaded_or_applied_in_memory(
        events in proptest::collection::vec(event(), 1..60),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        check(Site::memory(), events, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn loaded_or_applied_on_disk(
        events in proptest::collection::vec(event(), 1..60),
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        check(Site::rocks(), events, &steps);
    }
}

#[test]
fn a_lease_between_two_batches_never_reaches_the_views() {
    let blocks = World::default().blocks(vec![
        Event::Send { queue: 0, count: 3, request: 0 },
        Event::Lease { group: 0, queue: 0, first: 0, count: 3, attempt: 0 },
        Event::Settle { group: 0, queue: 0, first: 0, count: 3 },
    ]);
    let mut state = empty();
    blocks.iter().for_each(|block| drop(state.apply(block).unwrap()));
    let leases = |batch: &Batch| batch.changes().filter(|change| format!("{change:?}").contains("(Lease")).count();
    assert_eq!(leases(&state.take_batch()), 0);
}

/// What a group is after a reset, word by word: replicas that disagree about it would never agree again.
#[test]
fn golden_dump_of_a_reset() {
    let (mut world, mut state) = (World::default(), empty());
    let mut pops = |events: Vec<Event>| {
        world.blocks(events).iter().for_each(|block| drop(state.apply(block).unwrap()));
        let dump = state.dump();
        let pops = dump.iter().filter(|line| line.starts_with("pop")).filter_map(|line| line.split(" Entry").next());
        pops.collect::<Vec<_>>().join("; ")
    };
    let held = pops(vec![
        Event::Send { queue: 0, count: 5, request: 0 },
        Event::Open { group: 0, start: 0 },
        Event::Lease { group: 0, queue: 0, first: 0, count: 3, attempt: 1 },
    ]);
    let (entries, other) = ("pop 0/1/0 0; pop 0/1/0 1; pop 0/1/0 2", "pop 0/1/5 cursor 0");
    assert_eq!(held, format!("pop 0/1 open true; pop 0/1/0 cursor 3; {entries}; {other}"));
    for to in [1, 4, 0] {
        let reset = pops(vec![Event::Reset { group: 0, queue: 0, to }]);
        assert_eq!(reset, format!("pop 0/1 open true; pop 0/1/0 cursor {to}; {other}"));
    }
    let nobody = pops(vec![Event::Reset { group: 2, queue: 0, to: 3 }]);
    assert_eq!(nobody, format!("pop 0/1 open true; pop 0/1/0 cursor 0; {other}"), "nobody opened it");
}

#[test]
fn a_resend_gets_the_first_result() {
    let mut world = World::default();
    let mut state = empty();
    for event in [Event::Send { queue: 1, count: 3, request: 7 }, Event::Send { queue: 1, count: 1, request: 7 }] {
        world.blocks(vec![event]).iter().for_each(|block| drop(state.apply(block).unwrap()));
        let found = state.earlier(&RequestId { proxy_incarnation: 1, sequence: 7 }).unwrap();
        assert_eq!((found.queue, found.first, found.count), (QueueId(1), QueueOffset(0), 3));
    }
    world.blocks(vec![Event::Wait { ms: 60_000 }]).iter().for_each(|block| drop(state.apply(block).unwrap()));
    assert_eq!(state.earlier(&RequestId { proxy_incarnation: 1, sequence: 7 }), None);
}

#[test]
fn a_request_that_was_forgotten_and_came_again_is_known_after_a_restart() {
    let site = Site::memory();
    let (mut world, mut run) = (World::default(), Run::open(site));
    let send = |request| Event::Send { queue: 0, count: 1, request };
    for events in
        [vec![send(7), Event::Wait { ms: 50_000 }, send(8)], vec![Event::Wait { ms: 11_000 }, send(7), send(7)]]
    {
        world.blocks(events).iter().for_each(|block| drop(run.state.apply(block).unwrap()));
        let batch = run.state.take_batch();
        block_on(run.state.views().write(batch)).unwrap();
    }
    let known =
        |state: &State| state.earlier(&RequestId { proxy_incarnation: 1, sequence: 7 }).map(|found| found.first);
    assert_eq!(known(&run.state), Some(QueueOffset(2)));
    block_on(run.site.store().close()).unwrap();
    assert_eq!(known(&Run::open(run.site).state), Some(QueueOffset(2)));
}

#[test]
fn rows_of_forgotten_requests_are_deleted() {
    let (mut world, mut state) = (World::default(), empty());
    let mut rows = Vec::new();
    for request in 1..20 {
        let events = vec![Event::Send { queue: 0, count: 1, request }, Event::Wait { ms: 25_000 }];
        world.blocks(events).iter().for_each(|block| drop(state.apply(block).unwrap()));
        let batch = state.take_batch();
        block_on(state.views().write(batch)).unwrap();
        rows.clear();
        let scanned = state.views().scan(Table::Resend, &[], END, &mut |key, _| {
            rows.push(key.to_vec());
            ControlFlow::Continue(())
        });
        scanned.unwrap();
    }
    assert_eq!(rows.len(), 2, "those of the last minute");
}

#[test]
fn the_place_of_the_oldest_message_is_known() {
    let (mut world, mut state) = (World::default(), empty());
    let mut after = |event| {
        world.blocks(vec![event]).iter().for_each(|block| drop(state.apply(block).unwrap()));
        let queue = state.queue(TopicId(1), QueueId(0));
        let oldest = state.place(TopicId(1), QueueId(0), queue.min);
        assert_eq!(oldest.map(|place| place.visible), (queue.min < queue.next).then_some(queue.min_lsn));
        queue.min_lsn
    };
    let first = after(Event::Send { queue: 0, count: 5, request: 0 });
    let trimmed = after(Event::Trim { queue: 0, min: 3 });
    assert!(trimmed > first);
    after(Event::Trim { queue: 0, min: 9 });
    assert!(after(Event::Send { queue: 0, count: 1, request: 0 }) > trimmed);
}

#[test]
fn what_many_rows_leave_behind_is_deleted_as_a_range() {
    for (count, ranges) in [(10, 0), (5000, 1)] {
        let mut state = empty();
        let events = vec![Event::Send { queue: 0, count, request: 0 }, Event::Trim { queue: 0, min: 9999 }];
        World::default().blocks(events).iter().for_each(|block| drop(state.apply(block).unwrap()));
        assert_eq!((state.oldest(), state.take_trimmed()), (None, u64::from(count)));
        let batch = state.take_batch();
        let found = batch.changes().filter(|change| format!("{change:?}").starts_with("DeleteRange(ConsumeQueue"));
        assert_eq!((found.count(), batch.trims().len()), (ranges, 1), "{count} rows");
    }
}

#[test]
fn queues_are_known_by_the_age_of_their_oldest_message() {
    let (mut world, mut state) = (World::default(), empty());
    let mut after = |event| {
        world.blocks(vec![event]).iter().for_each(|block| drop(state.apply(block).unwrap()));
        let by_age: Vec<_> = state.by_age(None).map(|(lsn, (_, queue))| (lsn, queue.0)).collect();
        let held = state.queues.iter().filter(|(_, queue)| queue.min < queue.next);
        let mut expected: Vec<_> = held.map(|((_, queue), state)| (state.min_lsn, queue.0)).collect();
        expected.sort_unstable();
        assert_eq!(by_age, expected);
        by_age.into_iter().map(|(_, queue)| queue).collect::<Vec<_>>()
    };
    let send = |queue| Event::Send { queue, count: 2, request: 0 };
    after(send(2));
    assert_eq!(after(send(0)), [2, 0]);
    assert_eq!(after(Event::Trim { queue: 2, min: 1 }), [2, 0]);
    assert_eq!(after(Event::Trim { queue: 2, min: 2 }), [0]);
    assert_eq!(after(send(2)), [0, 2]);
}

/// Messages that wait cost rows, not memory, and what is counted of them is right.
#[test]
fn what_waits_is_in_the_views_and_holds_the_log() {
    let (mut world, mut state) = (World::default(), empty());
    let mut written = 0;
    let keep = |after| Event::Keep { queue: 1, count: 1000, after, request: 0 };
    for round in 0..100 {
        let blocks = world.blocks(vec![keep(1 + round % 7), Event::Wait { ms: 1 }]);
        blocks.iter().for_each(|block| drop(state.apply(block).unwrap()));
        let batch = state.take_batch();
        let index = batch.position().index;
        block_on(state.views().write(batch)).unwrap();
        state.written(index);
        written += 1000;
        assert!(state.kept.in_memory() < 200, "{} rows in memory", state.kept.in_memory());
    }
    assert_eq!((state.waiting_in(TopicId(1), QueueId(1)), state.next_kept()), (written, written));
    assert_eq!(state.needed(), Some(Lsn(0)));
    let blocks = world.blocks(vec![Event::Fire { queue: 1, count: 3 }, Event::Recall { nth: 0 }]);
    blocks.iter().for_each(|block| drop(state.apply(block).unwrap()));
    assert_eq!(state.waiting_in(TopicId(1), QueueId(1)), written - 4);
    let (first, next) = state.waiting(KeptId::MIN, 512);
    assert!(first.len() <= 512 && next < KeptId::MAX);
    assert_eq!(state.waits(first[0].0), Some(first[0].1));
    let (mut all, mut from) = (0, KeptId::MIN);
    while from < KeptId::MAX {
        let (rows, next) = state.waiting(from, 512);
        (all, from) = (all + rows.len(), next);
    }
    assert_eq!(u64::try_from(all), Ok(written - 4));
}

/// A message that came late keeps its place in the log until its queue has let it go.
#[test]
fn what_came_late_holds_the_log_until_it_is_trimmed() {
    let (mut world, mut state) = (World::default(), empty());
    let far = Event::Send { queue: 0, count: 5000, request: 0 };
    let events = vec![far.clone(), Event::Keep { queue: 1, count: 1, after: 1, request: 0 }, far];
    world.blocks(events).iter().for_each(|block| drop(state.apply(block).unwrap()));
    world
        .blocks(vec![Event::Trim { queue: 0, min: 10_000 }])
        .iter()
        .for_each(|block| drop(state.apply(block).unwrap()));
    let held = state.needed().unwrap();
    world.blocks(vec![Event::Fire { queue: 1, count: 1 }]).iter().for_each(|block| drop(state.apply(block).unwrap()));
    let place = state.place(TopicId(1), QueueId(1), QueueOffset(0)).unwrap();
    assert!(held <= place.lsn && place.lsn < place.visible);
    assert_eq!((state.needed(), state.oldest()), (Some(place.lsn), Some(place.visible)));
    world.blocks(vec![Event::Trim { queue: 1, min: 1 }]).iter().for_each(|block| drop(state.apply(block).unwrap()));
    assert_eq!(state.needed(), None);
}

#[test]
fn half_messages_hold_the_log_until_they_are_decided_and_read() {
    let (mut world, mut state) = (World::default(), empty());
    let mut after = |events: Vec<Event>| {
        world.blocks(events).iter().for_each(|block| drop(state.apply(block).unwrap()));
        let place = state.place(TopicId(1), QueueId(1), QueueOffset(0));
        (state.needed(), place.map(|place| (place.lsn, place.visible)))
    };
    let (held, place) = after(vec![Event::Half { queue: 1, count: 2, request: 0 }]);
    assert_eq!((held, place), (Some(Lsn(0)), None), "nobody sees them");
    after(vec![Event::EndHalf { nth: 0, how: 1 }, Event::Wait { ms: 1 }]);
    let (held, place) = after(vec![Event::EndHalf { nth: 0, how: 0 }]);
    let (lsn, visible) = place.unwrap();
    assert!(lsn < visible && held == Some(lsn), "{held:?} {lsn:?} {visible:?}");
    assert_eq!(after(vec![Event::Trim { queue: 1, min: 1 }]), (None, None));
    assert_eq!(state.half_end(HalfId(0)), Some(Resolution::Rollback));
    assert_eq!(state.half_end(HalfId(1500)), Some(Resolution::Commit));
}

#[test]
fn ends_are_remembered_for_a_day_or_as_long_as_there_is_room() {
    const DAY: u64 = 24 * 3600 * 1000;
    let end = |how| vec![Event::Half { queue: 1, count: 1, request: 0 }, Event::EndHalf { nth: 0, how }];
    let rows = |events: Vec<Vec<Event>>, state: State| {
        let (mut world, mut state) = (World::default(), state);
        let blocks = world.blocks(events.into_iter().flatten().collect());
        blocks.iter().for_each(|block| drop(state.apply(block).unwrap()));
        (0..9).filter(|nth| state.half_end(HalfId(nth * 1500)).is_some()).collect::<Vec<_>>()
    };
    let later = |ms| vec![Event::Wait { ms }];
    // Three transactions share a row, and rows go when there is one more.
    let all = vec![end(0), end(1), end(0), later(DAY - 1), end(0)];
    assert_eq!(rows(all, empty()), [0, 1, 2, 3]);
    let all = vec![end(0), end(1), end(0), later(DAY), end(0)];
    assert_eq!(rows(all, empty()), [3]);
    let many = (0..9).map(|_| [end(0), later(1)].concat()).collect();
    assert_eq!(rows(many, small(empty())), [3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_request_without_a_proxy_is_not_remembered() {
    let mut state = empty();
    let blocks = World::default().blocks(vec![Event::Send { queue: 1, count: 1, request: 0 }]);
    blocks.iter().for_each(|block| drop(state.apply(block).unwrap()));
    assert_eq!(state.earlier(&RequestId { proxy_incarnation: 0, sequence: 0 }), None);
}

#[test]
fn membership_is_remembered_with_its_log_id() {
    let mut state = empty();
    let blocks = World::default().blocks(vec![Event::Blank, Event::Membership { byte: 9 }, Event::Blank]);
    blocks.iter().for_each(|block| drop(state.apply(block).unwrap()));
    let membership = state.position().membership.unwrap();
    assert_eq!((membership.index, membership.bytes.as_ref()), (BlockIndex(2), [9; 8].as_slice()));
    assert_eq!(state.position().end, Lsn(3 * 72 + 8));
}

#[test]
fn damaged_rows_are_noticed_and_not_used_again() {
    let site = Site::memory();
    let mut run = Run::open(site);
    let blocks = World::default().blocks(vec![Event::Send { queue: 0, count: 20, request: 0 }; 3]);
    for block in &blocks {
        run.state.apply(block).unwrap();
    }
    let batch = run.state.take_batch();
    let mut broken = Batch::new(batch.position().clone());
    broken.delete(Table::ConsumeQueue, &consume_queue_key(TopicId(1), QueueId(0), QueueOffset(30)));
    let index = batch.position().index;
    block_on(run.state.views().write(batch)).unwrap();
    block_on(run.state.views().write(broken)).unwrap();
    run.state.written(index);
    let mut seen = 0;
    run.state.places(TopicId(1), QueueId(0), QueueOffset(0), QueueOffset(60), |_, _| {
        seen += 1;
        ControlFlow::Continue(())
    });
    assert_eq!(seen, 0, "the chunk with the hole is not used");
    assert!(matches!(run.state.failure(), Some(ViewsError::Damaged { .. })));
    assert_eq!(Run::open(run.site).state.applied, BlockIndex(0), "opened anew, without the damaged rows");
}

#[test]
fn rows_that_cannot_be_loaded_are_not_used_again() {
    let site = Site::memory();
    let views = site.open();
    let mut broken = Batch::new(Position { index: BlockIndex(1), ..Position::default() });
    broken.put(Table::Lease, b"no key of a lease", |_| {});
    block_on(views.write(broken)).unwrap();
    assert!(matches!(block_on(State::open(views)), Err(ViewsError::Damaged { .. })));
    assert_eq!(Run::open(site).state.applied, BlockIndex(0));
}

#[test]
fn log_time_of_blocks_is_that_of_the_state() {
    let mut state = empty();
    let blocks = World::default().blocks(vec![Event::Wait { ms: 5 }, Event::Wait { ms: 6 }]);
    blocks.iter().for_each(|block| drop(state.apply(block).unwrap()));
    assert_eq!(state.log_time, Timestamp(11));
}
