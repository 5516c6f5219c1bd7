//! Lite topics: who gets messages of which, and what was proposed about them.
//!
//! Of every client that is subscribed the leader knows the lite topics with something for it, and nothing is looked
//! through to find them: a message that comes, a delivery that ends and a subscription that begins put a lite topic there,
//! for all clients of the group that are subscribed to it, and whoever asks first gets it. A lite topic is kept in order
//! as a message group is, by `fifo` and `locks`: it is locked while a message of it is out.
//!
//! Source: apache/rocketmq `broker/.../lite/` (RIP-83).

mod expire;
mod receive;
mod status;
mod subscribe;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use apogee_host::Monotonic;
use apogee_model::store::TopicRef;
use apogee_model::{GroupId, TopicId};

use super::{Leader, Now, Ticket};
use crate::record::{LiteExpiry, LiteTopic, QueueOf, Record};
use crate::state::{LITE_QUEUE, LiteNews, State, Subscriber};

/// Lite topics that a client lost and was not told; of more it hears when it says again that it is subscribed.
const EVICTED_MAX: usize = 1024;

/// Everything the leader knows beside the state.
#[derive(Debug)]
pub(super) struct Lites {
    topics_max: usize,
    /// Proposed, by name.
    names: BTreeMap<(TopicId, Box<str>), TopicId>,
    /// Proposed to go.
    leaving: BTreeSet<TopicId>,
    /// Proposed, and whether they begin.
    subscriptions: BTreeMap<(Subscriber, TopicId), (Ticket, bool)>,
    expiry: BTreeMap<TopicId, Option<u64>>,
    touched: VecDeque<(Ticket, Touch)>,
    /// The newest id that was proposed.
    last: TopicId,
    /// Lite topics that have something for a client, who waits for longest first.
    work: BTreeMap<Subscriber, Work>,
    turn: u64,
    /// Lite topics that a client was given messages of; some may be settled.
    held: BTreeMap<Subscriber, BTreeSet<TopicId>>,
    /// When a client last said what it is subscribed to.
    refreshed: BTreeMap<Subscriber, Monotonic>,
    /// When to look again for what is over.
    look_at: Monotonic,
    /// What clients lost to others of their group and were not told, and since when.
    evicted: BTreeMap<Subscriber, (Monotonic, BTreeSet<Box<str>>)>,
}

#[derive(Debug, Default)]
struct Work {
    by_turn: BTreeMap<u64, TopicId>,
    turns: BTreeMap<TopicId, u64>,
}

#[derive(Debug)]
enum Touch {
    Name(TopicId, Box<str>),
    Subscription(Subscriber, TopicId),
    Expiry(TopicId),
}

impl Lites {
    pub(super) fn new(topics_max: usize, now: Now) -> Self {
        Self {
            topics_max,
            names: BTreeMap::new(),
            leaving: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            expiry: BTreeMap::new(),
            touched: VecDeque::new(),
            last: TopicId(0),
            work: BTreeMap::new(),
            turn: 0,
            held: BTreeMap::new(),
            refreshed: BTreeMap::new(),
            look_at: now.monotonic,
            evicted: BTreeMap::new(),
        }
    }

    /// Forgets proposals up to `applied`: the state shows them now.
    pub(super) fn retire(&mut self, applied: Ticket) {
        while let Some((_, touch)) = self.touched.pop_front_if(|(block, _)| *block <= applied) {
            match touch {
                Touch::Name(parent, name) => drop(self.names.remove(&(parent, name))),
                Touch::Expiry(parent) => drop(self.expiry.remove(&parent)),
                Touch::Subscription(of, id) => {
                    if self.subscriptions.get(&(of, id)).is_some_and(|(block, _)| *block <= applied) {
                        self.subscriptions.remove(&(of, id));
                    }
                }
            }
        }
    }

    fn add_work(&mut self, of: Subscriber, id: TopicId) -> bool {
        let work = self.work.entry(of).or_default();
        if work.turns.contains_key(&id) {
            return false;
        }
        self.turn += 1;
        work.by_turn.insert(self.turn, id);
        work.turns.insert(id, self.turn);
        true
    }

    fn end_work(&mut self, of: Subscriber, id: TopicId) {
        let Some(work) = self.work.get_mut(&of) else { return };
        if let Some(turn) = work.turns.remove(&id) {
            work.by_turn.remove(&turn);
        }
        if work.turns.is_empty() {
            self.work.remove(&of);
        }
    }

    fn first_work(&self, of: Subscriber) -> Option<TopicId> {
        self.work.get(&of)?.by_turn.values().next().copied()
    }
}

impl Leader {
    /// The client lost a lite topic, and hears of it with its next receive.
    fn lite_evicted(&mut self, of: Subscriber, name: &str, now: Now) {
        let (_, names) = self.lites.evicted.entry(of).or_insert_with(|| (now.monotonic, BTreeSet::new()));
        if names.len() < EVICTED_MAX {
            names.insert(name.into());
        }
        self.watches.ready_for(of);
    }

    /// Finds out what there is for whom.
    pub(super) fn resume_lites(&mut self, now: Now) {
        let mut held = Vec::new();
        for ((group, id), pop) in self.state.pops.iter().filter(|((_, id), _)| id.is_lite()) {
            let entries = pop.queues.values().flat_map(|queue| queue.entries.values());
            held.extend(entries.map(|entry| ((*group, *id), entry.client)));
        }
        for ((group, id), client) in held {
            if !self.locks.contains_key(&(group, id)) {
                let locks = self.locks_of((group, id));
                self.locks.insert((group, id), locks);
            }
            self.lites.held.entry((group, client)).or_default().insert(id);
        }
        for of in self.state.lite_clients().collect::<Vec<_>>() {
            self.lites.refreshed.insert(of, now.monotonic);
            for id in self.state.lite_subscriptions(of).collect::<Vec<_>>() {
                self.lite_begins(of, id);
            }
        }
    }

    /// The id of a lite topic, proposals included.
    fn lite_id(&self, parent: TopicId, name: &str) -> Option<TopicId> {
        let proposed = self.lites.names.get(&(parent, name.into())).copied();
        proposed.or_else(|| self.state.lite(parent, name)).filter(|id| !self.lites.leaving.contains(id))
    }

    /// How many lite topics may still be made.
    fn lite_room(&self) -> usize {
        self.lites.topics_max.saturating_sub(self.state.lite_count() + self.lites.names.len())
    }

    /// The lite topic of this name, made now if need be. `None`: there are too many.
    pub(super) fn lite_or_create(&mut self, parent: &TopicRef, name: &str, now: Now) -> Option<TopicId> {
        if let Some(id) = self.lite_id(parent.id, name) {
            return Some(id);
        }
        if self.lite_room() == 0 {
            return None;
        }
        let id = self.state.next_lite()?.max(TopicId(self.lites.last.0.checked_add(1)?));
        self.lites.last = id;
        self.name_topic(parent, now);
        self.propose(Record::LiteTopic(LiteTopic { parent: parent.id, id, name: name.into() }), now);
        self.lites.names.insert((parent.id, name.into()), id);
        self.lites.touched.push_back((self.blocks.ticket(), Touch::Name(parent.id, name.into())));
        Some(id)
    }

    /// Remembers how long lite topics of a topic live.
    pub(super) fn lite_expires(&mut self, parent: TopicId, after: Option<std::time::Duration>, now: Now) {
        let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX - 1));
        let known = self.lites.expiry.get(&parent).copied();
        if known.unwrap_or_else(|| self.state.lite_expiry(parent)) != after_ms {
            self.propose(Record::LiteExpiry(LiteExpiry { parent, after_ms }), now);
            self.lites.expiry.insert(parent, after_ms);
            self.lites.touched.push_back((self.blocks.ticket(), Touch::Expiry(parent)));
        }
    }

    /// Whether a group can be given something of a lite topic.
    fn lite_has_work(&self, group: GroupId, id: TopicId) -> bool {
        if self.lites.leaving.contains(&id) {
            return false;
        }
        match self.locks.get(&(group, id)) {
            Some(locks) if locks.has_free() => true,
            Some(locks) if locks.count(LITE_QUEUE) > 0 => false,
            Some(_) | None => {
                let cursor = self.cursor(QueueOf { group, topic: id, queue: LITE_QUEUE });
                self.is_open(group, id) && cursor.max(self.min(id, LITE_QUEUE)) < self.state.queue(id, LITE_QUEUE).next
            }
        }
    }

    /// The client may have something there from now on.
    fn lite_begins(&mut self, of: Subscriber, id: TopicId) {
        if self.lite_has_work(of.0, id) && self.lites.add_work(of, id) {
            self.watches.ready_for(of);
        }
    }

    /// A message came.
    pub(super) fn lite_arrived(&mut self, id: TopicId) {
        for of in self.state.lite_subscribers(id).collect::<Vec<_>>() {
            self.lite_begins(of, id);
        }
    }

    /// Something about what a group was given of a lite topic has changed.
    pub(super) fn lite_stirred(&mut self, group: GroupId, id: TopicId) {
        if self.locks.get(&(group, id)).is_some_and(|locks| locks.count(LITE_QUEUE) == 0) {
            self.locks.remove(&(group, id)); // there are many lite topics, and few of them have something out
        }
        if self.lite_has_work(group, id) {
            for of in self.state.lite_subscribers_in(group, id).collect::<Vec<_>>() {
                self.lite_begins(of, id);
            }
        }
    }

    /// What the log says about lite topics and subscriptions.
    pub(super) fn lite_news(&mut self, news: Vec<LiteNews>, now: Now) {
        for it in news {
            match it {
                LiteNews::Added(of, id) => self.lite_begins(of, id),
                LiteNews::Removed(of, id) => {
                    self.lites.end_work(of, id);
                    if self.state.lite_client(of).is_none() {
                        self.lites.refreshed.remove(&of);
                    }
                }
                LiteNews::Evicted(of, name) => self.lite_evicted(of, &name, now),
                LiteNews::Gone(id) => drop(self.lites.leaving.remove(&id)),
            }
        }
    }

    /// The group is gone.
    pub(super) fn drop_lites_of(&mut self, group: GroupId) {
        self.lites.work.retain(|of, _| of.0 != group);
        self.lites.held.retain(|of, _| of.0 != group);
        self.lites.refreshed.retain(|of, _| of.0 != group);
    }
}

/// Lite topics of the state alone.
pub(super) fn has_lites(state: &State) -> bool {
    state.lite_count() > 0 || state.lite_clients().next().is_some()
}
