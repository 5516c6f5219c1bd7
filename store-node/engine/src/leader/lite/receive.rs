//! Pops of clients that are subscribed to lite topics.

use apogee_model::store::{LeaseTerms, Pop, TopicRef};
use apogee_model::{DeliveryOrder, TopicId};
use tokio::sync::oneshot::Sender;

use crate::leader::locks::Locks;
use crate::leader::{Answer, Granted, Leader, Now};
use crate::state::Subscriber;

/// Lite topics that one pop tries, when they turn out to have nothing.
const TRIES: usize = 256;
/// A client that holds more messages than this gets no others.
///
/// Source: apache/rocketmq 5.5 `proxy/.../ReceiveMessageActivity.java` (unacked messages of a lite consumer's channel).
const UNSETTLED_MAX: usize = 100;

impl Leader {
    /// Grants messages of the lite topics that have something for the client: of one for a push consumer, which works
    /// through an answer one by one.
    pub(in crate::leader) fn pop_lite(&mut self, pop: &Pop, reply: Sender<Granted>, now: Now) -> Option<Answer> {
        let of = (pop.group.id, crate::client_hash(&pop.client));
        if let Some((_, evicted)) = self.lites.evicted.remove(&of) {
            let evicted = evicted.into_iter().collect();
            return Some(Answer::Popped(reply, Granted { evicted, more: true, ..Granted::default() }));
        }
        if let Some(granted) = self.replay_lite(of, pop, now) {
            return self.blocks.answer(Answer::Popped(reply, granted));
        }
        let unsettled = self.lite_unsettled(of);
        if unsettled > UNSETTLED_MAX {
            let granted = Granted { unsettled: Some(unsettled), ..Granted::default() };
            return Some(Answer::Popped(reply, granted));
        }
        let granted = self.grant_lite(of, pop, now);
        let answer = Answer::Popped(reply, granted);
        // What a filter refused was passed by a record, and what comes next rests on it.
        self.blocks.answer(answer)
    }

    /// The unsettled rest of the batch that an earlier try of the same receive was granted.
    fn replay_lite(&mut self, of: Subscriber, pop: &Pop, now: Now) -> Option<Granted> {
        let mut all = Granted::default();
        for id in self.lites.held.get(&of).cloned().unwrap_or_default() {
            if let Some(again) = self.replay(&one(pop, id, pop.batch), now) {
                all.grants.extend(again.grants);
            }
        }
        (!all.grants.is_empty()).then_some(all)
    }

    /// Messages that the client has. Forgets lite topics of which it has none any more.
    fn lite_unsettled(&mut self, of: Subscriber) -> usize {
        let Some(held) = self.lites.held.get_mut(&of) else { return 0 };
        let mut unsettled = 0;
        held.retain(|id| {
            let out = self.locks.get(&(of.0, *id)).map_or(0, Locks::out);
            unsettled += out;
            out > 0
        });
        if held.is_empty() {
            self.lites.held.remove(&of);
        }
        unsettled
    }

    fn grant_lite(&mut self, of: Subscriber, pop: &Pop, now: Now) -> Granted {
        let mut all = Granted::default();
        for _ in 0..TRIES {
            let Some(id) = self.lites.first_work(of) else { break };
            if !self.lite_has_work(of.0, id) {
                self.lites.end_work(of, id);
                continue;
            }
            let one = one(pop, id, pop.batch - all.grants.len());
            self.keep_order(&one);
            self.lites.turn += 1;
            let Some((granted, exhausted)) = self.grant_in_order(&one, self.lites.turn, now) else { break };
            if granted.grants.is_empty() && exhausted {
                break; // it goes on from here when others had their turn
            }
            self.lites.end_work(of, id); // what is given back, or follows, comes with its own word
            if granted.grants.is_empty() {
                self.lite_stirred(of.0, id);
            } else {
                self.lites.held.entry(of).or_default().insert(id);
            }
            all.grants.extend(granted.grants);
            all.burials.extend(granted.burials);
            let enough = all.grants.len() >= pop.batch || pop.lease == LeaseTerms::AutoRenew && !all.grants.is_empty();
            if enough || !all.burials.is_empty() {
                break;
            }
        }
        all.more = !all.burials.is_empty() || self.lites.first_work(of).is_some();
        all
    }
}

/// The same, of one lite topic.
fn one(pop: &Pop, id: TopicId, batch: usize) -> Pop {
    let topic = TopicRef { id, name: pop.topic.name.clone(), queues: 1 };
    Pop { topic, batch, order: DeliveryOrder::Fifo, ..pop.clone() }
}
