//! Resets of offsets.

use apogee_model::store::{QueueReset, Reset, ResetTo};
use apogee_model::{QueueId, QueueOffset, Timestamp};

use super::v1::reset_ask::To;
use super::{Malformed, narrow, required, v1};

impl From<&Reset> for v1::ResetAsk {
    fn from(reset: &Reset) -> Self {
        let to = match &reset.to {
            ResetTo::Earliest => To::Earliest(v1::Done {}),
            ResetTo::Latest => To::Latest(v1::Done {}),
            ResetTo::Time(at) => To::TimeMs(at.0),
            ResetTo::Offsets(offsets) => {
                let offset = |(queue, offset): (&QueueId, &QueueOffset)| v1::QueueOffset {
                    queue: queue.0.into(),
                    offset: offset.0,
                };
                To::Offsets(v1::QueueOffsets { offsets: offsets.iter().map(offset).collect() })
            }
        };
        Self {
            group: Some((&reset.group).into()),
            topic: Some((&reset.topic).into()),
            to: Some(to),
            dry_run: reset.dry_run,
        }
    }
}

impl TryFrom<v1::ResetAsk> for Reset {
    type Error = Malformed;

    fn try_from(ask: v1::ResetAsk) -> Result<Self, Malformed> {
        let to = match required(ask.to, "where to reset to")? {
            To::Earliest(_) => ResetTo::Earliest,
            To::Latest(_) => ResetTo::Latest,
            To::TimeMs(millis) => ResetTo::Time(Timestamp(millis)),
            To::Offsets(offsets) => {
                let offset = |it: v1::QueueOffset| {
                    Ok((QueueId(narrow(it.queue, "the queue of an offset")?), QueueOffset(it.offset)))
                };
                ResetTo::Offsets(offsets.offsets.into_iter().map(offset).collect::<Result<_, Malformed>>()?)
            }
        };
        Ok(Self {
            group: required(ask.group, "the group")?.try_into()?,
            topic: required(ask.topic, "the topic")?.try_into()?,
            to,
            dry_run: ask.dry_run,
        })
    }
}

impl v1::QueueResets {
    pub fn of(queues: &[QueueReset]) -> Self {
        let row = |it: &QueueReset| v1::QueueReset {
            queue: it.queue.0.into(),
            before: it.before.0,
            after: it.after.0,
            in_flight: it.in_flight,
        };
        Self { queues: queues.iter().map(row).collect() }
    }

    /// What [`v1::QueueResets::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] for a queue that cannot be.
    pub fn into_queues(self) -> Result<Vec<QueueReset>, Malformed> {
        let row = |it: v1::QueueReset| {
            let (before, after) = (QueueOffset(it.before), QueueOffset(it.after));
            Ok(QueueReset { queue: QueueId(narrow(it.queue, "the queue")?), before, after, in_flight: it.in_flight })
        };
        self.queues.into_iter().map(row).collect()
    }
}
