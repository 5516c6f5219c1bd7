//! A replica group in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apogee_model::store::{
    Append, Appended, CheckBack, Checked, CommitOffset, DeadLetters, Delivery, DeliveryKey, EndTransaction, Fetch,
    FetchFrom, Fetched, FetchedMessage, Find, Found, GroupQueue, GroupRef, GroupStatus, GroupTrace, HalfId, KeptId,
    LeaseTerms, LiteList, LiteStatus, LiteSubscribed, LiteSubscription, OffsetCommitted, OpenTransaction, Pop, Popped,
    QueueReset, QueueStatus, Recall, Recalled, Reset, Resolution, Seal, Sealed, Settled, Settlement, StoreError,
    TopicRef, Trace, TransactionEnded,
};
use apogee_model::{
    ClientId, DeliveryAttempt, DeliveryOrder, DeliverySeq, Epoch, Filter, GroupId, InvisibleDuration, PriorityFactor,
    QueueId, QueueOffset, StoredMessage, Timestamp, TopicId,
};
use apogee_proxy::{Checks, ClientHeard, StoreNode, Watch};
use futures::future::BoxFuture;
use tokio::sync::mpsc;

/// One replica group in memory, without leases that end. It notes what it was told.
#[derive(Default)]
pub(crate) struct FakeStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    queues: BTreeMap<(TopicId, QueueId), Vec<StoredMessage>>,
    ready: BTreeMap<GroupId, Vec<(TopicId, QueueId, QueueOffset)>>,
    opened: BTreeMap<(GroupId, TopicId), ()>,
    held: BTreeMap<DeliveryKey, ()>,
    settled: BTreeMap<DeliveryKey, ()>,
    /// Messages that wait for their time; nobody lets them go.
    kept: Vec<(TopicId, KeptId)>,
    /// Half messages by their ids, and how their transactions ended.
    halves: BTreeMap<HalfId, (Append, Option<Resolution>)>,
    checks: Vec<mpsc::Sender<CheckBack>>,
    next_delivery: u64,
    watches: Vec<(TopicId, mpsc::Sender<u64>)>,
    /// Every queue begins here.
    trimmed: usize,
    committed: BTreeMap<(GroupId, TopicId, QueueId), QueueOffset>,
    error: Option<StoreError>,
    /// What the next receive of lite topics says that the client lost.
    evicted: Option<Box<str>>,
    /// What all of them say that the client holds.
    unsettled: Option<usize>,
    told: Told,
}

/// What the proxy told the store without waiting for an answer, and how it asked.
#[derive(Clone, Default, Debug, PartialEq)]
pub(crate) struct Told {
    pub suspended: Vec<Duration>,
    pub subscribed: Vec<LiteSubscription>,
    pub lite_pops: usize,
    pub released: usize,
    pub confirmed: usize,
    pub heard: Vec<String>,
    pub lost: Vec<String>,
    pub changes: Vec<Duration>,
    pub leases: Vec<LeaseTerms>,
    pub attempt_ids: Vec<Option<String>>,
    pub batches: Vec<usize>,
    pub orders: Vec<DeliveryOrder>,
    /// How often each pop begins at the highest level, in percent.
    pub priorities: Vec<Option<u8>>,
    pub queues: Vec<u16>,
    pub pops: usize,
    /// Rests of the group, of those settlements that told them.
    pub rests: Vec<Vec<u64>>,
    /// Where consumers gave messages up to.
    pub buried: Vec<(u32, String, u16)>,
    /// Checks that reached a producer.
    pub checked: Vec<Checked>,
    /// Topics with producers, as it was said last.
    pub produced: BTreeSet<TopicId>,
    /// Spans of half messages.
    pub check_after: Vec<Duration>,
    /// When and where the last pop would have had messages buried.
    pub popped_until: Option<(u32, String, u16)>,
}

impl FakeStore {
    /// Every question is answered with this error from now on.
    pub(crate) fn fail(&self, error: Option<StoreError>) {
        self.inner.lock().unwrap().error = error;
    }

    pub(crate) fn told(&self) -> Told {
        self.inner.lock().unwrap().told.clone()
    }

    /// A later delivery replaces all that is held.
    pub(crate) fn replace_all(&self) {
        self.inner.lock().unwrap().held.clear();
    }

    /// The first message of every queue cannot be decoded any more.
    pub(crate) fn spoil_first(&self) {
        for queue in self.inner.lock().unwrap().queues.values_mut() {
            queue[0].body_part = bytes::Bytes::from_static(b"\xff");
        }
    }

    /// Messages before this offset are gone, in every queue.
    pub(crate) fn trim(&self, min: usize) {
        self.inner.lock().unwrap().trimmed = min;
    }

    fn ask<T>(&self, answer: impl FnOnce(&mut Inner) -> T) -> Result<T, StoreError> {
        let mut inner = self.inner.lock().unwrap();
        match &inner.error {
            Some(error) => Err(error.clone()),
            None => Ok(answer(&mut inner)),
        }
    }
}

impl Inner {
    fn append(&mut self, append: Append) -> Appended {
        self.told.queues.push(append.queue.0);
        let stored_at = Timestamp(1_700_000_000_500);
        if let Some(due) = append.due.filter(|due| *due > stored_at) {
            let id = KeptId { due, number: u64::try_from(self.kept.len()).unwrap() };
            self.kept.push((append.topic.id, id));
            return Appended { queue: append.queue, offset: QueueOffset(0), stored_at, kept: Some(id), half: None };
        }
        if let Some(half) = append.half {
            self.told.check_after.push(half.check_after);
            let (id, queue) = (HalfId(u64::try_from(self.halves.len()).unwrap()), append.queue);
            self.halves.insert(id, (append, None));
            return Appended { queue, offset: QueueOffset(0), stored_at, kept: None, half: Some(id) };
        }
        let queue = self.queues.entry((append.topic.id, append.queue)).or_default();
        queue.push(append.message);
        let offset = QueueOffset(u64::try_from(queue.len() - 1).unwrap());
        let groups: Vec<_> =
            self.opened.keys().filter(|(_, topic)| *topic == append.topic.id).map(|(group, _)| *group).collect();
        for group in groups {
            self.ready.entry(group).or_default().push((append.topic.id, append.queue, offset));
        }
        Appended { queue: append.queue, offset, stored_at, kept: None, half: None }
    }

    fn ends(&self, key: (TopicId, QueueId)) -> (usize, usize) {
        let max = self.queues.get(&key).map_or(0, Vec::len);
        (self.trimmed.min(max), max)
    }

    /// Messages of offset `n` are stored at second `n`; one fetch reads two of them.
    fn fetch(&self, fetch: &Fetch) -> Fetched {
        let (min, max) = self.ends((fetch.topic, fetch.queue));
        let from = match fetch.from {
            FetchFrom::Offset(offset) => usize::try_from(offset.0).unwrap(),
            FetchFrom::Time(at) => usize::try_from(at.0.div_ceil(1000)).unwrap(),
            FetchFrom::End => max,
        };
        let from = from.clamp(min, max);
        let offset = |at: usize| QueueOffset(u64::try_from(at).unwrap());
        let mut fetched = Fetched { min: offset(min), max: offset(max), next: offset(from), ..Fetched::default() };
        for at in (from..max).take(fetch.messages.min(2)) {
            let message = self.queues[&(fetch.topic, fetch.queue)][at].clone();
            fetched.next = offset(at + 1);
            if fetch.filter.wants(&message) {
                let stored_at = Timestamp(u64::try_from(at).unwrap() * 1000);
                fetched.messages.push(FetchedMessage { offset: offset(at), stored_at, message });
            }
        }
        fetched
    }

    fn edge(&self, topic: TopicId, ready: u64) {
        for (_, watch) in self.watches.iter().filter(|(watched, _)| *watched == topic) {
            let _closed = watch.try_send(ready);
        }
    }

    fn open(&mut self, group: GroupId, topic: TopicId) {
        if self.opened.insert((group, topic), ()).is_none() {
            let all = self.queues.iter().filter(|((id, _), _)| *id == topic).flat_map(|((_, queue), messages)| {
                (0..messages.len()).map(|at| (topic, *queue, QueueOffset(u64::try_from(at).unwrap())))
            });
            let all: Vec<_> = all.collect();
            self.ready.entry(group).or_default().extend(all);
        }
    }

    fn pop(&mut self, pop: &Pop) -> Popped {
        self.told.pops += 1;
        self.told.lite_pops += usize::from(pop.lite);
        if let Some(evicted) = self.evicted.take().filter(|_| pop.lite) {
            return Popped { more: true, evicted: vec![evicted], ..Popped::default() };
        }
        if let Some(unsettled) = self.unsettled.filter(|_| pop.lite) {
            return Popped { unsettled: Some(unsettled), ..Popped::default() };
        }
        self.told.leases.push(pop.lease);
        self.told.batches.push(pop.batch);
        self.told.orders.push(pop.order);
        self.told.priorities.push(pop.priority.map(PriorityFactor::percent));
        self.told.attempt_ids.push(pop.attempt_id.as_ref().map(|id| String::from_utf8_lossy(id).into_owned()));
        self.open(pop.group.id, pop.topic.id);
        let (queues, mut popped) = (&self.queues, Popped::default());
        let ready = self.ready.entry(pop.group.id).or_default();
        let wanted = |(topic, queue, offset): &(TopicId, QueueId, QueueOffset)| {
            *topic == pop.topic.id && {
                let message = &queues[&(*topic, *queue)][usize::try_from(offset.0).unwrap()];
                pop.filter.wants(message)
            }
        };
        while let Some(at) = ready.iter().position(wanted) {
            if popped.messages.len() == pop.batch {
                popped.more = true;
                break;
            }
            let (topic, queue, offset) = ready.remove(at);
            self.next_delivery += 1;
            let delivery = DeliverySeq(self.next_delivery);
            let key = DeliveryKey { epoch: Epoch(1), group: pop.group.id, topic, queue, offset, delivery };
            self.held.insert(key, ());
            popped.messages.push(Delivery {
                key,
                attempt: DeliveryAttempt::FIRST,
                stored_at: Timestamp(1_700_000_000_500),
                invisible: match pop.lease {
                    LeaseTerms::Fixed(invisible) => invisible,
                    LeaseTerms::AutoRenew => InvisibleDuration::AUTO_RENEW,
                },
                message: queues[&(topic, queue)][usize::try_from(offset.0).unwrap()].clone(),
            });
        }
        popped
    }
}

impl FakeStore {
    /// Another client took a lite topic over.
    pub(crate) fn evict(&self, lite_topic: &str) {
        self.inner.lock().unwrap().evicted = Some(lite_topic.into());
    }

    /// The client holds too many messages of lite topics.
    pub(crate) fn unsettled(&self, unsettled: usize) {
        self.inner.lock().unwrap().unsettled = Some(unsettled);
    }

    /// Wants to know what became of the transaction that began as number `half`.
    pub(crate) fn check_back(&self, half: u64, check: u32) {
        let inner = self.inner.lock().unwrap();
        let (append, _) = &inner.halves[&HalfId(half)];
        let back = CheckBack {
            topic: append.topic.id,
            queue: append.queue,
            id: HalfId(half),
            check,
            stored_at: Timestamp(1_700_000_000_500),
            message: append.message.clone(),
        };
        inner.checks.iter().for_each(|checks| checks.try_send(back.clone()).unwrap());
    }

    /// Everything that waited for its time is in its queue.
    pub(crate) fn let_all_go(&self) {
        self.inner.lock().unwrap().kept.clear();
    }
}

impl StoreNode for FakeStore {
    fn leads(&self) -> bool {
        true
    }

    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, StoreError>> {
        Box::pin(async move {
            self.ask(|inner| {
                let topic = messages[0].topic.id;
                let appended: Vec<_> = messages.into_iter().map(|message| inner.append(message)).collect();
                inner.edge(topic, u64::try_from(appended.len()).unwrap());
                appended
            })
        })
    }

    fn pop(&self, pop: Pop) -> BoxFuture<'_, Result<Popped, StoreError>> {
        Box::pin(async move {
            self.ask(|inner| {
                inner.told.popped_until = pop.dead_letters.as_ref().map(told);
                inner.pop(&pop)
            })
        })
    }

    fn settle(&self, key: DeliveryKey, what: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        Box::pin(async move {
            self.ask(|inner| {
                match &what {
                    Settlement::Ack => {}
                    Settlement::Change(after) => inner.told.changes.push(after.get()),
                    Settlement::Suspend(after) => inner.told.suspended.push(after.get()),
                    Settlement::Rest { asked, rests } => {
                        inner.told.changes.push(asked.get());
                        inner.told.rests.push(rests.as_millis().collect());
                    }
                    Settlement::DeadLetter(dead) => inner.told.buried.push(told(dead)),
                }
                if inner.settled.contains_key(&key) {
                    return Settled::Done;
                }
                if !inner.held.contains_key(&key) {
                    return Settled::Stale;
                }
                if matches!(what, Settlement::Ack | Settlement::DeadLetter(_)) {
                    inner.held.remove(&key);
                    inner.settled.insert(key, ());
                }
                Settled::Done
            })
        })
    }

    fn release(&self, deliveries: Vec<DeliveryKey>) {
        let mut inner = self.inner.lock().unwrap();
        inner.told.released += deliveries.len();
        for key in deliveries {
            inner.held.remove(&key);
            inner.ready.entry(key.group).or_default().insert(0, (key.topic, key.queue, key.offset));
            inner.edge(key.topic, 1);
        }
    }

    fn confirm(&self, deliveries: Vec<DeliveryKey>) {
        self.inner.lock().unwrap().told.confirmed += deliveries.len();
    }

    fn heard(&self, clients: Vec<ClientHeard>) {
        self.inner.lock().unwrap().told.heard.extend(clients.iter().map(|heard| heard.client.to_string()));
    }

    fn hung_up(&self, clients: Vec<ClientHeard>) {
        self.inner.lock().unwrap().told.lost.extend(clients.iter().map(|heard| heard.client.to_string()));
    }

    fn lost(&self, client: ClientId) {
        self.inner.lock().unwrap().told.lost.push(client.to_string());
    }

    fn watch(&self, _group: GroupRef, topic: TopicRef, _filter: Filter) -> Box<dyn Watch> {
        let (edges, watch) = mpsc::channel(1024);
        self.inner.lock().unwrap().watches.push((topic.id, edges));
        Box::new(FakeWatch(watch))
    }

    fn watch_lite(&self, group: GroupRef, topic: TopicRef, _client: ClientId) -> Box<dyn Watch> {
        self.watch(group, topic, Filter::default())
    }

    fn lite_subscribe(&self, subscription: LiteSubscription) -> BoxFuture<'_, Result<LiteSubscribed, StoreError>> {
        Box::pin(async move {
            self.ask(|inner| {
                inner.told.subscribed.push(subscription);
                LiteSubscribed::Done
            })
        })
    }

    fn seal(&self, _: Seal) -> BoxFuture<'_, Result<Sealed, StoreError>> {
        unreachable!("no topic gets more queues here")
    }

    fn find(&self, _: Find) -> BoxFuture<'_, Result<Vec<Found>, StoreError>> {
        unreachable!("nobody looks for messages here")
    }

    fn trace(&self, _: Trace) -> BoxFuture<'_, Result<Vec<GroupTrace>, StoreError>> {
        unreachable!("nobody looks for messages here")
    }

    fn lite_list(&self, _: LiteList) -> BoxFuture<'_, Result<Vec<LiteStatus>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn topic_status(&self, topic: TopicId) -> BoxFuture<'_, Result<Vec<QueueStatus>, StoreError>> {
        Box::pin(async move {
            self.ask(|inner| {
                let offset = |at: usize| QueueOffset(u64::try_from(at).unwrap());
                let row = |key: &(TopicId, QueueId)| {
                    let (min, max) = inner.ends(*key);
                    QueueStatus { queue: key.1, min: offset(min), max: offset(max), delayed: 0 }
                };
                inner.queues.keys().filter(|(of, _)| *of == topic).map(row).collect()
            })
        })
    }
    fn group_status(&self, _group: GroupId) -> BoxFuture<'_, Result<Vec<GroupStatus>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn reset_offset(&self, _reset: Reset) -> BoxFuture<'_, Result<Vec<QueueReset>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn recall(&self, recall: Recall) -> BoxFuture<'_, Result<Recalled, StoreError>> {
        Box::pin(async move {
            self.ask(|inner| {
                // What was never kept back, or is in its queue, is not among them.
                let known = inner.kept.iter().any(|(topic, id)| (*topic, *id) == (recall.topic, recall.id));
                if known { Recalled::Done } else { Recalled::TooLate }
            })
        })
    }
    fn end_transaction(&self, end: EndTransaction) -> BoxFuture<'_, Result<TransactionEnded, StoreError>> {
        Box::pin(async move {
            self.ask(|inner| {
                let half = inner.halves.get_mut(&end.id).filter(|(append, _)| append.topic.id == end.topic);
                let Some((append, ended)) = half else { return TransactionEnded::Unknown };
                match ended {
                    Some(before) if *before != end.resolution => return TransactionEnded::Otherwise,
                    Some(_) => return TransactionEnded::Done,
                    None => *ended = Some(end.resolution),
                }
                if end.resolution == Resolution::Commit {
                    let whole = Append { half: None, ..append.clone() };
                    inner.append(whole);
                    inner.edge(end.topic, 1);
                }
                TransactionEnded::Done
            })
        })
    }
    fn transactions(&self, _: TopicId, _: HalfId, _: usize) -> BoxFuture<'_, Result<Vec<OpenTransaction>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn checks(&self, topics: BTreeSet<TopicId>) -> Box<dyn Checks> {
        let (checks, inbox) = mpsc::channel(16);
        let mut inner = self.inner.lock().unwrap();
        inner.checks.push(checks);
        inner.told.produced = topics;
        Box::new(FakeChecks { store: Arc::clone(&self.inner), inbox })
    }
    fn checked(&self, checked: Checked) {
        self.inner.lock().unwrap().told.checked.push(checked);
    }
    fn fetch(&self, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, StoreError>> {
        Box::pin(async move { self.ask(|inner| inner.fetch(&fetch)) })
    }
    fn commit_offset(&self, commit: CommitOffset) -> BoxFuture<'_, Result<OffsetCommitted, StoreError>> {
        Box::pin(async move {
            self.ask(|inner| {
                let max = QueueOffset(u64::try_from(inner.ends((commit.topic.id, commit.queue)).1).unwrap());
                if commit.offset > max {
                    return OffsetCommitted::Beyond { max };
                }
                inner.committed.insert((commit.group.id, commit.topic.id, commit.queue), commit.offset);
                OffsetCommitted::Done
            })
        })
    }
    fn committed_offset(&self, of: GroupQueue) -> BoxFuture<'_, Result<Option<QueueOffset>, StoreError>> {
        Box::pin(async move { self.ask(|inner| inner.committed.get(&(of.group, of.topic, of.queue)).copied()) })
    }
    fn drop_topic(&self, _topic: TopicId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
    fn drop_group(&self, _group: GroupId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Deliveries at most, and the topic and queue of dead letters.
fn told(dead: &DeadLetters) -> (u32, String, u16) {
    (dead.max_attempts, dead.topic.name.to_string(), dead.queue.0)
}

struct FakeChecks {
    store: Arc<Mutex<Inner>>,
    inbox: mpsc::Receiver<CheckBack>,
}

impl Checks for FakeChecks {
    fn set_topics(&self, topics: BTreeSet<TopicId>) {
        self.store.lock().unwrap().told.produced = topics;
    }

    fn next(&mut self) -> BoxFuture<'_, CheckBack> {
        Box::pin(async { self.inbox.recv().await.expect("the store stays") })
    }
}

struct FakeWatch(mpsc::Receiver<u64>);

impl Watch for FakeWatch {
    fn ready(&mut self) -> BoxFuture<'_, u64> {
        Box::pin(async {
            match self.0.recv().await {
                Some(ready) => ready,
                None => std::future::pending().await,
            }
        })
    }
}
