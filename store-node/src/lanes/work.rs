//! One request: what it asks of the engine, and the answer in a form that goes on the wire.

use std::time::Duration;

use apogee_engine::{Engine, Role};
use apogee_model::store::{
    Append, Checked, CommitOffset, Delivery, DeliveryKey, EndTransaction, Fetch, Fetched, Find, Found, GroupQueue,
    HalfId, LiteList, LiteSubscription, OpenTransaction, Pop, Popped, Recall, Reset, Seal, Settlement, StoreError,
    Trace,
};
use apogee_model::{ClientId, GroupId, TopicId};
use apogee_proto::Malformed;
use apogee_proto::store::v1::lane_answer::Result as Answered;
use apogee_proto::store::v1::lane_request::Ask;
use apogee_proto::store::v1::{
    Appended, Done, Finds, GroupStatus, LaneAnswer, LaneError, LiteStatuses, PoppedPart, QueueResets, TopicStatus,
    Traces, Transactions,
};
use tokio::time::timeout;

use super::outbox::Parcel;

/// Longest time any request may take; proxies give up much earlier.
const DEADLINE_MAX: Duration = Duration::from_secs(60);
/// Bytes of messages in one part of a popped batch, unless one message is larger.
const PART_MAX: usize = 128 << 10;
/// About what an answer without messages takes.
const SMALL: usize = 64;

/// A request in our words.
#[derive(Debug)]
pub(super) enum Request {
    Append(Vec<Append>),
    Pop(Pop),
    Settle(DeliveryKey, Settlement),
    Release(Vec<DeliveryKey>),
    Confirm(Vec<DeliveryKey>),
    Heard(Vec<(ClientId, Duration)>),
    HungUp(Vec<(ClientId, Duration)>),
    Lost(Vec<ClientId>),
    TopicStatus(TopicId),
    GroupStatus(GroupId),
    DropTopic(TopicId),
    DropGroup(GroupId),
    Reset(Reset),
    Fetch(Fetch),
    Find(Find),
    Trace(Trace),
    Seal(Seal),
    Recall(Recall),
    EndTransaction(EndTransaction),
    Checked(Vec<Checked>),
    Transactions { topic: TopicId, from: HalfId, max: usize },
    CommitOffset(CommitOffset),
    CommittedOffset(GroupQueue),
    LiteSubscribe(LiteSubscription),
    LiteList(LiteList),
}

/// What became of it.
pub(super) enum Outcome {
    Popped(Popped),
    Fetched(Fetched),
    Found(Vec<Found>),
    Transactions(Vec<OpenTransaction>),
    Other(Answered),
}

/// A finished request.
pub(super) struct Finished {
    pub(super) id: u64,
    pub(super) outcome: Result<Outcome, StoreError>,
    /// Bytes the request held.
    pub(super) weight: usize,
}

impl Request {
    /// Reads everything but watches and producers, which are the driver's.
    pub(super) fn read(ask: Ask) -> Result<Self, Malformed> {
        Ok(match ask {
            Ask::Append(ask) => Self::Append(ask.into_appends()?),
            Ask::Pop(ask) => Self::Pop(ask.try_into()?),
            Ask::Settle(ask) => {
                let (key, what) = ask.into_settlement()?;
                Self::Settle(key, what)
            }
            Ask::Release(keys) => Self::Release(keys.into_keys()?),
            Ask::Confirm(keys) => Self::Confirm(keys.into_keys()?),
            Ask::Heard(clients) => Self::Heard(clients.into_heard()),
            Ask::HungUp(clients) => Self::HungUp(clients.into_heard()),
            Ask::Lost(clients) => Self::Lost(clients.into_clients()),
            Ask::TopicStatus(topic) => Self::TopicStatus(TopicId(topic)),
            Ask::GroupStatus(group) => Self::GroupStatus(GroupId(group)),
            Ask::DropTopic(topic) => Self::DropTopic(TopicId(topic)),
            Ask::DropGroup(group) => Self::DropGroup(GroupId(group)),
            Ask::Reset(ask) => Self::Reset(ask.try_into()?),
            Ask::Fetch(ask) => Self::Fetch(ask.try_into()?),
            Ask::Find(ask) => Self::Find(ask.try_into()?),
            Ask::Trace(ask) => Self::Trace(ask.try_into()?),
            Ask::Seal(ask) => Self::Seal(ask.try_into()?),
            Ask::Recall(ask) => Self::Recall(ask.try_into()?),
            Ask::CommitOffset(ask) => Self::CommitOffset(ask.try_into()?),
            Ask::CommittedOffset(ask) => Self::CommittedOffset(ask.try_into()?),
            Ask::LiteSubscribe(ask) => Self::LiteSubscribe(ask.try_into()?),
            Ask::LiteList(ask) => Self::LiteList(ask.into()),
            Ask::EndTransaction(ask) => Self::EndTransaction(ask.try_into()?),
            Ask::Checked(checked) => Self::Checked(checked.into_checked()),
            Ask::Transactions(ask) => Self::Transactions {
                topic: TopicId(ask.topic),
                from: HalfId(ask.from),
                max: usize::try_from(ask.max).unwrap_or(usize::MAX),
            },
            Ask::Watch(_) | Ask::Unwatch(_) | Ask::Producers(_) => {
                return Err(Malformed { what: "the place of a watch" });
            }
        })
    }

    /// Bytes it holds while it is under way.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Append(appends) => appends.iter().map(|append| append.message.len()).sum(),
            _ => 0,
        }
    }

    /// Carries it out within `deadline_ms`, or not at all when that is over already. Dropped, a pop gives back what it
    /// was granted.
    pub(super) async fn carry_out(self, id: u64, deadline_ms: u32, engine: Engine, role: Role) -> Finished {
        let (weight, limit) = (self.weight(), Duration::from_millis(deadline_ms.into()).min(DEADLINE_MAX));
        let over = Err(StoreError::Timeout { waited: limit });
        let outcome =
            if limit.is_zero() { over } else { timeout(limit, self.ask(&engine, role)).await.unwrap_or(over) };
        Finished { id, outcome, weight }
    }

    /// Notes go to the leader or nowhere: a follower would drop them and nobody would know.
    fn check_role(&self, role: Role) -> Result<(), StoreError> {
        let note = matches!(
            self,
            Self::Release(_) | Self::Confirm(_) | Self::Heard(_) | Self::HungUp(_) | Self::Lost(_) | Self::Checked(_)
        );
        match role {
            Role::Follower { leader } if note => Err(StoreError::NotLeader { leader }),
            Role::Follower { .. } | Role::Leader { .. } => Ok(()),
        }
    }

    async fn ask(self, engine: &Engine, role: Role) -> Result<Outcome, StoreError> {
        self.check_role(role)?;
        Ok(match self {
            Self::Append(messages) if messages.is_empty() => Outcome::Other(Answered::Appended(Appended::of(&[]))),
            Self::Append(messages) => Outcome::Other(Answered::Appended(Appended::of(&engine.append(messages).await?))),
            Self::Pop(pop) => Outcome::Popped(engine.pop(pop).await?),
            Self::Settle(key, what) => Outcome::Other(Answered::Settled(engine.settle(key, what).await?.into())),
            Self::TopicStatus(topic) => {
                Outcome::Other(Answered::TopicStatus(TopicStatus::of(&engine.topic_status(topic).await?)))
            }
            Self::GroupStatus(group) => {
                Outcome::Other(Answered::GroupStatus(GroupStatus::of(&engine.group_status(group).await?)))
            }
            Self::DropTopic(topic) => {
                engine.drop_topic(topic).await?;
                DONE
            }
            Self::DropGroup(group) => {
                engine.drop_group(group).await?;
                DONE
            }
            Self::Reset(reset) => Outcome::Other(Answered::Reset(QueueResets::of(&engine.reset_offset(reset).await?))),
            Self::Seal(seal) => Outcome::Other(Answered::Sealed(engine.seal(seal).await?.into())),
            Self::Recall(recall) => Outcome::Other(Answered::Recalled(engine.recall(recall).await?.into())),
            Self::EndTransaction(end) => {
                Outcome::Other(Answered::TransactionEnded(engine.end_transaction(end).await?.into()))
            }
            Self::Transactions { topic, from, max } => {
                Outcome::Transactions(engine.transactions(topic, from, max).await?)
            }
            Self::Checked(checks) => {
                checks.into_iter().for_each(|checked| engine.checked(checked));
                DONE
            }
            Self::CommitOffset(commit) => {
                Outcome::Other(Answered::OffsetCommitted(engine.commit_offset(commit).await?.into()))
            }
            Self::CommittedOffset(of) => {
                Outcome::Other(Answered::CommittedOffset(engine.committed_offset(of).await?.into()))
            }
            Self::LiteSubscribe(subscription) => {
                Outcome::Other(Answered::LiteSubscribed(engine.lite_subscribe(subscription).await?.into()))
            }
            Self::LiteList(list) => {
                Outcome::Other(Answered::LiteList(LiteStatuses::of(&engine.lite_list(list).await?)))
            }
            Self::Fetch(fetch) => Outcome::Fetched(engine.fetch(fetch).await?),
            Self::Find(find) => Outcome::Found(engine.find(find).await?),
            Self::Trace(trace) => Outcome::Other(Answered::Traced(Traces::of(&engine.trace(trace).await?))),
            Self::Release(keys) => {
                engine.release(keys);
                DONE
            }
            Self::Confirm(keys) => {
                engine.confirm(keys);
                DONE
            }
            Self::Heard(clients) => {
                engine.heard(&clients);
                DONE
            }
            Self::HungUp(clients) => {
                engine.hung_up(&clients);
                DONE
            }
            Self::Lost(clients) => {
                clients.iter().for_each(|client| engine.lost(client));
                DONE
            }
        })
    }
}

const DONE: Outcome = Outcome::Other(Answered::Done(Done {}));

impl Finished {
    /// As it goes on the wire: one answer, or the parts of a batch.
    pub(super) fn into_answers(self) -> Vec<Parcel> {
        let id = self.id;
        match self.outcome {
            Ok(Outcome::Popped(popped)) => parts(id, popped),
            Ok(Outcome::Fetched(fetched)) => vec![whole(id, &fetched)],
            Ok(Outcome::Found(found)) => vec![seen(id, &found)],
            Ok(Outcome::Transactions(open)) => vec![listed(id, &open)],
            Ok(Outcome::Other(result)) => vec![small(id, result)],
            Err(error) => vec![refused(id, LaneError::from(&error))],
        }
    }
}

/// A request that was not carried out.
pub(super) fn refused(id: u64, error: LaneError) -> Parcel {
    small(id, Answered::Error(error))
}

fn small(id: u64, result: Answered) -> Parcel {
    Parcel { answer: LaneAnswer { id, result: Some(result) }, bytes: SMALL }
}

/// Messages that were fetched are not cut: there are not many bytes of them.
fn whole(id: u64, fetched: &Fetched) -> Parcel {
    let bytes: usize = fetched.messages.iter().map(|it| it.message.len() + SMALL).sum();
    Parcel { answer: LaneAnswer { id, result: Some(Answered::Fetched(fetched.into())) }, bytes: bytes + SMALL }
}

/// Neither are those of operators.
fn listed(id: u64, open: &[OpenTransaction]) -> Parcel {
    let bytes: usize = open.iter().map(|it| it.message.len() + SMALL).sum();
    let result = Answered::Transactions(Transactions::of(open));
    Parcel { answer: LaneAnswer { id, result: Some(result) }, bytes: bytes + SMALL }
}

/// Nor those that were looked for.
fn seen(id: u64, found: &[Found]) -> Parcel {
    let bytes: usize = found.iter().map(|it| it.message.len() + SMALL).sum();
    let result = Answered::Found(Finds::of(found));
    Parcel { answer: LaneAnswer { id, result: Some(result) }, bytes: bytes + SMALL }
}

/// Cuts a batch, so that no frame gets much larger than its largest message.
fn parts(id: u64, popped: Popped) -> Vec<Parcel> {
    let Popped { messages, more, unsettled, evicted } = popped;
    let unsettled = unsettled.map(|unsettled| u64::try_from(unsettled).unwrap_or(u64::MAX));
    let evicted: Vec<_> = evicted.into_iter().map(String::from).collect();
    let mut cut: Vec<(Vec<&Delivery>, usize)> = Vec::new();
    for delivery in &messages {
        let bytes = delivery.message.len() + SMALL;
        match cut.last_mut() {
            Some((part, size)) if *size + bytes <= PART_MAX => {
                part.push(delivery);
                *size += bytes;
            }
            _ => cut.push((vec![delivery], bytes)),
        }
    }
    if cut.is_empty() {
        cut.push((Vec::new(), 0));
    }
    let count = cut.len();
    let part = |(at, (deliveries, bytes)): (usize, (Vec<&Delivery>, usize))| {
        let last = at + 1 == count;
        let messages = deliveries.into_iter().map(Into::into).collect();
        let told = if last { (more, unsettled, evicted.clone()) } else { (false, None, Vec::new()) };
        let (more, unsettled, evicted) = told;
        let result = Answered::Popped(PoppedPart { messages, last, more, unsettled, evicted });
        Parcel { answer: LaneAnswer { id, result: Some(result) }, bytes: bytes + SMALL }
    };
    cut.into_iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use apogee_model::{
        DeliveryAttempt, DeliverySeq, Epoch, InvisibleDuration, QueueId, QueueOffset, StoredMessage, Timestamp,
    };
    use bytes::Bytes;

    use super::*;

    fn delivery(offset: u64, bytes: usize) -> Delivery {
        Delivery {
            key: DeliveryKey {
                epoch: Epoch(1),
                group: GroupId(1),
                topic: TopicId(1),
                queue: QueueId(0),
                offset: QueueOffset(offset),
                delivery: DeliverySeq(1),
            },
            attempt: DeliveryAttempt::FIRST,
            stored_at: Timestamp(1),
            invisible: InvisibleDuration::AUTO_RENEW,
            message: StoredMessage { body_part: Bytes::from(vec![0; bytes]), properties_part: Bytes::new() },
        }
    }

    /// (messages, last, more) of each part.
    fn cut(sizes: &[usize]) -> Vec<(usize, bool, bool)> {
        let messages = sizes.iter().zip(0..).map(|(bytes, offset)| delivery(offset, *bytes)).collect();
        let parts = parts(9, Popped { messages, more: true, ..Popped::default() });
        let shape = parts.into_iter().map(|parcel| match parcel.answer.result {
            Some(Answered::Popped(part)) => (part.messages.len(), part.last, part.more),
            other => panic!("{other:?} is no part of a batch"),
        });
        shape.collect()
    }

    #[test]
    fn a_large_batch_travels_in_parts() {
        assert_eq!(cut(&[]), [(0, true, true)]);
        assert_eq!(cut(&[10, 10]), [(2, true, true)]);
        assert_eq!(cut(&[10, PART_MAX, 10]), [(1, false, false), (1, false, false), (1, true, true)]);
    }
}
