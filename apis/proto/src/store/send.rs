//! Appending.

use std::time::Duration;

use apogee_model::store::{Append, Appended, Half, HalfId, LiteName, RequestId, TopicRef};
use apogee_model::{QueueId, QueueOffset, StoredMessage, Timestamp};

use super::{Malformed, as_millis, narrow, required, v1};

impl From<&StoredMessage> for v1::StoredMessage {
    fn from(message: &StoredMessage) -> Self {
        let StoredMessage { body_part, properties_part } = message.clone();
        Self { body_part, properties_part }
    }
}

impl From<v1::StoredMessage> for StoredMessage {
    fn from(message: v1::StoredMessage) -> Self {
        let v1::StoredMessage { body_part, properties_part } = message;
        Self { body_part, properties_part }
    }
}

impl v1::AppendAsk {
    /// `None` for no messages.
    ///
    /// # Panics
    /// When the messages are not all for one queue of one topic: nobody asks for that.
    pub fn of(messages: &[Append]) -> Option<Self> {
        let first = messages.first()?;
        let together = |append: &Append| append.topic.id == first.topic.id && append.queue == first.queue;
        assert!(messages.iter().all(together), "an append is for one queue of one topic");
        let messages = messages.iter().map(|append| v1::AppendMessage {
            message: Some((&append.message).into()),
            proxy_incarnation: append.request.proxy_incarnation,
            sequence: append.request.sequence,
            due_ms: append.due.map(|due| due.0),
            half_check_after_ms: append.half.map(|half| as_millis(half.check_after)),
            lite: append.lite.as_ref().map(|lite| lite.name.to_string()),
            lite_expiration_ms: append.lite.as_ref().and_then(|lite| lite.expiration).map(as_millis),
        });
        Some(Self {
            topic: Some((&first.topic).into()),
            queue: first.queue.0.into(),
            messages: messages.collect(),
            not_indexed: !first.indexed,
            epoch: first.epoch,
        })
    }

    /// What [`v1::AppendAsk::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] names the part.
    pub fn into_appends(self) -> Result<Vec<Append>, Malformed> {
        let topic: TopicRef = required(self.topic, "the topic")?.try_into()?;
        let (queue, indexed) = (QueueId(narrow(self.queue, "the queue")?), !self.not_indexed);
        let epoch = self.epoch;
        let append = |message: v1::AppendMessage| {
            let v1::AppendMessage { proxy_incarnation, sequence, .. } = message;
            let expiration = message.lite_expiration_ms.map(Duration::from_millis);
            let half = message.half_check_after_ms.map(|after| Half { check_after: Duration::from_millis(after) });
            Ok(Append {
                topic: topic.clone(),
                queue,
                message: required(message.message, "the message")?.into(),
                request: RequestId { proxy_incarnation, sequence },
                due: message.due_ms.map(Timestamp),
                half,
                lite: message.lite.map(|name| LiteName { name: name.into(), expiration }),
                indexed,
                epoch,
            })
        };
        self.messages.into_iter().map(append).collect()
    }
}

impl v1::Appended {
    pub fn of(appended: &[Appended]) -> Self {
        let places = appended.iter().map(|at| v1::AppendedAt {
            queue: at.queue.0.into(),
            offset: at.offset.0,
            stored_at_ms: at.stored_at.0,
            kept: at.kept.map(Into::into),
            half: at.half.map(|half| half.0),
        });
        Self { places: places.collect() }
    }

    /// What [`v1::Appended::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] for a queue that cannot be.
    pub fn into_appended(self) -> Result<Vec<Appended>, Malformed> {
        let place = |at: v1::AppendedAt| {
            let queue = QueueId(narrow(at.queue, "the queue")?);
            let (offset, stored_at) = (QueueOffset(at.offset), Timestamp(at.stored_at_ms));
            Ok(Appended { queue, offset, stored_at, kept: at.kept.map(Into::into), half: at.half.map(HalfId) })
        };
        self.places.into_iter().map(place).collect()
    }
}
