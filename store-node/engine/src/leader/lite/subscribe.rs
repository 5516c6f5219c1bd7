//! Deciding what clients are subscribed to.

use std::collections::BTreeSet;

use apogee_model::store::{LiteChange, LiteStart, LiteSubscribed, LiteSubscription};
use apogee_model::{QueueOffset, TopicId};
use tokio::sync::oneshot::Sender;

use super::Touch;
use crate::leader::{Answer, Leader, Now};
use crate::record::{LiteChanged, LiteSubscribe, QueueOf, Record};
use crate::state::{LITE_QUEUE, Subscriber};

/// Lite topics that one record names.
const IDS_MAX: usize = 512;
/// Subscriptions of all clients, for each lite topic that there may be.
const SUBSCRIPTIONS_PER_TOPIC: usize = 4;

impl Leader {
    /// Answered when it is committed.
    pub(in crate::leader) fn lite_subscribe(
        &mut self,
        ask: &LiteSubscription,
        reply: Sender<LiteSubscribed>,
        now: Now,
    ) -> Option<Answer> {
        if reply.is_closed() {
            return None;
        }
        let of = (ask.group.id, crate::client_hash(&ask.client));
        if self.dropped.contains(&of.0) {
            return Some(Answer::LiteSubscribed(reply, LiteSubscribed::Done));
        }
        self.lites.refreshed.insert(of, now.monotonic);
        self.lite_expires(ask.topic.id, ask.terms.expiration, now);
        let current = self.lite_current(of);
        let done = match ask.change {
            LiteChange::Add | LiteChange::Complete => self.lite_add(of, ask, &current, now),
            LiteChange::Remove => {
                let named = ask.names.iter().filter_map(|name| self.lite_id(ask.topic.id, name));
                let ids = named.filter(|id| current.contains(id)).collect();
                self.lite_remove(of, ask, ids, now)
            }
            LiteChange::RemoveAll => self.lite_remove(of, ask, current.into_iter().collect(), now),
        };
        self.blocks.answer(Answer::LiteSubscribed(reply, done))
    }

    /// What a client is subscribed to, proposals included.
    fn lite_current(&self, of: Subscriber) -> BTreeSet<TopicId> {
        let mut current: BTreeSet<_> = self.state.lite_subscriptions(of).collect();
        for ((_, id), (_, begins)) in self.lites.subscriptions.range((of, TopicId(0))..=(of, TopicId(u32::MAX))) {
            if *begins {
                current.insert(*id)
            } else {
                current.remove(id)
            };
        }
        current
    }

    fn lite_add(
        &mut self,
        of: Subscriber,
        ask: &LiteSubscription,
        current: &BTreeSet<TopicId>,
        now: Now,
    ) -> LiteSubscribed {
        let complete = ask.change == LiteChange::Complete;
        let names: BTreeSet<&str> = ask.names.iter().map(|name| &**name).collect();
        let known: Vec<_> = names.iter().map(|name| (*name, self.lite_id(ask.topic.id, name))).collect();
        let fresh = known.iter().filter(|(_, id)| id.is_none_or(|id| !current.contains(&id))).count();
        let kept = if complete { names.len() - fresh } else { current.len() };
        let all_max = self.lites.topics_max.saturating_mul(SUBSCRIPTIONS_PER_TOPIC);
        if kept + fresh > ask.terms.client_max {
            return LiteSubscribed::TooManySubscriptions { max: ask.terms.client_max };
        }
        if self.state.lite_subscription_count() + self.lites.subscriptions.len() + fresh > all_max {
            return LiteSubscribed::TooManySubscriptions { max: all_max };
        }
        if known.iter().filter(|(_, id)| id.is_none()).count() > self.lite_room() {
            return LiteSubscribed::TooManyTopics { max: self.lites.topics_max };
        }
        self.name_group(&ask.group, now);
        let (mut begun, mut named) = (Vec::new(), BTreeSet::new());
        for (name, _) in known {
            let Some(id) = self.lite_or_create(&ask.topic, name, now) else { continue };
            named.insert(id);
            if current.contains(&id) {
                continue;
            }
            let taken = ask.terms.exclusive && self.lite_has_other(of, id);
            if taken && complete {
                self.lite_evicted(of, name, now);
                continue;
            }
            self.lite_starts(ask, id, taken, now);
            begun.push(id);
        }
        let change = if ask.terms.exclusive { LiteChanged::TakenOver } else { LiteChanged::Added };
        self.propose_subscriptions((of, ask.topic.id, ask.client.as_str()), change, &begun, now);
        if complete {
            let ended = current.iter().filter(|id| !named.contains(id)).copied().collect();
            self.lite_remove(of, ask, ended, now);
        }
        LiteSubscribed::Done
    }

    fn lite_remove(&mut self, of: Subscriber, ask: &LiteSubscription, ids: Vec<TopicId>, now: Now) -> LiteSubscribed {
        self.propose_subscriptions((of, ask.topic.id, ask.client.as_str()), LiteChanged::Removed, &ids, now);
        if ask.terms.reset_on_unsubscribe {
            for id in ids.into_iter().filter(|id| !self.lite_has_other(of, *id)).collect::<Vec<_>>() {
                let min = self.min(id, LITE_QUEUE);
                self.lite_goes_on(of, id, min, now);
            }
        }
        LiteSubscribed::Done
    }

    /// Whether another client of the group is subscribed.
    fn lite_has_other(&self, of: Subscriber, id: TopicId) -> bool {
        self.state.lite_subscribers_in(of.0, id).any(|other| other != of)
    }

    /// Where the group begins in a lite topic, or goes on, now that the client is subscribed to it.
    fn lite_starts(&mut self, ask: &LiteSubscription, id: TopicId, taken: bool, now: Now) {
        let of = (ask.group.id, crate::client_hash(&ask.client));
        let from = match ask.change {
            LiteChange::Add => ask.from,
            LiteChange::Remove | LiteChange::Complete | LiteChange::RemoveAll => LiteStart::Last,
        };
        let from = if taken && ask.terms.reset_on_takeover { LiteStart::Earliest } else { from };
        let (is_open, min, end) = (self.is_open(of.0, id), self.min(id, LITE_QUEUE), self.next_offset(id, LITE_QUEUE));
        let at = match from {
            LiteStart::Last => None,
            LiteStart::Earliest => Some(min),
            LiteStart::Latest => Some(end),
            LiteStart::At(offset) => Some(offset),
            LiteStart::Tail(count) => is_open.then(|| QueueOffset(self.lite_floor(of, id).0.saturating_sub(count))),
            LiteStart::Time(at) => {
                Some(self.first_stored(id, LITE_QUEUE, min..self.state.queue(id, LITE_QUEUE).next, at))
            }
        };
        let at = at.map(|at| at.clamp(min, end.max(min)));
        if is_open {
            at.into_iter().for_each(|at| self.lite_goes_on(of, id, at, now));
        } else {
            let start = at.unwrap_or_else(|| self.start(id, LITE_QUEUE));
            let starts = vec![(LITE_QUEUE, start)];
            self.propose(Record::Open { group: of.0, topic: id, starts }, now);
        }
    }

    /// Everything below is settled.
    fn lite_floor(&self, of: Subscriber, id: TopicId) -> QueueOffset {
        let pop = self.state.pops.get(&(of.0, id)).and_then(|pop| pop.queues.get(&LITE_QUEUE));
        let queue = QueueOf { group: of.0, topic: id, queue: LITE_QUEUE };
        pop.map_or_else(|| self.cursor(queue), crate::pop::PopQueue::floor)
    }

    fn lite_goes_on(&mut self, of: Subscriber, id: TopicId, at: QueueOffset, now: Now) {
        if self.is_open(of.0, id) {
            self.propose(Record::Reset { group: of.0, topic: id, starts: vec![(LITE_QUEUE, at)] }, now);
        }
    }

    pub(super) fn propose_subscriptions(
        &mut self,
        (of, parent, client): (Subscriber, TopicId, &str),
        change: LiteChanged,
        ids: &[TopicId],
        now: Now,
    ) {
        for ids in ids.chunks(IDS_MAX) {
            let (group, client) = (of.0, client.into());
            let record = LiteSubscribe { group, parent, client, change, ids: ids.to_vec() };
            self.propose(Record::LiteSubscribe(record), now);
            let ticket = self.blocks.ticket();
            for id in ids {
                self.lites.subscriptions.insert((of, *id), (ticket, change != LiteChanged::Removed));
                self.lites.touched.push_back((ticket, Touch::Subscription(of, *id)));
            }
        }
    }
}
