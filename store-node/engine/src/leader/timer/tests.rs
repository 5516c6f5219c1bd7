//! Never early, each once, or never when it was recalled: under clocks that jump and leaders that change.

use std::collections::BTreeMap;
use std::sync::Arc;

use apogee_host::Monotonic;
use apogee_model::store::{Append, Appended, RequestId, TopicRef};
use apogee_model::{Epoch, QueueOffset, StoredMessage, Topic};
use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::{Semaphore, oneshot};

use super::super::chain::Chain;
use super::super::{Ask, Retention, Terms};
use super::*;
use crate::block::Block;
use crate::views::MemoryViews;

const QUEUES: u16 = 2;
const START: u64 = 1_000_000_000;

/// A leader and the log it writes, on clocks of the test.
struct Site {
    leader: Option<Box<Leader>>,
    now: Now,
    epoch: u64,
    chain: Chain,
    ticket: u64,
    room: Arc<Semaphore>,
    /// What the log said: when a message was let into its queue, by log time.
    fired: BTreeMap<KeptId, Vec<Timestamp>>,
}

fn terms() -> Terms {
    Terms { in_flight_max: 1000, retention: Retention::default(), segment_bytes: 1 << 20, lite_topics_max: 10 }
}

fn topic() -> TopicRef {
    TopicRef { id: TopicId(1), name: Topic::parse("", "orders").unwrap(), queues: QUEUES }
}

impl Site {
    fn new() -> Self {
        let now = Now { wall: Timestamp(START), monotonic: Monotonic::ZERO };
        let state = State::new(Arc::new(MemoryViews::default()));
        let leader = Leader::new(state, Epoch(1), Ticket(1), terms(), now);
        Self {
            leader: Some(Box::new(leader)),
            now,
            epoch: 1,
            chain: Chain::default(),
            ticket: 0,
            room: Arc::new(Semaphore::new(1 << 20)),
            fired: BTreeMap::new(),
        }
    }

    fn leader(&mut self) -> &mut Leader {
        self.leader.as_mut().unwrap()
    }

    /// Time passes, and the leader wakes as often as it asked for.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now.wall = self.now.wall.plus(Duration::from_millis(1));
            self.now.monotonic = self.now.monotonic + Duration::from_millis(1);
            let now = self.now;
            if self.leader().next_tick().is_some_and(|at| at <= now.monotonic) {
                self.leader().tick(now);
            }
        }
    }

    /// Commits what was proposed; gives the answers.
    fn commit(&mut self) {
        while let Some((ticket, draft)) = self.leader().take_block(true) {
            self.ticket = ticket.0;
            let block = self.chain.seal(self.epoch, draft);
            self.note(&block);
            let now = self.now;
            self.leader().committed(&block, Some(ticket), now).unwrap();
        }
        let upto = Ticket(self.ticket);
        for answer in self.leader().take_answers(upto, Ticket(0)) {
            answer.give();
        }
    }

    fn note(&mut self, block: &Block) {
        let mut rest = block.bytes.slice(crate::block::HEADER..);
        for _ in 0..block.header.records {
            let (record, len) = Record::read(&rest).unwrap();
            if let Record::Fire(fire) = record {
                fire.messages.iter().for_each(|it| self.fired.entry(it.id).or_default().push(block.header.log_time));
            }
            rest = rest.slice(len..);
        }
    }

    /// Sends a message that is due so many milliseconds from now.
    fn send(&mut self, queue: u16, after: u64) -> oneshot::Receiver<Result<Vec<Appended>, crate::leader::NotAppended>> {
        let message = StoredMessage { body_part: vec![7; 10].into(), properties_part: Bytes::new() };
        let request = RequestId { proxy_incarnation: 0, sequence: 0 };
        let due = Some(self.now.wall.plus(Duration::from_millis(after)));
        let append = Append {
            topic: topic(),
            queue: QueueId(queue),
            message,
            request,
            due,
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        let room = Arc::clone(&self.room).try_acquire_many_owned(1).unwrap();
        let (reply, answer) = oneshot::channel();
        let now = self.now;
        self.leader().decide(Ask::Append { messages: vec![append], room, reply }, now).and_then(Answer::give);
        answer
    }

    fn recall(&mut self, id: KeptId) -> oneshot::Receiver<Recalled> {
        let (reply, answer) = oneshot::channel();
        let (recall, now) = (Recall { topic: TopicId(1), id }, self.now);
        self.leader().decide(Ask::Recall { recall, reply }, now).and_then(Answer::give);
        answer
    }

    /// Writes a message again that waits.
    fn carry(&mut self, id: Option<KeptId>) {
        let now = self.now;
        let Some((id, row)) = id.and_then(|id| Some((id, self.leader().state.waits(id)?))) else { return };
        let message = StoredMessage { body_part: vec![7; 10].into(), properties_part: Bytes::new() };
        let (reply, _answer) = oneshot::channel();
        self.leader().decide(Ask::Carry { id, row, message, reply }, now).and_then(Answer::give);
    }

    /// Another leader begins with what is committed.
    fn change_leader(&mut self) {
        let state = self.leader.take().unwrap().into_state();
        self.epoch += 1;
        let leader = Leader::new(state, Epoch(self.epoch), Ticket(self.ticket + 1), terms(), self.now);
        self.leader = Some(Box::new(leader));
    }

    fn write_views(&mut self) {
        let state = &mut self.leader().state;
        if state.has_batch() {
            let batch = state.take_batch();
            let index = batch.position().index;
            futures::executor::block_on(state.views().write(batch)).unwrap();
            state.written(index);
        }
    }

    fn visible(&mut self) -> u64 {
        (0..QUEUES).map(|queue| self.leader().state.queue(TopicId(1), QueueId(queue)).next.0).sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send { queue: u16, after: u64 },
    Pass { ms: u64 },
    Commit,
    Carry { nth: usize },
    Recall { nth: usize },
    SetWall { ahead: u64, back: u64 },
    ChangeLeader,
    WriteViews,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..QUEUES, 0..400u64).prop_map(|(queue, after)| Step::Send { queue, after }),
        6 => (1..120u64).prop_map(|ms| Step::Pass { ms }),
        8 => Just(Step::Commit),
        3 => (0..40usize).prop_map(|nth| Step::Carry { nth }),
        4 => (0..40usize).prop_map(|nth| Step::Recall { nth }),
        1 => (0..300u64, 0..300u64).prop_map(|(ahead, back)| Step::SetWall { ahead, back }),
        1 => Just(Step::ChangeLeader),
        2 => Just(Step::WriteViews),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn never_early_each_once_or_recalled(steps in proptest::collection::vec(step(), 1..80)) {
        let mut site = Site::new();
        let (mut sends, mut recalls, mut known) = (Vec::new(), Vec::new(), Vec::<KeptId>::new());
        for step in steps {
            match step {
                Step::Send { queue, after } => sends.push(site.send(queue, after)),
                Step::Pass { ms } => site.pass(ms),
                Step::Commit => site.commit(),
                Step::Carry { nth } => site.carry(known.get(nth).copied()),
                Step::Recall { nth } => {
                    if let Some(id) = known.get(nth) {
                        recalls.push((*id, site.recall(*id)));
                    }
                }
                Step::SetWall { ahead, back } => site.now.wall = Timestamp(site.now.wall.0 + ahead - back),
                Step::ChangeLeader => site.change_leader(),
                Step::WriteViews => site.write_views(),
            }
            sends.retain_mut(|answer| match answer.try_recv() {
                Ok(appended) => {
                    known.extend(appended.iter().flatten().filter_map(|it| it.kept));
                    false
                }
                Err(oneshot::error::TryRecvError::Empty) => true,
                Err(oneshot::error::TryRecvError::Closed) => false,
            });
        }
        for _ in 0..4 {
            site.pass(1500);
            site.commit();
        }
        let mut recalled = BTreeMap::new();
        for (id, mut answer) in recalls {
            if let Ok(fate) = answer.try_recv() {
                recalled.entry(id).or_insert_with(Vec::new).push(fate);
            }
        }
        for (id, log_times) in &site.fired {
            prop_assert_eq!(log_times.len(), 1, "{:?} was let into its queue at {:?}", id, log_times);
            prop_assert!(log_times[0] >= id.due, "{:?} was early: {:?}", id, log_times);
        }
        for id in known {
            let fates = recalled.remove(&id).unwrap_or_default();
            let done = fates.contains(&Recalled::Done);
            prop_assert!(!(done && site.fired.contains_key(&id)), "{:?} was recalled and came", id);
            prop_assert!(done || !fates.is_empty() || site.fired.contains_key(&id), "{:?} never came", id);
        }
        prop_assert_eq!(site.leader().state.waiting(KeptId::MIN, 9).0, vec![]);
    }
}

#[test]
fn a_time_that_has_come_is_now() {
    let mut site = Site::new();
    let mut answer = site.send(1, 0);
    site.commit();
    let appended = answer.try_recv().unwrap().unwrap();
    assert_eq!((appended[0].kept, appended[0].offset, site.visible()), (None, QueueOffset(0), 1));
}

#[test]
fn a_message_comes_in_its_millisecond_in_the_order_of_their_times() {
    let mut site = Site::new();
    for after in [30, 10, 20, 10] {
        drop(site.send(0, after));
    }
    site.commit();
    for (ms, visible) in [(9, 0), (1, 2), (9, 2), (1, 3), (10, 4)] {
        site.pass(ms);
        site.commit();
        assert_eq!(site.visible(), visible, "at {}", site.now.wall);
    }
    let stored: Vec<_> = site.fired.iter().map(|(id, at)| (id.number, at[0].0 - START)).collect();
    assert_eq!(stored, [(1, 10), (3, 10), (2, 20), (0, 30)]);
}

#[test]
fn a_recall_is_decided_against_what_is_not_committed_yet() {
    let mut site = Site::new();
    let mut answers = [site.send(0, 50), site.send(0, 50)];
    site.commit();
    let ids = answers.each_mut().map(|answer| answer.try_recv().unwrap().unwrap()[0].kept.unwrap());
    let (mut first, mut again) = (site.recall(ids[0]), site.recall(ids[0]));
    assert!(first.try_recv().is_err(), "nothing is said before it is committed");
    site.pass(50);
    let mut late = site.recall(ids[1]);
    site.commit();
    assert_eq!((first.try_recv(), again.try_recv()), (Ok(Recalled::Done), Ok(Recalled::Done)));
    assert_eq!((late.try_recv(), site.visible()), (Ok(Recalled::TooLate), 1));
    let mut foreign = site.recall(KeptId { due: Timestamp(START), number: 99 });
    site.commit();
    assert_eq!(foreign.try_recv(), Ok(Recalled::TooLate));
}

#[test]
fn a_recall_waits_for_a_message_that_is_being_carried() {
    let mut site = Site::new();
    let mut answer = site.send(0, 5000);
    site.commit();
    let id = answer.try_recv().unwrap().unwrap()[0].kept.unwrap();
    site.carry(Some(id));
    let mut recalled = site.recall(id);
    site.commit();
    site.commit();
    assert_eq!(recalled.try_recv(), Ok(Recalled::Done));
    site.pass(6000);
    site.commit();
    assert_eq!(site.visible(), 0);
}

#[test]
fn a_recalled_message_stays_recalled_for_the_next_leader() {
    let mut site = Site::new();
    let mut answer = site.send(0, 5000);
    site.commit();
    let id = answer.try_recv().unwrap().unwrap()[0].kept.unwrap();
    let mut first = site.recall(id);
    site.commit();
    assert_eq!(first.try_recv(), Ok(Recalled::Done));
    site.change_leader();
    let mut again = site.recall(id);
    site.commit();
    assert_eq!(again.try_recv(), Ok(Recalled::Done));
    site.pass(6000);
    site.commit();
    assert_eq!(site.visible(), 0);
}

/// Whatever waits, the leader remembers some thousands, and lets many in at once without an end of the turn.
#[test]
fn many_are_due_at_once_and_few_are_in_memory() {
    const COUNT: u64 = 30_000;
    let mut site = Site::new();
    for nth in 0..COUNT {
        drop(site.send(u16::try_from(nth % 2).unwrap(), 100 + nth % 50));
        if nth % 1000 == 0 {
            site.commit();
            site.write_views();
        }
        assert!(site.leader().timer.soon.len() <= SOON_MAX + 1000);
    }
    site.commit();
    site.change_leader();
    site.now.wall = Timestamp(START + 1000);
    let (mut turns, mut most) = (0, 0);
    while site.visible() < COUNT {
        turns += 1;
        let before = site.visible();
        site.pass(1);
        site.commit();
        most = most.max(site.visible() - before);
        assert!(site.leader().timer.soon.len() <= SOON_MAX);
        assert!(turns < 1000, "{} of {COUNT} came", site.visible());
    }
    assert!(most <= u64::try_from(LEAVING_MAX).unwrap(), "{most} in one turn");
    assert_eq!(site.fired.len(), usize::try_from(COUNT).unwrap());
}
