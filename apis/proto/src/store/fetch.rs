//! Reading without consuming.

use apogee_model::store::{Fetch, FetchFrom, Fetched, FetchedMessage};
use apogee_model::{QueueId, QueueOffset, Timestamp, TopicId};

use super::v1::fetch_ask::From as Begin;
use super::{Malformed, narrow, required, v1};

impl From<&Fetch> for v1::FetchAsk {
    fn from(fetch: &Fetch) -> Self {
        let from = match fetch.from {
            FetchFrom::Offset(offset) => Begin::Offset(offset.0),
            FetchFrom::Time(at) => Begin::TimeMs(at.0),
            FetchFrom::End => Begin::End(v1::Done {}),
        };
        Self {
            topic: fetch.topic.0,
            queue: fetch.queue.0.into(),
            from: Some(from),
            messages: u32::try_from(fetch.messages).unwrap_or(u32::MAX),
            bytes: u64::try_from(fetch.bytes).unwrap_or(u64::MAX),
            message_id: fetch.message_id.clone(),
            filter: v1::Filter::of(&fetch.filter),
        }
    }
}

impl TryFrom<v1::FetchAsk> for Fetch {
    type Error = Malformed;

    fn try_from(ask: v1::FetchAsk) -> Result<Self, Malformed> {
        let from = match required(ask.from, "where to fetch from")? {
            Begin::Offset(offset) => FetchFrom::Offset(QueueOffset(offset)),
            Begin::TimeMs(millis) => FetchFrom::Time(Timestamp(millis)),
            Begin::End(_) => FetchFrom::End,
        };
        Ok(Self {
            topic: TopicId(ask.topic),
            queue: QueueId(narrow(ask.queue, "the queue")?),
            from,
            messages: usize::try_from(ask.messages).unwrap_or(usize::MAX),
            bytes: usize::try_from(ask.bytes).unwrap_or(usize::MAX),
            message_id: ask.message_id,
            filter: v1::Filter::into_filter(ask.filter)?,
        })
    }
}

impl From<&Fetched> for v1::Fetched {
    fn from(fetched: &Fetched) -> Self {
        let message = |it: &FetchedMessage| v1::FetchedMessage {
            offset: it.offset.0,
            stored_at_ms: it.stored_at.0,
            message: Some((&it.message).into()),
        };
        let messages = fetched.messages.iter().map(message).collect();
        let reached_ms = fetched.reached.map(|at| at.0);
        Self { min: fetched.min.0, max: fetched.max.0, next: fetched.next.0, messages, reached_ms }
    }
}

impl TryFrom<v1::Fetched> for Fetched {
    type Error = Malformed;

    fn try_from(fetched: v1::Fetched) -> Result<Self, Malformed> {
        let message = |it: v1::FetchedMessage| {
            let message = required(it.message, "the message")?.into();
            Ok(FetchedMessage { offset: QueueOffset(it.offset), stored_at: Timestamp(it.stored_at_ms), message })
        };
        Ok(Self {
            min: QueueOffset(fetched.min),
            max: QueueOffset(fetched.max),
            next: QueueOffset(fetched.next),
            reached: fetched.reached_ms.map(Timestamp),
            messages: fetched.messages.into_iter().map(message).collect::<Result<_, Malformed>>()?,
        })
    }
}
