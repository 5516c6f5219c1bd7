//! Sealing: the queues of a topic with message groups become more, and no message overtakes another one by it.
//!
//! Message groups are hashed over the queues. So at first no message is taken that was hashed over those there are now;
//! when the ordered groups have settled what is there, namesrv gives the topic its new queues, and an epoch that sends say.

use apogee_model::TopicId;
use apogee_model::store::{Append, Seal, Sealed};
use tokio::sync::oneshot::Sender;

use super::{Answer, Leader, Now};
use crate::record::Record;

impl Leader {
    /// Answered when it is committed. Asked again, it changes nothing.
    pub(super) fn seal(&mut self, seal: &Seal, reply: Sender<Sealed>, now: Now) -> Option<Answer> {
        let (topic, epoch) = (seal.topic.id, seal.epoch.saturating_add(1));
        if self.sealed(topic) < epoch {
            self.name_topic(&seal.topic, now);
            self.propose(Record::Seal { topic, epoch }, now);
        }
        let committed = self.state.sealed(topic) >= epoch;
        let drained = committed && seal.groups.iter().all(|group| self.state.is_drained(*group, topic));
        self.blocks.answer(Answer::Sealed(reply, Sealed { drained }))
    }

    /// Whether messages of message groups were hashed over queues that count no more.
    pub(super) fn is_hashed_otherwise(&self, messages: &[Append]) -> bool {
        messages.iter().any(|append| append.epoch < self.sealed(append.topic.id) && has_line(append))
    }

    /// Uncommitted seals included.
    fn sealed(&self, topic: TopicId) -> u32 {
        self.overlay.sealed(topic).unwrap_or_default().max(self.state.sealed(topic))
    }
}

fn has_line(append: &Append) -> bool {
    append.lite.is_none() && append.message.message_group().is_some()
}
