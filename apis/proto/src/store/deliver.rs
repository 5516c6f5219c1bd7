//! Popping, and what becomes of deliveries.

use std::time::Duration;

use apogee_model::store::{DeadLetters, Delivery, DeliveryKey, LeaseTerms, Pop, Settled, Settlement};
use apogee_model::{
    ClientId, DeliveryAttempt, DeliveryOrder, DeliverySeq, Epoch, GroupId, InvisibleDuration, PriorityFactor, QueueId,
    QueueOffset, Rests, Timestamp, TopicId,
};

use super::{Malformed, narrow, required, v1};

impl From<&Pop> for v1::PopAsk {
    fn from(pop: &Pop) -> Self {
        let invisible_ms = match pop.lease {
            LeaseTerms::Fixed(invisible) => Some(invisible.as_millis()),
            LeaseTerms::AutoRenew => None,
        };
        Self {
            group: Some((&pop.group).into()),
            topic: Some((&pop.topic).into()),
            filter: v1::Filter::of(&pop.filter),
            batch: u32::try_from(pop.batch).unwrap_or(u32::MAX),
            invisible_ms,
            attempt_id: pop.attempt_id.clone(),
            client: pop.client.as_str().to_owned(),
            dead_letters: pop.dead_letters.as_ref().map(Into::into),
            ordered: pop.order == DeliveryOrder::Fifo,
            priority_factor: pop.priority.map(|factor| factor.percent().into()),
            lite: pop.lite,
        }
    }
}

impl TryFrom<v1::PopAsk> for Pop {
    type Error = Malformed;

    fn try_from(pop: v1::PopAsk) -> Result<Self, Malformed> {
        let lease = match pop.invisible_ms {
            Some(millis) => LeaseTerms::Fixed(invisible(millis)?),
            None => LeaseTerms::AutoRenew,
        };
        Ok(Self {
            group: required(pop.group, "the group")?.try_into()?,
            topic: required(pop.topic, "the topic")?.try_into()?,
            filter: v1::Filter::into_filter(pop.filter)?,
            batch: narrow(pop.batch, "the size of the batch")?,
            lease,
            attempt_id: pop.attempt_id,
            client: required(ClientId::parse(&pop.client), "the client")?,
            dead_letters: pop.dead_letters.map(TryInto::try_into).transpose()?,
            order: if pop.ordered { DeliveryOrder::Fifo } else { DeliveryOrder::Concurrent },
            priority: pop.priority_factor.map(priority).transpose()?,
            lite: pop.lite,
        })
    }
}

impl From<&DeadLetters> for v1::DeadLetters {
    fn from(dead: &DeadLetters) -> Self {
        Self { max_attempts: dead.max_attempts, topic: Some((&dead.topic).into()), queue: dead.queue.0.into() }
    }
}

impl TryFrom<v1::DeadLetters> for DeadLetters {
    type Error = Malformed;

    fn try_from(dead: v1::DeadLetters) -> Result<Self, Malformed> {
        Ok(Self {
            max_attempts: dead.max_attempts,
            topic: required(dead.topic, "the topic of dead letters")?.try_into()?,
            queue: QueueId(narrow(dead.queue, "the queue of dead letters")?),
        })
    }
}

impl From<&Delivery> for v1::Delivery {
    fn from(delivery: &Delivery) -> Self {
        Self {
            key: Some(delivery.key.into()),
            attempt: delivery.attempt.0,
            stored_at_ms: delivery.stored_at.0,
            invisible_ms: delivery.invisible.as_millis(),
            message: Some((&delivery.message).into()),
        }
    }
}

impl TryFrom<v1::Delivery> for Delivery {
    type Error = Malformed;

    fn try_from(delivery: v1::Delivery) -> Result<Self, Malformed> {
        Ok(Self {
            key: required(delivery.key, "the key of a delivery")?.try_into()?,
            attempt: DeliveryAttempt(delivery.attempt),
            stored_at: Timestamp(delivery.stored_at_ms),
            invisible: InvisibleDuration::from_millis(delivery.invisible_ms),
            message: required(delivery.message, "the message")?.into(),
        })
    }
}

impl From<DeliveryKey> for v1::DeliveryKey {
    fn from(key: DeliveryKey) -> Self {
        Self {
            epoch: key.epoch.0,
            group: key.group.0,
            topic: key.topic.0,
            queue: key.queue.0.into(),
            offset: key.offset.0,
            delivery: key.delivery.0,
        }
    }
}

impl TryFrom<v1::DeliveryKey> for DeliveryKey {
    type Error = Malformed;

    fn try_from(key: v1::DeliveryKey) -> Result<Self, Malformed> {
        Ok(Self {
            epoch: Epoch(key.epoch),
            group: GroupId(key.group),
            topic: TopicId(key.topic),
            queue: QueueId(narrow(key.queue, "the queue of a delivery")?),
            offset: QueueOffset(key.offset),
            delivery: DeliverySeq(key.delivery),
        })
    }
}

impl v1::DeliveryKeys {
    pub fn of(keys: &[DeliveryKey]) -> Self {
        Self { keys: keys.iter().map(|key| (*key).into()).collect() }
    }

    /// What [`v1::DeliveryKeys::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] for a queue that cannot be.
    pub fn into_keys(self) -> Result<Vec<DeliveryKey>, Malformed> {
        self.keys.into_iter().map(TryInto::try_into).collect()
    }
}

impl v1::SettleAsk {
    pub fn of(key: DeliveryKey, what: &Settlement) -> Self {
        let ask = Self { key: Some(key.into()), ..Self::default() };
        match what {
            Settlement::Ack => ask,
            Settlement::Change(invisible) => Self { change_ms: Some(invisible.as_millis()), ..ask },
            Settlement::Suspend(invisible) => Self { change_ms: Some(invisible.as_millis()), suspend: true, ..ask },
            Settlement::Rest { asked, rests } => {
                Self { change_ms: Some(asked.as_millis()), rests_ms: rests.as_millis().collect(), ..ask }
            }
            Settlement::DeadLetter(dead) => Self { dead_letters: Some(dead.into()), ..ask },
        }
    }

    /// What [`v1::SettleAsk::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] names the part.
    pub fn into_settlement(self) -> Result<(DeliveryKey, Settlement), Malformed> {
        let key = required(self.key, "the key of a delivery")?.try_into()?;
        let what = match self.change_ms {
            None => match self.dead_letters {
                None => Settlement::Ack,
                Some(dead) => Settlement::DeadLetter(dead.try_into()?),
            },
            Some(millis) if self.suspend => Settlement::Suspend(invisible(millis)?),
            Some(millis) if self.rests_ms.is_empty() => Settlement::Change(invisible(millis)?),
            Some(millis) => Settlement::Rest { asked: invisible(millis)?, rests: Rests::from_millis(self.rests_ms) },
        };
        Ok((key, what))
    }
}

impl From<Settled> for v1::Settled {
    fn from(settled: Settled) -> Self {
        Self { done: settled == Settled::Done }
    }
}

impl From<v1::Settled> for Settled {
    fn from(settled: v1::Settled) -> Self {
        if settled.done { Self::Done } else { Self::Stale }
    }
}

fn priority(percent: u32) -> Result<PriorityFactor, Malformed> {
    PriorityFactor::new(percent).map_err(|_| Malformed { what: "the priority factor" })
}

/// A duration somebody asks for.
fn invisible(millis: u64) -> Result<InvisibleDuration, Malformed> {
    InvisibleDuration::for_change(Duration::from_millis(millis))
        .map_err(|_| Malformed { what: "the invisible duration" })
}
