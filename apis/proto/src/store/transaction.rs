//! Transactions: how they end, what producers are asked, and what operators see.

use std::collections::BTreeSet;

use apogee_model::store::{CheckBack, Checked, EndTransaction, HalfId, OpenTransaction, Resolution, TransactionEnded};
use apogee_model::{QueueId, Timestamp, TopicId};

use super::{Malformed, narrow, required, v1};
use v1::transaction_ended::Outcome;

impl v1::ProducersAsk {
    pub fn of(topics: &BTreeSet<TopicId>) -> Self {
        Self { topics: topics.iter().map(|topic| topic.0).collect() }
    }

    pub fn into_topics(self) -> BTreeSet<TopicId> {
        self.topics.into_iter().map(TopicId).collect()
    }
}

impl From<EndTransaction> for v1::EndTransactionAsk {
    fn from(end: EndTransaction) -> Self {
        let resolution = match end.resolution {
            Resolution::Commit => v1::Resolution::Commit,
            Resolution::Rollback => v1::Resolution::Rollback,
        };
        Self { topic: end.topic.0, half: end.id.0, resolution: resolution.into() }
    }
}

impl TryFrom<v1::EndTransactionAsk> for EndTransaction {
    type Error = Malformed;

    fn try_from(ask: v1::EndTransactionAsk) -> Result<Self, Malformed> {
        let resolution = match ask.resolution() {
            v1::Resolution::Commit => Resolution::Commit,
            v1::Resolution::Rollback => Resolution::Rollback,
            v1::Resolution::Unspecified => return Err(Malformed { what: "how the transaction ends" }),
        };
        Ok(Self { topic: TopicId(ask.topic), id: HalfId(ask.half), resolution })
    }
}

impl From<TransactionEnded> for v1::TransactionEnded {
    fn from(ended: TransactionEnded) -> Self {
        let outcome = match ended {
            TransactionEnded::Done => Outcome::Done(v1::Done {}),
            TransactionEnded::Otherwise => Outcome::Otherwise(v1::Done {}),
            TransactionEnded::Unknown => Outcome::Unknown(v1::Done {}),
        };
        Self { outcome: Some(outcome) }
    }
}

impl TryFrom<v1::TransactionEnded> for TransactionEnded {
    type Error = Malformed;

    fn try_from(ended: v1::TransactionEnded) -> Result<Self, Malformed> {
        Ok(match required(ended.outcome, "what became of the transaction")? {
            Outcome::Done(_) => Self::Done,
            Outcome::Otherwise(_) => Self::Otherwise,
            Outcome::Unknown(_) => Self::Unknown,
        })
    }
}

impl From<&CheckBack> for v1::CheckBack {
    fn from(check: &CheckBack) -> Self {
        Self {
            topic: check.topic.0,
            queue: check.queue.0.into(),
            half: check.id.0,
            check: check.check,
            stored_at_ms: check.stored_at.0,
            message: Some((&check.message).into()),
        }
    }
}

impl TryFrom<v1::CheckBack> for CheckBack {
    type Error = Malformed;

    fn try_from(check: v1::CheckBack) -> Result<Self, Malformed> {
        Ok(Self {
            topic: TopicId(check.topic),
            queue: QueueId(narrow(check.queue, "the queue")?),
            id: HalfId(check.half),
            check: check.check,
            stored_at: Timestamp(check.stored_at_ms),
            message: required(check.message, "the message")?.into(),
        })
    }
}

impl v1::Checked {
    pub fn of(checks: &[Checked]) -> Self {
        let one = |it: &Checked| v1::CheckedOne { topic: it.topic.0, half: it.id.0, check: it.check };
        Self { checks: checks.iter().map(one).collect() }
    }

    pub fn into_checked(self) -> Vec<Checked> {
        let one = |it: v1::CheckedOne| Checked { topic: TopicId(it.topic), id: HalfId(it.half), check: it.check };
        self.checks.into_iter().map(one).collect()
    }
}

impl v1::Transactions {
    pub fn of(open: &[OpenTransaction]) -> Self {
        let one = |it: &OpenTransaction| v1::OpenTransaction {
            queue: it.queue.0.into(),
            half: it.id.0,
            checks: it.checks,
            parked: it.parked,
            stored_at_ms: it.stored_at.0,
            message: Some((&it.message).into()),
        };
        Self { transactions: open.iter().map(one).collect() }
    }

    /// What [`v1::Transactions::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] names the part.
    pub fn into_open(self) -> Result<Vec<OpenTransaction>, Malformed> {
        let one = |it: v1::OpenTransaction| {
            Ok(OpenTransaction {
                queue: QueueId(narrow(it.queue, "the queue")?),
                id: HalfId(it.half),
                checks: it.checks,
                parked: it.parked,
                stored_at: Timestamp(it.stored_at_ms),
                message: required(it.message, "the message")?.into(),
            })
        };
        self.transactions.into_iter().map(one).collect()
    }
}
