//! Appending: what producers send, and what became of it when it was sent before.

use apogee_model::store::{Append, Appended, HalfId, KeptId};
use apogee_model::{QueueId, QueueOffset, Timestamp, TopicId};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::oneshot::Sender;

use super::{Answer, Leader, NotAppended, Now};
use crate::record::{Kept, Record};
use crate::state::LITE_QUEUE;
use crate::views::rows::Earlier;

/// An append that was asked before.
enum Known {
    Applied(Vec<Appended>),
    Proposed(Vec<Appended>),
}

impl Leader {
    /// Messages that are appended together or not at all.
    pub(super) fn append(
        &mut self,
        messages: Vec<Append>,
        room: OwnedSemaphorePermit,
        reply: Sender<Result<Vec<Appended>, NotAppended>>,
        now: Now,
    ) -> Option<Answer> {
        // A caller that gave up before its turn may be told nothing, so nothing needs to happen.
        if reply.is_closed() {
            return None;
        }
        let appended = match self.resent(&messages) {
            Some(Known::Applied(appended)) => return Some(Answer::Appended(reply, Ok(appended), room)),
            Some(Known::Proposed(appended)) => Ok(appended),
            None if self.is_hashed_otherwise(&messages) => {
                return Some(Answer::Appended(reply, Err(NotAppended::Sealed), room));
            }
            None => self.take(messages, now),
        };
        self.blocks.answer(Answer::Appended(reply, appended, room))
    }

    /// What came of this append when it was asked before: proxies ask again when an answer got lost.
    fn resent(&self, messages: &[Append]) -> Option<Known> {
        let request = messages.first()?.request;
        if let Some((_, appended)) = self.proposed.get(&request) {
            return Some(Known::Proposed(appended.clone()));
        }
        let mut appended = Vec::with_capacity(messages.len());
        while let Some(message) = messages.get(appended.len()) {
            let Some(earlier) = self.state.earlier(&message.request) else { break };
            appended.extend(results(&earlier));
        }
        (!appended.is_empty()).then_some(Known::Applied(appended))
    }

    fn take(&mut self, messages: Vec<Append>, now: Now) -> Result<Vec<Appended>, NotAppended> {
        let request = messages.first().map(|append| append.request);
        let bytes = messages.iter().map(|append| crate::record::HEADER + append.message.len() + 16).sum();
        if let Some(first) = messages.first() {
            self.name_topic(&first.topic, now);
            self.set_index(first.topic.id, first.indexed, now);
        }
        let Some(targets) = self.targets(&messages, now) else {
            return Err(NotAppended::TooManyLiteTopics);
        };
        self.blocks.reserve(bytes, messages.len(), now.wall);
        let stored_at = self.blocks.log_time();
        let appended: Vec<_> = messages
            .into_iter()
            .zip(targets)
            .map(|(append, (topic, queue))| {
                let Append { message, request, due, half, .. } = append;
                if let Some(half) = half {
                    let id = self.begin_half(topic, queue, request, half, message, now);
                    return Appended { queue, offset: QueueOffset(0), stored_at, kept: None, half: Some(id) };
                }
                if let Some(due) = due.filter(|due| *due > now.wall) {
                    let id = self.timer.name(due, &self.state);
                    self.propose(Record::Kept(Kept { topic, queue, id, request, message }), now);
                    return Appended { queue, offset: QueueOffset(0), stored_at, kept: Some(id), half: None };
                }
                let offset = self.next_offset(topic, queue);
                self.propose(Record::Message { topic, queue, offset, request, message }, now);
                Appended { queue, offset, stored_at, kept: None, half: None }
            })
            .collect();
        if let Some(request) = request.filter(|request| request.proxy_incarnation != 0) {
            self.proposed.insert(request, (self.blocks.ticket(), appended.clone()));
        }
        Ok(appended)
    }

    /// The queue of each message; `None` when they are for a lite topic that is one too many.
    fn targets(&mut self, messages: &[Append], now: Now) -> Option<Vec<(TopicId, QueueId)>> {
        let target = |append: &Append| {
            let Some(lite) = &append.lite else { return Some((append.topic.id, append.queue)) };
            self.lite_expires(append.topic.id, lite.expiration, now);
            Some((self.lite_or_create(&append.topic, &lite.name, now)?, LITE_QUEUE))
        };
        messages.iter().map(target).collect()
    }

    /// Whether messages of a topic are found by their keys from now on.
    fn set_index(&mut self, topic: TopicId, on: bool, now: Now) {
        if self.overlay.is_indexed(topic).unwrap_or_else(|| self.state.is_indexed(topic)) != on {
            self.propose(Record::KeyIndex { topic, on }, now);
        }
    }
}

/// What came of a request, one answer for each of its messages.
fn results(earlier: &Earlier) -> impl Iterator<Item = Appended> {
    let Earlier { queue, first, stored_at, due, .. } = *earlier;
    let half = due == Earlier::HALF;
    let kept = due > Timestamp::default() && !half;
    (first.0..first.0 + u64::from(earlier.count)).map(move |number| Appended {
        queue,
        offset: if kept || half { QueueOffset(0) } else { QueueOffset(number) },
        stored_at,
        kept: kept.then_some(KeptId { due, number }),
        half: half.then_some(HalfId(number)),
    })
}
