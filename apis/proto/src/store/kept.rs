//! Messages that wait for their time.

use apogee_model::store::{KeptId, Recall, Recalled};
use apogee_model::{Timestamp, TopicId};

use super::{Malformed, required, v1};

impl From<KeptId> for v1::KeptId {
    fn from(id: KeptId) -> Self {
        Self { due_ms: id.due.0, number: id.number }
    }
}

impl From<v1::KeptId> for KeptId {
    fn from(id: v1::KeptId) -> Self {
        Self { due: Timestamp(id.due_ms), number: id.number }
    }
}

impl From<Recall> for v1::RecallAsk {
    fn from(recall: Recall) -> Self {
        Self { topic: recall.topic.0, id: Some(recall.id.into()) }
    }
}

impl TryFrom<v1::RecallAsk> for Recall {
    type Error = Malformed;

    fn try_from(ask: v1::RecallAsk) -> Result<Self, Malformed> {
        Ok(Self { topic: TopicId(ask.topic), id: required(ask.id, "what to recall")?.into() })
    }
}

impl From<Recalled> for v1::Recalled {
    fn from(recalled: Recalled) -> Self {
        Self { done: recalled == Recalled::Done }
    }
}

impl From<v1::Recalled> for Recalled {
    fn from(recalled: v1::Recalled) -> Self {
        if recalled.done { Self::Done } else { Self::TooLate }
    }
}
