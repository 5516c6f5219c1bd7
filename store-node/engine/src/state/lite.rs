//! Lite topics: what they are called, how long they live, and which clients of a group are subscribed to them.
//!
//! A lite topic is a topic of its own with one queue, so its messages, and how far groups are, are where those of all
//! topics are. What is here is what makes it a part of its parent. It is gone without a trace, because there may be
//! millions: its id is never given again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use apogee_model::{GroupId, QueueId, QueueOffset, Timestamp, TopicId};

use super::State;
use super::apply::Applied;
use crate::record::{LiteChanged, LiteExpiry, LiteSubscribe, LiteTopic, QueueOf};
use crate::views::lite::{LiteClient, LiteKey, LiteRow, nothing, number, put_nothing, put_number};
use crate::views::{Batch, Table, consume_queue_key};

/// The queue of a lite topic.
pub(crate) const LITE_QUEUE: QueueId = QueueId(0);
/// Rows of a ConsumeQueue that are deleted one by one.
const FEW_ROWS: u64 = 64;

/// A client of a group, by the hash of its id.
pub(crate) type Subscriber = (GroupId, u64);

/// What subscriptions became.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum LiteNews {
    Added(Subscriber, TopicId),
    Removed(Subscriber, TopicId),
    /// Another client of the group took it over.
    Evicted(Subscriber, Arc<str>),
    Gone(TopicId),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lites {
    /// Ids that were given.
    given: u32,
    topics: BTreeMap<TopicId, Lite>,
    names: BTreeMap<(TopicId, Arc<str>), TopicId>,
    /// By when they got their last message.
    by_age: BTreeMap<TopicId, BTreeSet<(Timestamp, TopicId)>>,
    expiry: BTreeMap<TopicId, u64>,
    clients: BTreeMap<Subscriber, LiteClient>,
    subscriptions: BTreeSet<(Subscriber, TopicId)>,
    subscribers: BTreeSet<(TopicId, Subscriber)>,
    dirty: BTreeSet<LiteKey>,
    /// Lite topics that are gone, and how many rows of theirs the ConsumeQueue may have.
    gone: Vec<(TopicId, QueueOffset)>,
}

#[derive(Debug)]
struct Lite {
    parent: TopicId,
    name: Arc<str>,
    written: Timestamp,
}

impl Lites {
    fn put(&mut self, id: TopicId, LiteRow { parent, name, written }: LiteRow) {
        let name: Arc<str> = name.into();
        self.names.insert((parent, Arc::clone(&name)), id);
        self.by_age.entry(parent).or_default().insert((written, id));
        self.topics.insert(id, Lite { parent, name, written });
    }

    /// A message came.
    pub(super) fn written(&mut self, id: TopicId, at: Timestamp) {
        let Some(lite) = self.topics.get_mut(&id) else { return };
        if let Some(aged) = self.by_age.get_mut(&lite.parent) {
            aged.remove(&(lite.written, id));
            aged.insert((at, id));
        }
        lite.written = at;
        self.dirty.insert(LiteKey::Topic(id));
    }

    fn remove(&mut self, id: TopicId) -> Option<Vec<Subscriber>> {
        let Lite { parent, name, written } = self.topics.remove(&id)?;
        if self.names.get(&(parent, Arc::clone(&name))) == Some(&id) {
            self.names.remove(&(parent, name));
        }
        if let Some(aged) = self.by_age.get_mut(&parent) {
            aged.remove(&(written, id));
            if aged.is_empty() {
                self.by_age.remove(&parent);
            }
        }
        self.dirty.insert(LiteKey::Topic(id));
        let of: Vec<_> = self.of_topic(id).collect();
        of.iter().for_each(|subscriber| self.unsubscribe(*subscriber, id));
        Some(of)
    }

    fn of_topic(&self, id: TopicId) -> impl Iterator<Item = Subscriber> + '_ {
        let (first, last) = ((GroupId(0), 0), (GroupId(u32::MAX), u64::MAX));
        self.subscribers.range((id, first)..=(id, last)).map(|(_, subscriber)| *subscriber)
    }

    fn of_client(&self, of: Subscriber) -> impl Iterator<Item = TopicId> + '_ {
        self.subscriptions.range((of, TopicId(0))..=(of, TopicId(u32::MAX))).map(|(_, id)| *id)
    }

    fn subscribe(&mut self, of: Subscriber, id: TopicId) -> bool {
        self.dirty.insert(LiteKey::Subscription(of.0, of.1, id));
        self.subscribers.insert((id, of));
        self.subscriptions.insert((of, id))
    }

    fn unsubscribe(&mut self, of: Subscriber, id: TopicId) {
        if self.subscriptions.remove(&(of, id)) {
            self.subscribers.remove(&(id, of));
            self.dirty.insert(LiteKey::Subscription(of.0, of.1, id));
            if self.of_client(of).next().is_none() {
                self.clients.remove(&of);
                self.dirty.insert(LiteKey::Client(of.0, of.1));
            }
        }
    }

    pub(super) fn topic(&mut self, made: &LiteTopic, at: Timestamp) {
        let LiteTopic { parent, id, name } = made;
        self.given = self.given.max(id.0.saturating_sub(TopicId::LITE.0) + 1);
        self.put(*id, LiteRow { parent: *parent, name: name.clone(), written: at });
        self.dirty.extend([LiteKey::Next, LiteKey::Topic(*id)]);
    }

    pub(super) fn expiry(&mut self, expiry: LiteExpiry) {
        match expiry.after_ms {
            Some(after_ms) => drop(self.expiry.insert(expiry.parent, after_ms)),
            None => drop(self.expiry.remove(&expiry.parent)),
        }
        self.dirty.insert(LiteKey::Expiry(expiry.parent));
    }

    pub(super) fn subscribed(&mut self, record: &LiteSubscribe, news: &mut Vec<LiteNews>) {
        let LiteSubscribe { group, parent, client, change, ids } = record;
        let of = (*group, apogee_model::store::client_hash(client));
        for id in ids.iter().filter(|id| self.topics.contains_key(id)).copied().collect::<Vec<_>>() {
            if *change == LiteChanged::Removed {
                self.unsubscribe(of, id);
                news.push(LiteNews::Removed(of, id));
                continue;
            }
            if *change == LiteChanged::TakenOver {
                self.evict(of, id, news);
            }
            if let Entry::Vacant(place) = self.clients.entry(of) {
                place.insert(LiteClient { parent: *parent, id: client.clone() });
                self.dirty.insert(LiteKey::Client(of.0, of.1));
            }
            self.subscribe(of, id);
            news.push(LiteNews::Added(of, id));
        }
    }

    /// Whoever else of the group is subscribed to it is not any more.
    fn evict(&mut self, of: Subscriber, id: TopicId, news: &mut Vec<LiteNews>) {
        let others: Vec<_> = self.of_topic(id).filter(|other| other.0 == of.0 && *other != of).collect();
        for other in others {
            if let Some(lite) = self.topics.get(&id) {
                news.push(LiteNews::Evicted(other, Arc::clone(&lite.name)));
            }
            self.unsubscribe(other, id);
            news.push(LiteNews::Removed(other, id));
        }
    }

    /// Everything of the group is gone.
    pub(super) fn close(&mut self, group: GroupId) {
        let first = ((group, 0), TopicId(0));
        let all: Vec<_> = self.subscriptions.range(first..=((group, u64::MAX), TopicId(u32::MAX))).copied().collect();
        all.into_iter().for_each(|(of, id)| self.unsubscribe(of, id));
    }

    /// Rows that a batch would hold.
    pub(super) fn untaken(&self) -> usize {
        self.dirty.len() + self.gone.len()
    }

    /// Puts what changed into a batch.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        for (id, end) in std::mem::take(&mut self.gone) {
            let key = |offset: u64| consume_queue_key(id, LITE_QUEUE, QueueOffset(offset));
            if end.0 <= FEW_ROWS {
                (0..end.0).for_each(|offset| batch.delete(Table::ConsumeQueue, &key(offset)));
            } else {
                batch.delete_range(Table::ConsumeQueue, &key(0), &key(end.0));
            }
        }
        for key in std::mem::take(&mut self.dirty) {
            let mut row = Vec::new();
            match self.put_row(key, &mut row) {
                Some(()) => batch.put(Table::Lite, &key.encode(), |out| out.extend_from_slice(&row)),
                None => batch.delete(Table::Lite, &key.encode()),
            }
        }
    }

    /// What a row says now; nothing of one that is no more.
    fn put_row(&self, key: LiteKey, row: &mut Vec<u8>) -> Option<()> {
        match key {
            LiteKey::Next => put_number(row, self.given.into()),
            LiteKey::Topic(id) => {
                let Lite { parent, name, written } = self.topics.get(&id)?;
                LiteRow { parent: *parent, name: (**name).into(), written: *written }.encode(row);
            }
            LiteKey::Expiry(parent) => put_number(row, *self.expiry.get(&parent)?),
            LiteKey::Client(group, client) => self.clients.get(&(group, client))?.encode(row),
            LiteKey::Subscription(group, client, id) => {
                self.subscriptions.get(&((group, client), id))?;
                put_nothing(row);
            }
        }
        Some(())
    }

    /// Takes back a row.
    pub(super) fn load(&mut self, key: &[u8], row: &[u8]) -> Option<()> {
        match LiteKey::decode(key)? {
            LiteKey::Next => self.given = u32::try_from(number(row)?).ok()?,
            LiteKey::Topic(id) => self.put(id, LiteRow::decode(row)?),
            LiteKey::Expiry(parent) => drop(self.expiry.insert(parent, number(row)?)),
            LiteKey::Client(group, client) => drop(self.clients.insert((group, client), LiteClient::decode(row)?)),
            LiteKey::Subscription(group, client, id) => {
                nothing(row)?;
                self.subscribers.insert((id, (group, client)));
                self.subscriptions.insert(((group, client), id));
            }
        }
        Some(())
    }

    pub(super) fn dump(&self, lines: &mut Vec<String>) {
        lines.push(format!("lite topics {}", self.given));
        lines
            .extend(self.topics.iter().map(|(id, it)| format!("lite {id} {}/{} {:?}", it.parent, it.name, it.written)));
        lines.extend(self.expiry.iter().map(|(parent, ms)| format!("lite expiry {parent} {ms}")));
        lines.extend(self.clients.iter().map(|(of, client)| format!("lite client {of:?} {client:?}")));
        lines.extend(self.subscriptions.iter().map(|(of, id)| format!("lite subscription {of:?} {id}")));
    }
}

impl State {
    /// A lite topic goes, and everything that belongs to it.
    pub(super) fn lite_gone(&mut self, id: TopicId, applied: &mut Applied) {
        let Some(subscribers) = self.lites.remove(id) else { return };
        applied.lite.extend(subscribers.into_iter().map(|of| LiteNews::Removed(of, id)));
        applied.lite.push(LiteNews::Gone(id));
        let key = (id, LITE_QUEUE);
        if let Some(state) = self.queues.remove(&key) {
            self.trimmed += state.next.0 - state.min.0;
            self.tail.trim(key, state.next);
            self.kept.trim(key, state.next);
            self.oldest.moved(key, state, super::QueueState::default());
            self.dirty.queue(key);
            self.lites.gone.push((id, state.next));
        }
        let readers: Vec<_> = self.pops.of_topic(id).map(|(group, _)| group).collect();
        for group in readers {
            let Some(pop) = self.pops.remove(group, id) else { continue };
            self.dirty.opens.insert((group, id));
            for (queue, state) in pop.queues {
                let of = QueueOf { group, topic: id, queue };
                self.dirty.cursor(of);
                for offset in state.entries.into_keys() {
                    self.dirty.removed(of, offset);
                    applied.touched.push((of, offset));
                }
            }
        }
    }

    /// The id of a lite topic.
    pub(crate) fn lite(&self, parent: TopicId, name: &str) -> Option<TopicId> {
        self.lites.names.get(&(parent, name.into())).copied()
    }

    /// The name of a lite topic, and when it got its last message.
    pub(crate) fn lite_name(&self, id: TopicId) -> Option<(&Arc<str>, Timestamp)> {
        self.lites.topics.get(&id).map(|lite| (&lite.name, lite.written))
    }

    /// The topic that a lite topic is a part of.
    pub(crate) fn lite_parent(&self, id: TopicId) -> Option<TopicId> {
        self.lites.topics.get(&id).map(|lite| lite.parent)
    }

    pub(crate) fn lite_count(&self) -> usize {
        self.lites.topics.len()
    }

    /// The id that the next lite topic gets; `None` when there were as many as there can be.
    pub(crate) fn next_lite(&self) -> Option<TopicId> {
        TopicId::LITE.0.checked_add(self.lites.given).map(TopicId)
    }

    /// Lite topics of a topic by name, behind `after`.
    pub(crate) fn lites_of(&self, parent: TopicId, after: Option<&str>) -> impl Iterator<Item = (&str, TopicId)> + '_ {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = after.map_or_else(|| Included((parent, "".into())), |name| Excluded((parent, name.into())));
        let all = self.lites.names.range((from, Unbounded)).take_while(move |((of, _), _)| *of == parent);
        all.map(|((_, name), id)| (&**name, *id))
    }

    pub(crate) fn lite_expiry(&self, parent: TopicId) -> Option<u64> {
        self.lites.expiry.get(&parent).copied()
    }

    /// Lite topics whose time is over, those for longest first.
    pub(crate) fn lites_over(&self, now: Timestamp) -> impl Iterator<Item = TopicId> + '_ {
        self.lites.expiry.iter().flat_map(move |(parent, after_ms)| {
            let aged = self.lites.by_age.get(parent).into_iter().flatten();
            aged.take_while(move |(written, _)| written.0.saturating_add(*after_ms) <= now.0).map(|(_, id)| *id)
        })
    }

    /// Who is subscribed to a lite topic.
    pub(crate) fn lite_subscribers(&self, id: TopicId) -> impl Iterator<Item = Subscriber> + '_ {
        self.lites.of_topic(id)
    }

    /// Clients of one group that are subscribed to a lite topic.
    pub(crate) fn lite_subscribers_in(&self, group: GroupId, id: TopicId) -> impl Iterator<Item = Subscriber> + '_ {
        let range = (id, (group, 0))..=(id, (group, u64::MAX));
        self.lites.subscribers.range(range).map(|(_, subscriber)| *subscriber)
    }

    pub(crate) fn lite_subscription_count(&self) -> usize {
        self.lites.subscriptions.len()
    }

    pub(crate) fn lite_client(&self, of: Subscriber) -> Option<&LiteClient> {
        self.lites.clients.get(&of)
    }

    pub(crate) fn lite_clients(&self) -> impl Iterator<Item = Subscriber> + '_ {
        self.lites.clients.keys().copied()
    }

    /// What a client is subscribed to.
    pub(crate) fn lite_subscriptions(&self, of: Subscriber) -> impl Iterator<Item = TopicId> + '_ {
        self.lites.of_client(of)
    }
}
