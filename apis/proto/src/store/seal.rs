//! Letting topics with message groups have more queues.

use apogee_model::GroupId;
use apogee_model::store::{Seal, Sealed};

use super::{Malformed, required, v1};

impl From<&Seal> for v1::SealAsk {
    fn from(seal: &Seal) -> Self {
        let groups = seal.groups.iter().map(|group| group.0).collect();
        Self { topic: Some((&seal.topic).into()), epoch: seal.epoch, groups }
    }
}

impl TryFrom<v1::SealAsk> for Seal {
    type Error = Malformed;

    fn try_from(ask: v1::SealAsk) -> Result<Self, Malformed> {
        let topic = required(ask.topic, "the topic")?.try_into()?;
        Ok(Self { topic, epoch: ask.epoch, groups: ask.groups.into_iter().map(GroupId).collect() })
    }
}

impl From<Sealed> for v1::Sealed {
    fn from(sealed: Sealed) -> Self {
        Self { drained: sealed.drained }
    }
}

impl From<v1::Sealed> for Sealed {
    fn from(sealed: v1::Sealed) -> Self {
        Self { drained: sealed.drained }
    }
}
